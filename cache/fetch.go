package cache

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"runtime/debug"
	"slices"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
)

// newFlight makes the flight that fetches for q. It is not under way until
// run is called.
func (t *Transport) newFlight(q *query, e *entry, validate bool) *flight {
	f := &flight{
		t: t, key: q.key, view: q.view, dir: q.dir, base: e, ask: validate && e.rec.hasValidator(),
		hop: q.hop.Fork(), open: q.opens, tooFew: q.tooFew, limit: q.maxStored(int64(t.cfg.MaxObject)),
		mark:    t.cache.purges.begin(q.req.URL),
		interim: make(chan interim), leaderGone: make(chan struct{}), ready: make(chan struct{}),
		refs: 1, waiting: 1,
	}
	if q.part != nil && q.opens && q.part.mayComplete(f.limit, time.Now()) &&
		!t.cache.purges.judge(&q.part.rec.mark, q.key, q.req.URL).gone {
		f.part = q.part
	}
	// Nothing of the leader's context goes along but its permission: its end
	// is not the fetch's, and its trace writes to its client.
	ctx, cancel := context.WithCancel(hop.With(context.Background(), f.hop))
	f.cancel = cancel
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: f.got1xx})
	f.req = q.req.WithContext(ctx)
	f.req.Header = q.req.Header.Clone()
	f.req.Body, f.req.ContentLength, f.req.GetBody = nil, 0, nil
	return f
}

// got1xx hands a 1xx response to the leader and waits until it has taken it.
func (f *flight) got1xx(code int, h textproto.MIMEHeader) error {
	i := interim{code: code, header: h, ack: make(chan error, 1)}
	select {
	case f.interim <- i:
	case <-f.leaderGone:
		return nil
	}
	select {
	case err := <-i.ack:
		return err
	case <-f.leaderGone:
		return nil
	}
}

// run fetches, publishes what comes, and stores it. The leader's context
// bounds the leader's reading, nothing else.
func (f *flight) run(leader context.Context) {
	defer f.end()
	defer f.recovered(leader)
	h := f.req.Header
	if f.ask {
		h = conditionalHeader(h, f.base.rec)
	}
	requested := time.Now()
	var res *http.Response
	var err error
	if f.part != nil {
		res, err = f.sendForRest()
	} else {
		res, err = f.send(h)
	}
	if err == nil && res.StatusCode == http.StatusNotModified {
		switch {
		case f.ask && confirms(res.Header, f.base.rec):
			res.Body.Close()
			f.land(f.confirmed(res, requested), nil, true, leader)
			return
		case f.ask:
			// It is about something that is not stored: ask again without condition.
			res.Body.Close()
			h = f.req.Header.Clone()
			delete(h, "If-None-Match")
			delete(h, "If-Modified-Since")
			requested = time.Now()
			res, err = f.send(h)
		}
		if err == nil && res.StatusCode == http.StatusNotModified && !hasConditions(h) {
			res.Body.Close()
			err = fault.New(fault.ProtocolError, "the next hop says that nothing was modified, which nobody asked", nil)
		}
	}
	if err != nil {
		f.land(&landing{kind: failed, err: err}, nil, false, leader)
		return
	}
	f.response(res, requested, leader)
}

// recovered keeps a panic of the next hop's code from ending the process: this
// goroutine is nobody's handler.
func (f *flight) recovered(leader context.Context) {
	p := recover()
	if p == nil {
		return
	}
	err := fault.New(fault.InternalError, "the proxy could not handle the request", fmt.Errorf("panic in a fetch: %v\n%s", p, debug.Stack()))
	f.mu.Lock()
	out := f.out
	f.mu.Unlock()
	if out == nil {
		f.land(&landing{kind: failed, err: err}, nil, false, leader)
	} else if out.fill != nil {
		_ = out.fill.finish(err)
	}
}

func (f *flight) send(h http.Header) (*http.Response, error) {
	req := f.req.WithContext(f.req.Context())
	req.Header = h
	res, err := f.t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if res.Body == nil {
		res.Body = http.NoBody
	}
	addDate(res.Header, time.Now())
	return res, nil
}

// addDate adds the time of arrival where the origin sent no Date (RFC 9110,
// Section 6.6.1).
func addDate(h http.Header, now time.Time) {
	if len(h["Date"]) == 0 {
		h["Date"] = []string{now.UTC().Format(http.TimeFormat)}
	}
}

