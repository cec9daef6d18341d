package cache

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
)

// RoundTrip answers the request from the store, or from the next hop. The URL
// has to be absolute and in canonical form, and the context has to carry a
// hop.Hop whose Permit is asked before anything stored is reused. The errors
// are those of the next hop and of Permit as they are, a *fault.Error for an
// only-if-cached that cannot be answered (RFC 9111, Section 5.2.1.7), and the
// context's.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	q := &query{req: req, ctx: req.Context(), hop: hop.From(req.Context()), view: t.view(req.URL)}
	post := req.Method == http.MethodPost
	switch {
	case !post && req.Method != http.MethodGet && req.Method != http.MethodHead:
		return t.pass(req, status{fwd: "method"})
	case t.cfg.off() || q.hop == nil || q.hop.Permit == nil:
		return t.pass(req, status{fwd: "bypass"})
	}
	q.dir = parseRequest(req.Header)
	q.setKey()
	switch {
	case post && q.postMayAnswer():
		return t.post(q)
	case post:
		return t.pass(req, status{fwd: "method"})
	case !q.bypass() && !bypasses(req):
	case q.dir.onlyIfCached:
		return nil, t.notCached(q)
	case q.hop.Bypass != "":
		return t.pass(req, status{fwd: "bypass", detail: q.hop.Bypass})
	case q.view.bypass():
		return t.pass(req, status{fwd: "bypass", detail: "rule " + q.view.rule.Name})
	default:
		return t.pass(req, status{fwd: "bypass"})
	}
	for {
		q.tries++
		res, again, err := t.try(q)
		if !again {
			return res, err
		}
	}
}

// bypasses reports whether the request is one that the store neither answers
// nor remembers: with a body, which no key covers, or with a condition that
// only the origin can judge (RFC 9110, Sections 13.1.1 and 13.1.4).
func bypasses(req *http.Request) bool {
	return (req.Body != nil && req.Body != http.NoBody) || req.ContentLength != 0 ||
		len(req.Header["If-Match"]) > 0 || len(req.Header["If-Unmodified-Since"]) > 0
}

// pass sends the request on, and invalidates what an unsafe one changes (RFC
// 9111, Section 4.4).
func (t *Transport) pass(req *http.Request, st status) (*http.Response, error) {
	status := st.String(t.name)
	report(req.Context(), "", status)
	res, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if !t.cfg.off() {
		t.invalidate(req, res, nil)
	}
	addDate(res.Header, time.Now())
	t.sign(res.Header, status)
	return res, nil
}

// maxTries bounds how often a request looks again after something vanished or
// turned out not to be for it; then it fetches alone.
const maxTries = 4

// try answers the query once. It says again when what it saw in the store, or
// hoped for from another's fetch, turned out not to be there.
func (t *Transport) try(q *query) (res *http.Response, again bool, err error) {
	now := time.Now()
	fd := t.lookup(q, now)
	if fd.ruling.purged() {
		t.cache.purges.refused[fd.ruling.by].Add(1)
	}
	if fd.lost != nil {
		t.cache.discard(q.key, fd.lost)
	}
	hit := status{hit: true}
	if fd.entry == nil {
		if fd.entry = t.equivalent(q, now); fd.entry != nil {
			hit.detail = "no-vary-search"
		}
	}
	var rec *record
	if fd.entry != nil {
		rec = fd.entry.rec
	}
	dec := decide(q.dir, rec, fd.known, now)
	if q.part = nil; fd.entry != nil && !fd.entry.serves(q.req.Method, q.req.Header) {
		dec = partOnly(q.dir)
		if hit.detail == "" && q.hop.Permit(rec.addr) == nil {
			q.part = fd.entry
		}
		fd.entry = nil
	}
	switch dec.Action {
	case Fail:
		return nil, false, t.notCached(q)
	case Serve:
		if err := q.hop.Permit(rec.addr); err != nil && q.view.rule.sharesHosts() {
			// It came from another host's address; this one may have its own.
			fd.entry, dec = nil, Decision{Reason: NothingStored}
			break
		} else if err != nil {
			return nil, false, err
		}
		q.hop.Used(rec.addr, "NONE")
		hit.ttl, hit.hasTTL = rec.ttl(now), true
		res, err = t.fromStore(q, fd.entry, Hit, q.status(hit, rec, now), now)
		if err == nil {
			if dec.Refresh {
				t.refresh(q, fd.entry)
			}
			return res, false, nil
		}
		if q.tries < maxTries {
			return nil, true, nil // it has just been lost
		}
		fd.entry, dec = nil, Decision{Reason: NothingStored}
	}
	// What this request may not have is no base for its fetch.
	if fd.entry != nil && q.hop.Permit(rec.addr) != nil {
		fd.entry, dec = nil, Decision{Reason: dec.Reason}
	}
	return t.fetch(q, fd, dec)
}

