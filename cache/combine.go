package cache

import (
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"fwdproxy/cache/store"
)

// fillShare is how many times what is stored of a body its whole may be, for
// ranges alone to have the rest of it fetched: what a client can make the proxy
// spend on top of what it asked for.
const fillShare = 16

// arrival is a response that is or may become a part of a representation.
type arrival struct {
	span         // of the representation
	total  int64 // of the representation, -1 when not known
	framed bool  // Content-Length says where it ends
	ranged bool  // it is a 206
}

// arriving says what a response to f brings, and with what header it is that of
// the representation; false for a 206 that is not one plain range.
func arriving(req *http.Request, res *http.Response) (a arrival, h http.Header, ok bool) {
	if res.StatusCode != http.StatusPartialContent {
		n := max(res.ContentLength, -1)
		return arrival{span: span{0, n}, total: n, framed: n >= 0}, res.Header, true
	}
	s, total, ok := parseContentRange(res.Header["Content-Range"])
	if !ok || req.Method != http.MethodGet || len(req.Header["Range"]) != 1 || res.ContentLength > s.n ||
		strings.HasPrefix(strings.ToLower(first(res.Header, "Content-Type")), "multipart/byteranges") {
		return arrival{}, res.Header, false
	}
	h = res.Header.Clone()
	delete(h, "Content-Range")
	return arrival{span: s, total: total, framed: res.ContentLength >= 0, ranged: true}, h, true
}

// keepWhat stores what came of a response: the whole, or a part.
func (f *flight) keepWhat(a arrival, r *record, h http.Header, names []string, body content, err error) {
	c := f.t.cache
	if err == io.EOF && !a.ranged {
		if c.commit(f, r, names, body) == "" {
			c.remember(f, r)
		}
		return
	}
	n, short := body.size, int64(0)
	switch {
	case n == 0 || n > a.n:
		return
	case err == io.EOF && n < a.n && a.framed:
		short = a.n
	case err == io.EOF && n < a.n:
		return
	case err != io.EOF && (!a.framed || errors.Is(err, errTooLong) || r.status != http.StatusOK || !isStrong(first(r.header, "Etag"))):
		return // RFC 9111, Section 3.3: it could never be completed
	}
	e, refusal := c.commitPart(f, r, names, h, arrival{span: span{a.off, n}, total: a.total}, short, body)
	if refusal == "" && a.ranged && err == io.EOF {
		f.fetchRest(e)
	}
}

// commitPart stores a part beside what it can be combined with, or in its
// place (RFC 9111, Section 3.4). It returns what is stored then, nil when that
// is the whole already.
func (c *Cache) commitPart(f *flight, r *record, names []string, h http.Header, a arrival, short int64, body content) (*entry, Refusal) {
	var out *entry
	refusal := c.place(f, &r.mark, names, func(key store.Key) Refusal {
		s := a.span
		if old := c.entry(key); old != nil && old.parts != nil && short == 0 && body.spool == nil && old.fits(r, s, a.total) {
			s, body.segs = c.withNeighbour(old, s, body.segs)
		}
		p := piece{span: s}
		_, _ = rand.Read(p.id[:]) // it never fails
		if c.put(p.key(), p.id[:], body) != nil {
			return StoreUnavailable
		}
		b := c.book(f.key)
		b.mu.Lock()
		defer b.mu.Unlock()
		e, gone, refusal := c.combined(f, c.entry(key), r, h, p, a.total, short)
		if e != nil {
			e.key = key
			head := e.encode(e.rec)
			if len(head) > store.MaxHead {
				refusal = HeadTooLarge
			} else if c.store.Put(key, head, nil) != nil {
				refusal = StoreUnavailable
			}
			if refusal != "" {
				c.store.Delete(key)
			}
		}
		c.discardPieces(gone)
		out = e
		return refusal
	})
	return out, refusal
}

