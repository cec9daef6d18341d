package cache

import (
	"net/http"
	"time"
)

// share answers with what another's fetch is bringing.
func (t *Transport) share(q *query, f *flight, st status, now time.Time) (*http.Response, bool, error) {
	out := f.out
	if err := q.hop.Permit(out.rec.addr); err != nil {
		f.leave()
		if q.view.rule.sharesHosts() {
			q.tries = maxTries
			return nil, true, nil
		}
		return nil, false, err
	}
	if notModified(q.req.Header, out.rec) {
		f.leave()
		q.hop.Used(out.rec.addr, "NONE")
		h := notModifiedHeader(out.rec.header)
		setAge(h, out.rec, now)
		return t.reply(q, http.StatusNotModified, h, http.NoBody, -1, Hit, st), false, nil
	}
	h := out.rec.header.Clone()
	setAge(h, out.rec, now)
	if q.req.Method == http.MethodHead {
		f.leave()
		q.hop.Used(out.rec.addr, "NONE")
		return t.reply(q, out.rec.status, h, http.NoBody, out.fill.size, Hit, st), false, nil
	}
	code, part, ok := out.rec.status, span{0, out.fill.size}, true
	if len(q.req.Header["Range"]) > 0 {
		if part, ok = t.arrivingRange(q, out); ok && part.n != out.fill.size {
			code = http.StatusPartialContent
			h["Content-Range"] = []string{contentRange(part, out.fill.size)}
		}
	}
	var body *fillReader
	if ok {
		n := part.n
		if code != http.StatusPartialContent {
			n = -1 // to the end, whatever comes of it
		}
		body, ok = f.attach(q.ctx, part.off, n)
	}
	if body == nil {
		f.leave()
	} else if ok = code != http.StatusPartialContent || body.await(q.until); !ok {
		body.Close()
	}
	if !ok {
		q.tries = maxTries
		return nil, true, nil
	}
	q.hop.Used(out.rec.addr, "NONE")
	return t.reply(q, code, h, body, part.n, Hit, st), false, nil
}

// arrivingRange says which stretch of a body that is arriving answers the
// query's Range; false when it had better ask by itself.
func (t *Transport) arrivingRange(q *query, out *landing) (span, bool) {
	size := out.fill.size
	if size < 0 {
		return span{}, false
	}
	spans, verdict := selectRange(q.req.Header, out.rec, size)
	if verdict == wholeBody {
		return span{0, size}, true
	}
	n, _ := out.fill.progress()
	if verdict != partOfBody || len(spans) != 1 || spans[0].n == size || spans[0].off-n > int64(t.cfg.RangeAhead) {
		return span{}, false
	}
	return spans[0], true
}
