package cache

import (
	"net/http"
	"net/url"

	"fwdproxy/cache/store"
	"fwdproxy/internal/target"
)

// isSafe reports whether the method is known to change nothing (RFC 9110,
// Section 9.2.1); one that is not known is unsafe.
func isSafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// invalidates reports whether a response with the status to a request with the
// method invalidates anything: no error does.
func invalidates(method string, status int) bool {
	return !isSafe(method) && status >= 200 && status <= 399
}

// invalidate drops what the response to the request makes invalid, and sees to
// it that no fetch under way, but the one that it is for, stores that.
func (t *Transport) invalidate(req *http.Request, res *http.Response, but *flight) {
	for _, k := range t.invalidated(req.Method, req.URL, res.StatusCode, res.Header) {
		t.cache.invalidate(k, but)
	}
	if groups, all := invalidatedGroups(req.Method, res.StatusCode, res.Header); all || len(groups) > 0 {
		t.cache.purges.addGroups(string(originOf(keyText(req.URL))), groups, all)
	}
}

// invalidated returns the keys that a response to an unsafe request makes
// invalid (RFC 9111, Section 4.4): the target's and, within its origin alone,
// those of Location and Content-Location; none when it is an error.
func (t *Transport) invalidated(method string, u *url.URL, status int, h http.Header) []store.Key {
	if !invalidates(method, status) {
		return nil
	}
	keys := t.keysOf(u)
	origin, err := target.FromURL(u)
	if err != nil {
		return keys
	}
	for _, name := range []string{"Location", "Content-Location"} {
		for _, line := range h[name] {
			ref, err := u.Parse(line)
			if err != nil {
				continue
			}
			to, err := target.FromURL(ref)
			if err != nil || to.Origin() != origin.Origin() {
				continue
			}
			ref.Scheme, ref.Host = to.Scheme, to.Authority()
			keys = append(keys, t.keysOf(ref)...)
		}
	}
	return keys
}

// keysOf returns the keys of what may answer for u: its own, and those of
// equivalent URIs.
func (t *Transport) keysOf(u *url.URL) []store.Key {
	k := t.Key(u)
	keys, _ := t.cache.equivalents(k)
	return append(keys, k.hash())
}
