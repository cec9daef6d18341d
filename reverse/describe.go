package reverse

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"fwdproxy/compress"
)

// Describe says for people what becomes of a request that the site was found
// for; a nil Site is none.
func (s *Site) Describe(a Asked) string {
	switch {
	case s == nil:
		return "none: no site has this host and path"
	case s.Pool == "":
		res := s.answer(&http.Request{Method: a.Method}, &a)
		if to := res.Header.Get("Location"); to != "" {
			return fmt.Sprintf("none: %sredirects with %d to %s", s.called(), res.StatusCode, to)
		}
		return fmt.Sprintf("none: %sanswers %d", s.called(), res.StatusCode)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "pool %s", s.Pool)
	for _, part := range s.Split {
		fmt.Fprintf(&b, ", or %s for %v %% by %s", part.Pool, part.Percent, s.splitBy())
	}
	switch path, err := s.peerPath(&a); {
	case err != nil:
		fmt.Fprintf(&b, ", and 400: %v", err)
	case path != "":
		fmt.Fprintf(&b, ", asked for %s", path)
	}
	if m := s.Mirror; m != nil {
		fmt.Fprintf(&b, "; %v %% copied to %s", m.Percent, m.Pool)
	}
	if f := s.Fault; f != nil {
		fmt.Fprintf(&b, "; %v %% made to fail", f.Percent)
	}
	if s.Name != "" {
		fmt.Fprintf(&b, " (site %s)", s.Name)
	}
	return b.String()
}

func (s *Site) called() string {
	if s.Name == "" {
		return "the site "
	}
	return "the site " + s.Name + " "
}

func (s *Site) splitBy() string {
	if s.SplitBy == "" {
		return splitClient
	}
	return s.SplitBy
}

// Apart is what keeps the answers of the site's pool apart in the cache.
func (s *Site) Apart() string { return choice{pool: s.Pool}.name(s) }

// Fields returns what the pool of a site, and so the cache's key, gets of a
// request's fields.
func (s *Settings) Fields(site *Site, a Asked, client netip.Addr, authority string) http.Header {
	r := &http.Request{Method: a.Method, Header: a.Header.Clone()}
	forwarded(r.Header, asker{client: client}.chain(), authority, a.Scheme)
	choice{pool: site.Pool}.mark(r.Header, site)
	if s.Sticky != nil {
		if cookie := s.Sticky.Cookie(site.Pool); cookie != "" {
			dropCookie(r.Header, cookie)
		}
	}
	if site.Compress {
		compress.Prepare(r, s.Encodings)
	}
	return r.Header
}
