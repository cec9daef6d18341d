package reverse

import (
	"net/http"

	"fwdproxy/internal/edge"
)

// Sticky is what binds browsers to the peers of a pool. Nil binds nobody.
type Sticky struct {
	Cookie func(pool string) string           // the name of the pool's cookie, "" for none
	Value  func(pool, answered string) string // what it says of the peer that answered; "" where none did
}

// binding is the cookie of one request.
type binding struct {
	sticky       *Sticky
	pool, cookie string // "" where nothing binds
	value        string // as the client sent it
}

// bind reads the cookie that binds the client to a peer of the pool, and takes
// it away from the request.
func (s *Sticky) bind(out, in *http.Request, pool string) binding {
	if s == nil {
		return binding{}
	}
	b := binding{sticky: s, pool: pool, cookie: s.Cookie(pool)}
	if b.cookie == "" {
		return b
	}
	if c, err := in.Cookie(b.cookie); err == nil {
		b.value = c.Value
	}
	dropCookie(out.Header, b.cookie)
	return b
}

// remember binds the client to the peer that answered, unless it is already.
// What the cache answers binds nobody.
func (b binding) remember(x *edge.Exchange, res *http.Response, scheme string) {
	if b.cookie == "" {
		return
	}
	if value := b.sticky.Value(b.pool, x.Answered()); value != "" && value != b.value {
		setCookie(res, b.cookie, value, scheme)
	}
}

// setCookie sets a cookie for the browser session. A cache in front of this
// one would hand it to everybody, were it not told.
func setCookie(res *http.Response, name, value, scheme string) {
	cookie := http.Cookie{Name: name, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: scheme == "https"}
	res.Header = res.Header.Clone()
	res.Header.Add("Set-Cookie", cookie.String())
	res.Header.Add("Cache-Control", `no-cache="Set-Cookie"`)
}
