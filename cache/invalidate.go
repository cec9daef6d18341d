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

// invalidated returns the keys that a response to an unsafe request makes
// invalid (RFC 9111, Section 4.4): the target's and, within its origin alone,
// those of Location and Content-Location; none when it is an error.
func invalidated(method string, u *url.URL, status int, h http.Header) []store.Key {
	if !invalidates(method, status) {
		return nil
	}
	keys := []store.Key{KeyOf(u).hash()}
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
			t, err := target.FromURL(ref)
			if err != nil || t.Origin() != origin.Origin() {
				continue
			}
			ref.Scheme, ref.Host = t.Scheme, t.Authority()
			keys = append(keys, KeyOf(ref).hash())
		}
	}
	return keys
}
