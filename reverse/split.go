package reverse

import (
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"strings"

	"fwdproxy/internal/edge"
)

// What a split goes by.
const (
	splitClient  = "client"
	splitCookie  = "cookie"
	splitRequest = "request"
)

// siteField tells the pool which site a request is for.
const siteField = "Fwdproxy-Site"

// choice is the pool of one request.
type choice struct {
	pool  string
	isNew bool // the client's cookie has yet to be set
}

// choose returns the pool of the site that has the request; in [0, 1) roll is
// where the request falls when nothing else says so.
func (s *Site) choose(r *http.Request, roll func() float64) choice {
	if len(s.Split) == 0 {
		return choice{pool: s.Pool}
	}
	switch s.SplitBy {
	case splitRequest:
		return choice{pool: s.share(roll())}
	case splitCookie:
		if pool, ok := s.assigned(r); ok {
			return choice{pool: pool}
		}
		return choice{pool: s.share(roll()), isNew: true}
	}
	client := edge.ClientAddr(r)
	if client.Is6() {
		p, _ := client.Prefix(64)
		client = p.Addr()
	}
	sum := sha256.Sum256([]byte(s.Name + " " + client.String()))
	return choice{pool: s.share(float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53))}
}

// share returns the pool at a place in [0, 1): the shares stand at its
// beginning in their order, so that one which grows takes from the site's pool.
func (s *Site) share(at float64) string {
	for _, part := range s.Split {
		if at -= part.Percent / 100; at < 0 {
			return part.Pool
		}
	}
	return s.Pool
}

// cookie is the name of the site's cookie.
func (s *Site) cookie() string { return "fwdproxy_" + s.Name }

// assigned returns the pool that the client's cookie names, if it is one of
// the site's.
func (s *Site) assigned(r *http.Request) (string, bool) {
	c, err := r.Cookie(s.cookie())
	if err != nil {
		return "", false
	}
	if c.Value == s.Pool {
		return s.Pool, true
	}
	for _, part := range s.Split {
		if part.Pool == c.Value {
			return part.Pool, true
		}
	}
	return "", false
}

// name tells the site's requests, and among them the pool's, from others for
// the same URL; "" where host and path say it all.
func (c choice) name(s *Site) string {
	switch {
	case !s.apart():
		return ""
	case len(s.Split) > 0:
		return s.Name + "/" + c.pool
	}
	return s.Name
}

// mark tells the pool what the request is for, and takes the site's own cookie
// away.
func (c choice) mark(h http.Header, s *Site) {
	if name := c.name(s); name != "" {
		h.Set(siteField, name)
	}
	if s.SplitBy == splitCookie {
		dropCookie(h, s.cookie())
	}
}

// remember sets the client's cookie.
func (c choice) remember(res *http.Response, s *Site, scheme string) {
	if !c.isNew {
		return
	}
	setCookie(res, s.cookie(), c.pool, scheme)
}

// dropCookie takes one cookie out of Cookie and leaves the others as they are.
func dropCookie(h http.Header, name string) {
	var lines []string
	for _, line := range h["Cookie"] {
		var kept []string
		for pair := range strings.SplitSeq(line, ";") {
			if n, _, _ := strings.Cut(pair, "="); strings.TrimSpace(n) != name && strings.TrimSpace(pair) != "" {
				kept = append(kept, strings.TrimSpace(pair))
			}
		}
		if len(kept) > 0 {
			lines = append(lines, strings.Join(kept, "; "))
		}
	}
	if delete(h, "Cookie"); len(lines) > 0 {
		h["Cookie"] = lines
	}
}
