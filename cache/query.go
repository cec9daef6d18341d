package cache

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"fwdproxy/cache/store"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
)

// query is a GET or HEAD that the cache may answer, or a POST whose response may
// answer one.
type query struct {
	req     *http.Request
	ctx     context.Context
	hop     *hop.Hop
	key     store.Key
	view    *view
	bent    bend   // what the rule made of this request
	keyText string // where the key is not the URL
	dir     requestDirectives
	opens   bool   // others may join its fetch
	joins   bool   // it may join another's fetch
	part    *entry // what is stored and not enough for it
	until   time.Time
	tries   int

	counted, tooFew bool // for min_uses
}

// setKey sets the key, and what the rule bends by it and in the directives.
func (q *query) setKey() {
	q.bent = q.view.rule.soften(&q.dir)
	k := Key{q.req.URL, q.view.rule}
	q.key = k.hash()
	if k.bent() {
		q.bent |= bendKey
		q.keyText = k.String()
	}
}

// bypass reports whether the policy sends the query past the store.
func (q *query) bypass() bool { return q.hop.Bypass != "" || q.view.bypass() }

// maxStored is the largest body that is stored for the query.
func (q *query) maxStored(most int64) int64 {
	if q.hop.MaxStored > 0 {
		return min(q.hop.MaxStored, most)
	}
	return most
}

// lookup finds what is stored for the query, as the policy in force sees it.
func (t *Transport) lookup(q *query, now time.Time) found {
	fd := t.cache.lookup(q.key, q.req.URL, q.hop.Apart, q.req.Header, now)
	if fd.entry != nil && !fd.entry.rec.under(q.view) {
		fd.entry, fd.ruling = nil, ruling{}
	}
	return fd
}

// status adds what a rule made of the request and of the response to st.
func (q *query) status(st status, r *record, now time.Time) status {
	label := q.view.label(q.bent | r.bentBy(now))
	if st.detail != "" && label != "" {
		label = st.detail + "; " + label
	}
	st.detail = cmp.Or(label, st.detail)
	st.key = q.keyText
	return st
}

// notCached is the answer to an only-if-cached that nothing stored may answer
// (RFC 9111, Section 5.2.1.7).
func (t *Transport) notCached(q *query) error {
	report(q.ctx, Miss, status{detail: "only-if-cached"}.String(t.name))
	return &fault.Error{Kind: fault.InternalResponse, Status: http.StatusGatewayTimeout,
		Details: "the request says only-if-cached, and nothing that is stored may answer it"}
}
