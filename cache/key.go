package cache

import (
	"crypto/sha256"
	"net/url"

	"fwdproxy/cache/store"
)

// Key is the primary cache key of a target URI (RFC 9111, Section 2): scheme,
// authority, path and query byte by byte as the next hop gets them. It holds
// for every method, so that an unsafe one invalidates what GET stored.
//
// A [[cache.rule]] may take parameters out of the query, sort them, and put a
// word in braces, which no host has, in the place of the host.
type Key struct {
	u    *url.URL
	rule *rule
}

// KeyOf returns the key of u, whose scheme and host are in canonical form,
// where no rule says otherwise.
func KeyOf(u *url.URL) Key { return Key{u: u} }

// Key returns the key of u, whose scheme and host are in canonical form.
func (t *Transport) Key(u *url.URL) Key { return Key{u, t.view(u).rule} }

// bent reports whether the key is another than that of the URL alone.
func (k Key) bent() bool {
	return k.rule != nil && k.rule.mayBend()&bendKey != 0 && k.String() != KeyOf(k.u).String()
}

// String returns the key as text, for people.
func (k Key) String() string { return string(k.append(nil)) }

// Neither scheme nor authority can hold a slash, and a path begins with one:
// no two targets give the same bytes.
func (k Key) append(b []byte) []byte {
	b = append(b, k.u.Scheme...)
	b = append(b, "://"...)
	b = k.appendHost(b)
	path := k.u.EscapedPath()
	if path == "" {
		path = "/"
	}
	b = append(b, path...)
	query := k.rule.query(k.u.RawQuery)
	if query != "" || k.u.ForceQuery && !k.rule.dropsQuery() {
		b = append(b, '?')
		b = append(b, query...)
	}
	return b
}

func (k Key) appendHost(b []byte) []byte {
	if !k.rule.sharesHosts() {
		return append(b, k.u.Host...)
	}
	b = append(b, '{')
	b = append(b, k.rule.KeyHost...)
	b = append(b, '}')
	if port := k.u.Port(); port != "" {
		b = append(b, ':')
		b = append(b, port...)
	}
	return b
}

func (k Key) hash() store.Key {
	var room [256]byte
	return sha256.Sum256(k.append(room[:0]))
}