// combined returns what is to be stored when a piece p with the record r came
// to old, and the pieces that nothing needs then; nil when old stays as it is.
func (c *Cache) combined(f *flight, old *entry, r *record, h http.Header, p piece, total, short int64) (*entry, []piece, Refusal) {
	e := &entry{rec: r, parts: &parts{total: total, short: short}}
	var gone []piece
	switch {
	case old == nil:
	case old.rec.mark.after(r.mark):
		return nil, []piece{p}, OlderThanStored
	case old.parts != nil && c.purges.judge(&old.rec.mark, f.key, f.req.URL).gone:
		gone = old.parts.pieces
	case short == 0 && old.fits(r, p.span, total):
		if old.parts == nil {
			return nil, []piece{p}, "" // the whole is there
		}
		e.parts = old.parts
		if old.rec.requested.After(r.requested) {
			e.rec = old.rec
		} else if next, refusal := freshen(f.view, f.req.Header, f.dir, old.rec, h, r.requested, r.received); refusal == "" && sameNames(next.header, old.rec.header) {
			next.mark = next.mark.fetched(f.mark)
			e.rec = next
		}
	case old.newerThan(r):
		return nil, []piece{p}, OlderThanStored
	case old.parts != nil:
		gone = old.parts.pieces
	}
	gone = append(gone, e.parts.add(p, total, int64(f.t.cfg.MaxObject))...)
	return e, gone, ""
}

// withNeighbour puts the small piece that ends where s begins before it, so
// that a client that asks for one little range after the other does not leave
// thousands.
func (c *Cache) withNeighbour(old *entry, s span, segs [][]byte) (span, [][]byte) {
	for _, q := range old.parts.pieces {
		if q.n > mergeable || q.off >= s.off || q.end() < s.off || q.end() >= s.end() {
			continue
		}
		o, ok := c.store.Get(q.key())
		if !ok || o.Size != q.n {
			continue
		}
		body, err := o.Body.Open(0, s.off-q.off)
		if err != nil {
			continue
		}
		before, err := io.ReadAll(body)
		body.Close()
		if err == nil {
			return span{q.off, s.end() - q.off}, resegment(append([][]byte{before}, segs...))
		}
	}
	return s, segs
}

// resegment cuts bytes into segments as a store takes them.
func resegment(in [][]byte) (out [][]byte) {
	var cur []byte
	for _, b := range in {
		for len(b) > 0 {
			if cur == nil {
				cur = make([]byte, 0, store.SegmentSize)
			}
			n := min(len(b), store.SegmentSize-len(cur))
			cur, b = append(cur, b[:n]...), b[n:]
			if len(cur) == store.SegmentSize {
				out, cur = append(out, cur), nil
			}
		}
	}
	if cur != nil {
		out = append(out, cur)
	}
	return out
}

// mayComplete says whether the rest of e is asked for when somebody wants the
// whole (RFC 9111, Section 3.3). A part without any validator can be combined
// with nothing; but it is fresh, and an origin that ignores Range answers with
// the whole at once.
func (e *entry) mayComplete(limit int64, now time.Time) bool {
	p := e.parts
	if p.total <= 0 || p.short > 0 || p.total > limit || p.gap().n == 0 {
		return false
	}
	return isStrong(first(e.rec.header, "Etag")) || (!e.rec.hasValidator() && !e.rec.noCache && e.rec.ttl(now) > 0)
}

// restHeader returns h with a Range for what is missing of e, on the condition
// that it is still the same (RFC 9110, Section 13.1.5).
func (e *entry) restHeader(h http.Header) http.Header {
	out := h.Clone()
	gap := e.parts.gap()
	last := ""
	if gap.end() < e.parts.total {
		last = decimal(gap.end() - 1)
	}
	out["Range"] = []string{"bytes=" + decimal(gap.off) + "-" + last}
	if tag := first(e.rec.header, "Etag"); isStrong(tag) {
		out["If-Range"] = []string{tag}
	}
	return out
}

