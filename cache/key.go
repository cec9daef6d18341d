package cache

import (
	"crypto/sha256"
	"net/url"

	"fwdproxy/cache/store"
)

// Key is the primary cache key of a target URI (RFC 9111, Section 2): scheme,
// authority, path and query byte by byte as the next hop gets them. It holds
// for every method, so that an unsafe one invalidates what GET stored.
type Key struct {
	u *url.URL
}

// KeyOf returns the key of u, whose scheme and host are in canonical form.
func KeyOf(u *url.URL) Key { return Key{u} }

// String returns the key as text, for people.
func (k Key) String() string { return string(k.append(nil)) }

// Neither scheme nor authority can hold a slash, and a path begins with one:
// no two targets give the same bytes.
func (k Key) append(b []byte) []byte {
	b = append(b, k.u.Scheme...)
	b = append(b, "://"...)
	b = append(b, k.u.Host...)
	path := k.u.EscapedPath()
	if path == "" {
		path = "/"
	}
	b = append(b, path...)
	if k.u.RawQuery != "" || k.u.ForceQuery {
		b = append(b, '?')
		b = append(b, k.u.RawQuery...)
	}
	return b
}

func (k Key) hash() store.Key {
	var room [256]byte
	return sha256.Sum256(k.append(room[:0]))
}
