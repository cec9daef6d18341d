package reverse

import (
	"slices"
	"strconv"
	"strings"

	"fwdproxy/internal/problem"
	"fwdproxy/internal/target"
)

// Config is the [reverse] section.
type Config struct {
	// Listen is the addresses that the sites are served on, as "address:port".
	Listen []string `toml:"listen"`
	// Sites route requests to pools: the most exact host first, then the longest path.
	Sites []SiteConfig `toml:"site"`
}

// SiteConfig is one [[reverse.site]].
type SiteConfig struct {
	// Hosts is the names that the site answers to: "a.example", "*.a.example" for every name below, "*" for all.
	Hosts []string `toml:"hosts"`
	// Path is the prefix of the path that the site serves, by whole segments; "/" is all.
	Path string `toml:"path"`
	// Pool names the [[pool]] that serves it.
	Pool string `toml:"pool"`
}

// DefaultConfig returns an empty section's values.
func DefaultConfig() Config {
	return Config{Listen: []string{"127.0.0.1:8080"}}
}

// Validate reports every problem of the section; pools are the names that
// [[pool]] defines.
func (c Config) Validate(pools []string) problem.List {
	var p problem.List
	taken := map[string]int{}
	for i, s := range c.Sites {
		key := "reverse.site[" + strconv.Itoa(i) + "]"
		if len(s.Hosts) == 0 {
			p.Add(key+".hosts", "write [\"*\"] to answer to every name", "the site has no host")
		}
		for j, h := range s.Hosts {
			name, err := canonicalPattern(h)
			if err != nil {
				p.Add(key+".hosts["+strconv.Itoa(j)+"]", "write \"a.example\", \"*.a.example\" or \"*\"", "%v", err)
				continue
			}
			if other, dup := taken[name+s.path()]; dup {
				p.Add(key, "give one of them another host or path", "host %q with path %q is site %d's already", h, s.path(), other)
			}
			taken[name+s.path()] = i
		}
		if !strings.HasPrefix(s.path(), "/") {
			p.Add(key+".path", "write for example \"/\" or \"/api\"", "%q does not begin with a slash", s.Path)
		}
		if s.Pool == "" {
			p.Add(key+".pool", "name a [[pool]]", "the site has no pool")
		} else if !slices.Contains(pools, s.Pool) {
			hint := "define it: [[pool]] with name = " + strconv.Quote(s.Pool)
			p.Add(key+".pool", hint, "there is no pool called %q", s.Pool)
		}
	}
	return p
}

func (s SiteConfig) path() string {
	if s.Path == "" {
		return "/"
	}
	return s.Path
}

// canonicalPattern returns a host pattern in canonical form.
func canonicalPattern(s string) (string, error) {
	if s == "*" {
		return s, nil
	}
	rest, wild := strings.CutPrefix(s, "*.")
	name, _, err := target.ParseHost(rest)
	if wild {
		name = "*." + name
	}
	return name, err
}