// response takes a response that is not about what is stored already.
func (f *flight) response(res *http.Response, requested time.Time, leader context.Context) {
	now := time.Now()
	if f.base != nil && serverError(res.StatusCode) && mayServeStale(f.dir, f.base.rec, true, now) {
		res.Body.Close()
		f.land(&landing{kind: faulted, answered: res.StatusCode}, nil, true, leader)
		return
	}
	addr, _ := f.hop.Answered()
	came, h, plain := arriving(f.req, res)
	status := res.StatusCode
	if came.ranged {
		status = http.StatusOK // that the whole would have (RFC 9110, Section 15.3.7.3)
	}
	rec, d := newRecord(f.view, f.req.Header, status, h, requested, now, addr)
	rec.mark = rec.mark.fetched(f.mark)
	refusal := storable(f.view, f.req.Method, f.dir, rec, h, d)
	switch {
	case refusal != "":
	case !plain:
		refusal = StatusNever
	case f.tooFew:
		refusal = TooFewUses
	case len(res.Trailer) > 0:
		refusal = HasTrailers
	case came.n > f.limit:
		refusal = TooLarge
	}
	if refusal != "" {
		f.supersede(res, rec, refusal, requested, now)
		f.land(&landing{kind: direct, res: res, refusal: refusal, answered: res.StatusCode}, nil, false, leader)
		return
	}

	names, _ := varyNames(res.Header)
	usable := !came.ranged && judge(plainRequest, rec, true, now).Action == Serve
	body := newFill(max(res.ContentLength, -1), f.limit, f.t.cfg.arriving(), &f.t.cache.filling)
	if tiers := f.t.cache.tiers; tiers != nil {
		body.spillTo(f.t.cfg.inMemory(), tiers.Create)
	}
	// From its landing on the response is the leader's, who puts a reader of the
	// fill in the place of its body.
	from := res.Body
	defer from.Close()
	if !came.ranged && came.framed && isStrong(first(h, "Etag")) {
		h = maps.Clone(h) // for the part that is stored if it breaks off
	}
	f.land(&landing{kind: shared, res: res, rec: rec, fill: body, answered: res.StatusCode}, names, usable, leader)
	_ = body.from(from, func(body content, err error) { // readers get the error
		f.keepWhat(came, rec, h, names, body, err)
	})
}

// supersede drops what is stored when a response that is not stored itself
// shows that it is out of date. A 200 to HEAD may as well confirm it (RFC
// 9111, Section 4.3.5).
func (f *flight) supersede(res *http.Response, rec *record, why Refusal, requested, now time.Time) {
	if f.base == nil {
		return
	}
	if f.req.Method != http.MethodHead {
		// Any other error may be about this client alone.
		if (res.StatusCode < 400 && res.StatusCode != http.StatusNotModified || res.StatusCode == http.StatusNotFound || res.StatusCode == http.StatusGone) && !why.aboutRequest() {
			f.t.cache.drop(f, f.base)
		}
		return
	}
	if res.StatusCode != http.StatusOK || f.base.rec.status != http.StatusOK || f.dir.noStore {
		return
	}
	if !matchesHead(res.Header, f.base.rec, f.base.obj.Size) {
		f.t.cache.drop(f, f.base)
		return
	}
	f.update(res.Header, requested, now)
}

// confirmed returns the landing of a 304 about base.
func (f *flight) confirmed(res *http.Response, requested time.Time) *landing {
	rec := f.update(res.Header, requested, time.Now())
	e := &entry{key: f.base.key, obj: f.base.obj, rec: rec, parts: f.base.parts}
	return &landing{kind: unchanged, entry: e, setCookie: res.Header["Set-Cookie"], answered: http.StatusNotModified}
}

// update freshens base with the header of a 304, or of a 200 to HEAD, and
// returns the new record. What may not be stored any more is dropped.
func (f *flight) update(h http.Header, requested, now time.Time) *record {
	rec, refusal := freshen(f.view, f.req.Header, f.dir, f.base.rec, h, requested, now)
	rec.mark = rec.mark.fetched(f.mark)
	switch {
	case refusal == "" && sameNames(rec.header, f.base.rec.header):
		f.t.cache.renew(f, f.base, rec)
	case !refusal.aboutRequest():
		f.t.cache.drop(f, f.base)
	}
	return rec
}

// aboutRequest reports whether the refusal is for this one request's sake and
// says nothing about what others may be given.
func (r Refusal) aboutRequest() bool {
	return slices.Contains([]Refusal{RequestNoStore, Authorized, CookieHeuristic}, r)
}

// serverError reports whether the status is one in place of which a stale
// response may be served (RFC 5861, Section 4).
func serverError(status int) bool {
	switch status {
	case 500, 502, 503, 504:
		return true
	}
	return false
}

// directBody is a body that only the leader reads.
type directBody struct {
	io.ReadCloser
	f       *flight
	unwatch func() bool
	closed  bool
}

func (f *flight) directBody(ctx context.Context, body io.ReadCloser) io.ReadCloser {
	return &directBody{ReadCloser: body, f: f, unwatch: context.AfterFunc(ctx, f.cancel)}
}

func (b *directBody) Close() error {
	err := b.ReadCloser.Close()
	if !b.closed {
		b.closed = true
		b.unwatch()
		b.f.leave()
	}
	return err
}
