package reverse

import (
	"cmp"
	"net/http"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
)

// Site is what becomes of the requests for some hosts and paths.
type Site struct {
	SiteConfig
	path     string // prefix by whole segments
	pathRE   *regexp.Regexp
	fields   []fieldMatch
	redirect redirect
}

type fieldMatch struct {
	name string
	re   *regexp.Regexp
}

// Asked is what a site is found by, in canonical form.
type Asked struct {
	Scheme, Host string
	Path, Query  string // escaped, as sent
	Method       string
	Header       http.Header
}

// Sites finds the site of a request. It is immutable.
type Sites struct {
	exact map[string][]*Site // by host, longest path first
	below map[string][]*Site // "*.a.b" under "a.b"
	any   []*Site
}

// NewSites compiles what Validate found right.
func NewSites(configs []SiteConfig) *Sites {
	s := &Sites{exact: map[string][]*Site{}, below: map[string][]*Site{}}
	for _, c := range configs {
		site := newSite(c)
		for _, h := range c.Hosts {
			pattern, err := canonicalPattern(h)
			if err != nil {
				continue
			}
			if parent, wild := strings.CutPrefix(pattern, "*."); wild {
				s.below[parent] = append(s.below[parent], site)
			} else if pattern == "*" {
				s.any = append(s.any, site)
			} else {
				s.exact[pattern] = append(s.exact[pattern], site)
			}
		}
	}
	for _, list := range s.exact {
		longestFirst(list)
	}
	for _, list := range s.below {
		longestFirst(list)
	}
	longestFirst(s.any)
	return s
}

func newSite(c SiteConfig) *Site {
	s := &Site{SiteConfig: c, path: c.path()}
	if c.PathRegex != "" {
		s.pathRE = regexp.MustCompile(c.PathRegex)
	}
	for name, text := range c.Header {
		s.fields = append(s.fields, fieldMatch{textproto.CanonicalMIMEHeaderKey(name), regexp.MustCompile(text)})
	}
	s.redirect, _ = parseRedirect(c.Redirect)
	return s
}

func longestFirst(list []*Site) {
	slices.SortStableFunc(list, func(a, b *Site) int { return cmp.Compare(len(b.path), len(a.path)) })
}

// Find returns the site of a request: the most exact host that has one, the
// longest path of that, the first of those; nil where there is none.
func (s *Sites) Find(a Asked) *Site {
	if site := first(s.exact[a.Host], &a); site != nil {
		return site
	}
	for rest := a.Host; ; {
		_, parent, more := strings.Cut(rest, ".")
		if !more {
			break
		}
		if site := first(s.below[parent], &a); site != nil {
			return site
		}
		rest = parent
	}
	return first(s.any, &a)
}

func first(list []*Site, a *Asked) *Site {
	for _, site := range list {
		if site.matches(a) {
			return site
		}
	}
	return nil
}

func (s *Site) matches(a *Asked) bool {
	if !under(a.Path, s.path) || s.pathRE != nil && !s.pathRE.MatchString(a.Path) {
		return false
	}
	if len(s.Methods) > 0 && !slices.Contains(s.Methods, a.Method) || len(s.Schemes) > 0 && !slices.Contains(s.Schemes, a.Scheme) {
		return false
	}
	for _, f := range s.fields {
		if !slices.ContainsFunc(a.Header[f.name], f.re.MatchString) {
			return false
		}
	}
	return true
}

// under reports whether path lies below prefix by whole segments: "/api" holds
// "/api" and "/api/x", not "/apix".
func under(path, prefix string) bool {
	if !strings.HasPrefix(path, prefix) {
		return false
	}
	return len(path) == len(prefix) || strings.HasSuffix(prefix, "/") || path[len(prefix)] == '/'
}