// sendForRest asks for what is missing of f.part and returns the whole, pieced
// together (RFC 9111, Section 3.4), or what the origin sent in its place. What
// cannot be combined is thrown away, and the whole asked for.
func (f *flight) sendForRest() (*http.Response, error) {
	res, err := f.send(f.part.restHeader(f.req.Header))
	if err != nil {
		return nil, err
	}
	switch res.StatusCode {
	case http.StatusPartialContent:
		if whole, ok := f.part.completedBy(res); ok {
			return whole, nil
		}
	case http.StatusRequestedRangeNotSatisfiable, http.StatusNotModified, http.StatusPreconditionFailed:
	default:
		return res, nil
	}
	res.Body.Close()
	f.part = nil
	return f.send(f.req.Header)
}

// completedBy returns e completed by the 206 as the 200 that it would have been.
func (e *entry) completedBy(res *http.Response) (*http.Response, bool) {
	s, total, ok := parseContentRange(res.Header["Content-Range"])
	gap := e.parts.gap()
	if !ok || s != gap || total != e.parts.total || (res.ContentLength >= 0 && res.ContentLength != s.n) || !e.fits(&record{header: res.Header}, s, total) {
		return nil, false
	}
	before, err := e.obj.Body.Open(0, gap.off)
	if err != nil {
		return nil, false
	}
	after, err := e.obj.Body.Open(gap.end(), total-gap.end())
	if err != nil {
		before.Close()
		return nil, false
	}
	h := merged(e.rec, res.Header)
	h["Content-Length"] = []string{decimal(total)}
	if cookies := res.Header["Set-Cookie"]; len(cookies) > 0 {
		h["Set-Cookie"] = cookies
	}
	out := *res
	out.StatusCode, out.Status, out.Header, out.ContentLength = http.StatusOK, "", h, total
	middle := &exactReader{r: res.Body, left: s.n}
	out.Body = &splice{Reader: io.MultiReader(before, middle, after), all: []io.Closer{before, res.Body, after}}
	return &out, true
}

// exactReader reads left bytes of a body that has to have exactly these.
type exactReader struct {
	r    io.Reader
	left int64
}

func (e *exactReader) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, theEnd(e.r)
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// splice is a body made of several.
type splice struct {
	io.Reader
	all []io.Closer
}

func (s *splice) Close() error {
	for _, c := range s.all {
		c.Close()
	}
	return nil
}

// fetchRest begins to fetch what is missing of e in the background, for clients
// that ask for ranges only: from the second such fetch on, then after twice as
// many, and only where the whole is in proportion to what is stored.
func (f *flight) fetchRest(e *entry) {
	limit := min(int64(f.t.cfg.RangeFill), int64(f.t.cfg.MaxObject))
	if e == nil || e.parts.asks < 2 || e.parts.asks&(e.parts.asks-1) != 0 || e.parts.total > fillShare*e.parts.held() ||
		!isStrong(first(e.rec.header, "Etag")) || len(f.req.Header["Authorization"]) > 0 || f.dir.noStore || f.dir.noCache {
		return
	}
	e = f.t.cache.entry(e.key)
	if e == nil || e.parts == nil || !e.mayComplete(limit, time.Now()) || f.t.cache.purges.judge(&e.rec.mark, f.key, f.req.URL).purged() {
		return
	}
	req := wholeRequest(f.req)
	bg := &query{req: req, ctx: req.Context(), hop: f.hop, key: f.key, view: f.view, dir: f.dir, opens: true, joins: true, part: e}
	f.t.inBackground(bg, nil, limit)
}

// wholeRequest returns a GET for the whole without conditions.
func wholeRequest(r *http.Request) *http.Request {
	req := r.WithContext(r.Context())
	req.Method, req.Header = http.MethodGet, r.Header.Clone()
	for _, name := range []string{"Range", "If-Range", "If-None-Match", "If-Modified-Since"} {
		delete(req.Header, name)
	}
	return req
}