// fetch asks the next hop, together with others that want the same.
func (t *Transport) fetch(q *query, fd found, dec Decision) (res *http.Response, again bool, err error) {
	t.collapsing(q, fd)
	if q.view.rule != nil && q.view.rule.MinUses > 1 && fd.entry == nil && !q.counted {
		q.counted, q.tooFew = true, t.cache.uses.add(q.key, time.Now()) < q.view.rule.MinUses
	}
	if q.tooFew {
		q.opens, q.joins = false, false // there will be nothing to share
	}
	f, lead := t.cache.join(q, fd.names, func() *flight { return t.newFlight(q, fd.entry, dec.Action == Validate) })
	if lead {
		go f.run(q.ctx)
		return t.lead(q, f, dec)
	}
	return t.follow(q, f, fd.entry, dec)
}

// collapsing says whether the query may share a fetch. A private answer is
// never shared whoever asks; this is about who had better not wait.
func (t *Transport) collapsing(q *query, fd found) {
	h := q.req.Header
	if q.until.IsZero() {
		q.until = time.Now().Add(t.cfg.CollapseTimeout.D())
	}
	shares := len(h["Authorization"]) == 0 && !q.dir.noStore && !fd.alone && (fd.entry == nil || !fd.entry.rec.noCache)
	q.opens = shares && q.req.Method == http.MethodGet && len(h["Range"]) == 0 && (fd.entry != nil || !hasConditions(h))
	q.joins = shares && !q.dir.noCache && q.tries < maxTries && time.Until(q.until) > 0
}

// lead waits for the head of the query's own fetch and passes 1xx responses on.
func (t *Transport) lead(q *query, f *flight, dec Decision) (res *http.Response, again bool, err error) {
	trace := httptrace.ContextClientTrace(q.ctx)
	for done := false; !done; {
		select {
		case i := <-f.interim:
			var err error
			if trace != nil && trace.Got1xxResponse != nil {
				err = trace.Got1xxResponse(i.code, i.header)
			}
			i.ack <- err
		case <-f.ready:
			done = true
		case <-q.ctx.Done():
			f.leaderLeaves()
			return nil, false, q.ctx.Err()
		}
	}
	out := f.out
	if out.hopName != "" || out.addr.IsValid() {
		q.hop.Used(out.addr, out.hopName)
	}
	st := status{fwd: fwdReason(dec.Reason)}
	result := Miss
	switch {
	case dec.Reason == RequestNoCache:
		result = ClientRefresh
	case f.base != nil:
		result = RefreshModified
	}
	switch out.kind {
	case failed, faulted:
		f.leave()
		return t.instead(q, f.base, out, st, result)
	case unchanged:
		f.leave()
		return t.validated(q, out, st)
	case shared:
		st.stored = true
		st = q.status(st, out.rec, time.Now())
		if f.base != nil && out.fill.size >= 0 && notModified(q.req.Header, out.rec) {
			// The client holds the new one already, the store wants it still.
			f.keep()
			out.reader.Close()
			st.fwdStatus = out.answered
			return t.reply(q, http.StatusNotModified, notModifiedHeader(out.rec.header), http.NoBody, -1, result, st), false, nil
		}
		out.res.Body = out.reader
	case direct:
		out.res.Body = f.directBody(q.ctx, out.res.Body)
	}
	text := st.String(t.name)
	report(q.ctx, result, text)
	out.res.Request = q.req
	t.sign(out.res.Header, text)
	return out.res, false, nil
}

