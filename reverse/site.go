package reverse

import (
	"cmp"
	"slices"
	"strings"
)

// Site is one route: the hosts and paths of it go to its pool.
type Site struct {
	host string // canonical pattern
	path string // prefix by whole segments
	Pool string
}

// Sites finds the site of a request. It is immutable.
type Sites struct {
	exact map[string][]Site // by host, longest path first
	below map[string][]Site // "*.a.b" under "a.b"
	any   []Site
}

// NewSites compiles what Validate found right.
func NewSites(configs []SiteConfig) *Sites {
	s := &Sites{exact: map[string][]Site{}, below: map[string][]Site{}}
	for _, c := range configs {
		for _, h := range c.Hosts {
			pattern, err := canonicalPattern(h)
			if err != nil {
				continue
			}
			site := Site{host: pattern, path: c.path(), Pool: c.Pool}
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

func longestFirst(list []Site) {
	slices.SortStableFunc(list, func(a, b Site) int { return cmp.Compare(len(b.path), len(a.path)) })
}

// Find returns the site for a canonical host and an escaped path: the most
// exact host that has a path for it, the longest path of that.
func (s *Sites) Find(host, path string) (Site, bool) {
	if site, ok := longest(s.exact[host], path); ok {
		return site, true
	}
	for rest := host; ; {
		_, parent, more := strings.Cut(rest, ".")
		if !more {
			break
		}
		if site, ok := longest(s.below[parent], path); ok {
			return site, true
		}
		rest = parent
	}
	return longest(s.any, path)
}

func longest(list []Site, path string) (Site, bool) {
	for _, site := range list {
		if under(path, site.path) {
			return site, true
		}
	}
	return Site{}, false
}

// under reports whether path lies below prefix by whole segments: "/api" holds
// "/api" and "/api/x", not "/apix".
func under(path, prefix string) bool {
	if !strings.HasPrefix(path, prefix) {
		return false
	}
	return len(path) == len(prefix) || strings.HasSuffix(prefix, "/") || path[len(prefix)] == '/'
}
