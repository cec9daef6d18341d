package cache

import (
	"net/http"
	"net/url"
	"time"

	"fwdproxy/internal/target"
)

// postMayAnswer reports whether the response to the POST request might answer
// a later GET (RFC 9110, Section 9.3.3). What it sends beside its body must not
// say for whom the response is, nor name another target.
func (q *query) postMayAnswer() bool {
	h := q.req.Header
	return !q.bypass() && !q.dir.noStore && sees(h, nil) == 0 && !redirects(h, q.req.URL) &&
		!hasConditions(h) && len(h["If-Match"]) == 0 && len(h["If-Unmodified-Since"]) == 0 && len(h["Range"]) == 0
}

// redirects reports whether a field names another host, path or method than
// the request's own; one that repeats the host or scheme of u, as a front door
// writes it, does not.
func redirects(h http.Header, u *url.URL) bool {
	for _, name := range overrides {
		lines := h[name]
		switch {
		case len(lines) == 0,
			name == "X-Forwarded-Host" && len(lines) == 1 && lines[0] == u.Host,
			name == "X-Forwarded-Proto" && len(lines) == 1 && lines[0] == u.Scheme:
		default:
			return true
		}
	}
	return false
}

// postAnswers reports whether the response to a POST to u is what a GET would
// get: the origin has to say so by a Content-Location that is u, and to state
// for how long. No key covers the request's body, so nothing less will do.
func postAnswers(v *view, u *url.URL, status int, h http.Header, received time.Time) bool {
	where := h["Content-Location"]
	if status != http.StatusOK || len(where) != 1 || len(h["Set-Cookie"]) > 0 {
		return false
	}
	ref, err := u.Parse(where[0])
	if err != nil {
		return false
	}
	to, err := target.FromURL(ref)
	if err != nil {
		return false
	}
	ref.Scheme, ref.Host = to.Scheme, to.Authority()
	if KeyOf(ref).String() != KeyOf(u).String() {
		return false
	}
	life, source := Lifetime(status, h, readResponse(h, v.targeted), received, false)
	return life > 0 && source != NoLifetime
}

// post sends a POST request on, invalidates what it changes (RFC 9111, Section
// 4.4), and stores the response where that answers later GETs.
func (t *Transport) post(q *query) (*http.Response, error) {
	f := t.newFlight(q, nil, false)
	f.hop, f.req.Method = q.hop, http.MethodGet
	b := t.cache.book(f.key)
	b.mu.Lock()
	b.flights[f.key] = append(b.flights[f.key], f) // another unsafe request voids it
	b.mu.Unlock()

	st := status{fwd: "method"}
	report(q.ctx, "", st.String(t.name))
	requested := time.Now()
	res, err := t.next.RoundTrip(q.req)
	if err != nil {
		f.end()
		return nil, err
	}
	now := time.Now()
	addDate(res.Header, now)
	t.invalidate(q.req, res, f)
	if res.Body == nil || !postAnswers(q.view, q.req.URL, res.StatusCode, res.Header, now) {
		f.end()
		t.sign(res.Header, st.String(t.name))
		return res, nil
	}
	go func() {
		defer f.end()
		defer f.recovered(q.ctx)
		f.response(res, requested, q.ctx)
	}()
	res, _, err = t.lead(q, f, Decision{Reason: OtherMethod})
	return res, err
}