// follow waits for another's fetch, and takes what it brings if this query
// may have it; else it goes on alone.
func (t *Transport) follow(q *query, f *flight, e *entry, dec Decision) (res *http.Response, again bool, err error) {
	timer := time.NewTimer(time.Until(q.until))
	defer timer.Stop()
	select {
	case <-f.ready:
	case <-timer.C:
		f.leave()
		return nil, true, nil
	case <-q.ctx.Done():
		f.leave()
		return nil, false, q.ctx.Err()
	}
	out, now := f.out, time.Now()
	st := status{fwd: fwdReason(dec.Reason), collapsed: true}
	switch out.kind {
	case failed, faulted:
		f.leave()
		// An error of policy may be about the leader alone.
		if (out.kind == failed && ofNextHop(out.err)) || (out.kind == faulted && mayServeStale(q.dir, recordOf(e), true, now)) {
			return t.instead(q, e, out, st, Miss)
		}
	case shared:
		if !f.answers(q, f.names) {
			f.leave()
			return nil, true, nil // another may be fetching its variant
		}
		if f.view.print != q.view.print || decide(q.dir, out.rec, true, now).Action != Serve {
			f.leave()
			break
		}
		return t.share(q, f, q.status(st, out.rec, now), now)
	case unchanged:
		f.leave()
		return nil, true, nil
	case direct:
		f.leave()
	}
	q.tries = maxTries // alone from here on
	return nil, true, nil
}

// instead answers where the next hop gave nothing that could be used: with
// what is stored, if it may be served stale, else with the error.
func (t *Transport) instead(q *query, e *entry, out *landing, st status, result Result) (*http.Response, bool, error) {
	now := time.Now()
	faulty := out.kind == faulted
	if (faulty || ofNextHop(out.err)) && mayServeStale(q.dir, recordOf(e), faulty, now) && !t.cache.purges.judge(&e.rec.mark, q.key, q.req.URL).gone {
		st.detail, st.fwdStatus = "stale-if-error", out.answered
		st.ttl, st.hasTTL = e.rec.ttl(now), true
		st = q.status(st, e.rec, now)
		res, err := t.fromStore(q, e, RefreshFailOld, st, now)
		if err == nil {
			q.hop.Used(e.rec.addr, "NONE")
			return res, false, nil
		}
	}
	if faulty {
		return nil, true, nil // what was to stand in is gone: the error is asked for again
	}
	report(q.ctx, result, st.String(t.name))
	return nil, false, out.err
}

// validated answers with what the next hop has just confirmed.
func (t *Transport) validated(q *query, out *landing, st status) (*http.Response, bool, error) {
	now := time.Now()
	st.fwdStatus = out.answered
	st.ttl, st.hasTTL = out.entry.rec.ttl(now), true
	st = q.status(st, out.entry.rec, now)
	if len(out.setCookie) > 0 {
		// It was set in the answer to this request; nobody else is given it.
		out.entry.rec.header["Set-Cookie"] = out.setCookie
	}
	res, err := t.fromStore(q, out.entry, RefreshUnchanged, st, now)
	return res, err != nil, nil
}

// refresh validates in the background what was just served stale (RFC 5861,
// Section 3), unless someone is at it already.
func (t *Transport) refresh(q *query, e *entry) {
	if len(q.req.Header["Authorization"]) > 0 || q.dir.noStore {
		return
	}
	req := wholeRequest(q.req)
	t.inBackground(&query{req: req, ctx: q.ctx, hop: q.hop, key: q.key, view: q.view, dir: q.dir, opens: true, joins: true}, e, int64(t.cfg.MaxObject))
}

// inBackground begins a fetch that nobody waits for and that stores up to limit
// bytes, unless one like it is under way.
func (t *Transport) inBackground(bg *query, e *entry, limit int64) {
	f, lead := t.cache.join(bg, nil, func() *flight {
		f := t.newFlight(bg, e, e != nil)
		f.limit = bg.maxStored(limit)
		f.kept, f.noLeader, f.refs, f.waiting = true, true, 0, 0
		close(f.leaderGone)
		return f
	})
	if !lead {
		f.leave()
		return
	}
	go f.run(context.Background())
}

func recordOf(e *entry) *record {
	if e == nil {
		return nil
	}
	return e.rec
}

// ofNextHop reports whether the error tells that the next hop could not be
// reached or did not answer as it should, and nothing about the request.
func ofNextHop(err error) bool {
	switch fault.From(err).Kind {
	case fault.DNSTimeout, fault.DNSError, fault.DestinationNotFound, fault.DestinationUnavailable, fault.DestinationIPUnroutable,
		fault.ConnectionRefused, fault.ConnectionTerminated, fault.ConnectionTimeout, fault.ConnectionReadTimeout,
		fault.ConnectionWriteTimeout, fault.ConnectionLimitReached, fault.ResponseIncomplete, fault.ResponseTimeout:
		return true
	}
	return false
}
