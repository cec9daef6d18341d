package cache

import (
	"maps"
	"net/http"
	"strings"
	"time"

	"fwdproxy/internal/header"
)

// conditionalHeader returns a copy of a request's header that asks whether r
// is still good (RFC 9111, Section 4.3.1). The client's own conditions, which
// are about what it holds, make room; notModified answers them afterwards.
func conditionalHeader(h http.Header, r *record) http.Header {
	out := h.Clone()
	delete(out, "If-None-Match")
	delete(out, "If-Modified-Since")
	if etag := first(r.header, "Etag"); etag != "" {
		out["If-None-Match"] = []string{etag}
	}
	if modified := first(r.header, "Last-Modified"); modified != "" {
		out["If-Modified-Since"] = []string{modified}
	}
	return out
}

// confirms reports whether a 304 with the header h is about r: each validator
// that it carries has to be the stored one (RFC 9111, Section 4.3.4). Without
// any it is, since only r was asked about.
func confirms(h http.Header, r *record) bool {
	if etag := first(h, "Etag"); etag != "" {
		stored := first(r.header, "Etag")
		if !strings.HasPrefix(etag, "W/") {
			return etag == stored
		}
		return stored == "" || weakMatch(etag, stored)
	}
	if modified := first(h, "Last-Modified"); modified != "" && first(r.header, "Etag") == "" {
		return modified == first(r.header, "Last-Modified")
	}
	return true
}

// matchesHead reports whether a 200 to HEAD with the header h is what GET
// stored as r with size bytes (RFC 9111, Section 4.3.5).
func matchesHead(h http.Header, r *record, size int64) bool {
	for _, name := range []string{"Etag", "Last-Modified"} {
		if v := first(h, name); v != "" && v != first(r.header, name) {
			return false
		}
	}
	length := first(h, "Content-Length")
	return length == "" || length == decimal(size)
}

// kept are the fields of a stored response that no 304 changes: they go with
// the stored body (RFC 9111, Section 3.2). Set-Cookie is for one client.
var kept = []string{"Content-Encoding", "Content-Length", "Content-Range", "Content-Type", "Set-Cookie"}

// merged returns the header of r updated by that of a 304, or of a 200 to
// HEAD (RFC 9111, Section 3.2).
func merged(r *record, h http.Header) http.Header {
	out := maps.Clone(r.header)
	fresh := storedHeader(h, nil)
	if age := h["Age"]; len(age) > 0 {
		fresh["Age"] = age
	}
	for _, name := range kept {
		delete(fresh, name)
	}
	maps.Copy(out, fresh)
	return out
}

// freshen returns r updated by a 304 (or a 200 to HEAD) with the header h,
// and why the result may no longer be stored, if so.
func freshen(v *view, reqHeader http.Header, rq requestDirectives, r *record, h http.Header, requested, received time.Time) (*record, Refusal) {
	m := merged(r, h)
	if len(h["Date"]) == 0 {
		m["Date"] = []string{received.UTC().Format(http.TimeFormat)}
	}
	next, d := newRecord(v, reqHeader, r.status, m, requested, received, r.addr)
	next.saw |= r.saw & sawSetCookie // it is not stored, so that m does not tell
	return next, storable(v, http.MethodGet, rq, next, m, d)
}

// notModified reports whether the client's own condition says that it holds
// what r is (RFC 9111, Section 4.3.2): If-None-Match by weak comparison, else
// If-Modified-Since against Last-Modified, Date or the time of arrival.
func notModified(h http.Header, r *record) bool {
	if r.status/100 != 2 {
		return false
	}
	if len(h["If-None-Match"]) > 0 {
		etag := first(r.header, "Etag")
		for _, t := range header.Tokens(h, "If-None-Match") {
			if t == "*" || (etag != "" && weakMatch(t, etag)) {
				return true
			}
		}
		return false
	}
	since, ok := date(h, "If-Modified-Since")
	if !ok || len(h["If-Modified-Since"]) != 1 {
		return false
	}
	modified, ok := date(r.header, "Last-Modified")
	if !ok {
		modified = dateOr(r.header, r.received)
	}
	return !modified.After(since)
}

func hasConditions(h http.Header) bool {
	return len(h["If-None-Match"]) > 0 || len(h["If-Modified-Since"]) > 0
}

// weakMatch is the weak comparison of RFC 9110, Section 8.8.3.2.
func weakMatch(a, b string) bool {
	return strings.TrimPrefix(a, "W/") == strings.TrimPrefix(b, "W/")
}

// isStrong reports whether an entity tag is one that identifies the bytes.
func isStrong(etag string) bool {
	return len(etag) >= 2 && etag[0] == '"' && etag[len(etag)-1] == '"'
}
