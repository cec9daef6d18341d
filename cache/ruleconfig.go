package cache

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"fwdproxy/internal/header"
	"fwdproxy/internal/problem"
	"fwdproxy/internal/unit"
)

// RuleConfig is one table [[cache.rule]]: how responses of some URLs are kept.
// Keys that are left out change nothing.
type RuleConfig struct {
	// Name is shown in Cache-Status and by explain; "rule N", counted from 1,
	// when left out. No two rules may share one.
	Name string `toml:"name"`
	// To holds the hosts of the URL: "*" (all), ".a.b" (a.b and all below it),
	// "a.b" (that host alone) and addresses; empty holds for all.
	To []string `toml:"to"`
	// Path is a regular expression (RE2) that the URL's path, without its query,
	// has to match somewhere; empty holds for all.
	Path string `toml:"path"`
	// Bypass leaves the cache out: nothing is stored, nothing served from it.
	Bypass bool `toml:"bypass"`
	// MinTTL makes a lifetime that is shorter this long; it does not touch errors,
	// nor what may be one user's own. Against a stated lifetime it breaks RFC 9111.
	MinTTL unit.Duration `toml:"min_ttl"`
	// MaxTTL makes a lifetime that is longer this long.
	MaxTTL unit.Duration `toml:"max_ttl"`
	// DefaultTTL is the lifetime where the response states none, in place of a
	// tenth of the time since Last-Modified.
	DefaultTTL unit.Duration `toml:"default_ttl"`
	// NegativeTTL is the lifetime of an error that states none: 404, 405, 410,
	// 414, 451, 500 to 504. For some of these it breaks RFC 9111.
	NegativeTTL unit.Duration `toml:"negative_ttl"`
	// StaleWhileRevalidate is how long a stale response is served while it is
	// validated, where the response does not say.
	StaleWhileRevalidate unit.Duration `toml:"stale_while_revalidate"`
	// StaleIfError is how long a stale response stands in for an error of the
	// origin, where the response does not say.
	StaleIfError unit.Duration `toml:"stale_if_error"`
	// IgnoreQuery names query parameters that the cache key leaves out: "name",
	// "utm_*" (all that begin so) or "*" (all). The origin still gets them.
	IgnoreQuery []string `toml:"ignore_query"`
	// SortQuery makes the order of query parameters with different names count
	// for nothing in the cache key.
	SortQuery bool `toml:"sort_query"`
	// KeyHost takes the place of the host in the cache key, so that all hosts of
	// the rules with the same key_host share what is stored: for mirrors that
	// serve the same bytes, each of which can then answer for all.
	KeyHost string `toml:"key_host"`
	// MinUses stores a response only when it was asked for that often within a
	// day; 0 and 1 store at once.
	MinUses int `toml:"min_uses"`
	// Ignore lists what does not keep a response from being stored or served:
	// of the response "no-store", "no-cache", "private", "must-revalidate" and
	// "set-cookie" (which is then not stored), of the request "authorization",
	// "cookie" and "reload" (its no-cache, max-age and min-fresh).
	Ignore []string `toml:"ignore"`
}

// rules compiles the rules, and reports what is wrong with them.
func (c Config) rules() ([]*rule, problem.List) {
	var l problem.List
	var out []*rule
	names := map[string]int{}
	for i, rc := range c.Rules {
		key := "cache.rule[" + strconv.Itoa(i) + "]"
		r := &rule{RuleConfig: rc}
		if r.Name == "" {
			r.Name = "rule " + strconv.Itoa(i+1)
		}
		if j, taken := names[r.Name]; taken {
			l.Add(key+".name", "give each rule its own", "%q is the name of cache.rule[%d] already", r.Name, j)
		}
		names[r.Name] = i
		for j, to := range rc.To {
			if to == "*" {
				r.anyHost = true
			} else if r.hosts.Add(to) != nil {
				l.Add(key+".to["+strconv.Itoa(j)+"]", `write "*", ".a.b" for a.b and all below it, "a.b" for that host alone, or an address`, "%q is no host", to)
			}
		}
		var err error
		if r.path, err = regexp.Compile(rc.Path); err != nil {
			l.Add(key+".path", `write a regular expression, as in '\.deb$'`, "%v", err)
		}
		r.checkValues(key, &l)
		out = append(out, r)
	}
	return out, l
}

func (r *rule) checkValues(key string, l *problem.List) {
	c := r.RuleConfig
	if c.Bypass && !(RuleConfig{Name: c.Name, To: c.To, Path: c.Path, Bypass: true}).same(c) {
		l.Add(key+".bypass", "leave the other keys out, or bypass", "a rule that bypasses the cache has nothing else to say")
	}
	if c.MaxTTL != 0 && c.MinTTL > c.MaxTTL {
		l.Add(key+".min_ttl", "write one that is at most max_ttl", "%s is longer than max_ttl, %s", c.MinTTL, c.MaxTTL)
	}
	if c.MinUses < 0 || c.MinUses > maxUses {
		l.Add(key+".min_uses", "write a number from 0 to "+strconv.Itoa(maxUses), "%d is out of range", c.MinUses)
	}
	if c.KeyHost != "" && !header.IsToken(c.KeyHost) {
		l.Add(key+".key_host", `write one word, as in "debian"`, "%q is none", c.KeyHost)
	}
	for i, name := range c.IgnoreQuery {
		if plain := strings.TrimSuffix(name, "*"); name == "" || strings.ContainsAny(plain, "*&=;#%+ ") {
			l.Add(key+".ignore_query["+strconv.Itoa(i)+"]", `write a name as it stands in the URL, "utm_*", or "*"`, "%q names no query parameter", name)
		}
	}
	for i, what := range c.Ignore {
		j := slices.IndexFunc(ignorable, func(g ignorance) bool { return g.name == what })
		if j < 0 {
			var known []string
			for _, g := range ignorable {
				known = append(known, g.name)
			}
			l.Add(key+".ignore["+strconv.Itoa(i)+"]", "known here: "+strings.Join(known, ", "), "%q cannot be ignored", what)
			continue
		}
		r.ignore |= ignorable[j].bit
	}
}

// same compares what a rule does.
func (c RuleConfig) same(o RuleConfig) bool {
	return c.MinTTL == o.MinTTL && c.MaxTTL == o.MaxTTL && c.DefaultTTL == o.DefaultTTL && c.NegativeTTL == o.NegativeTTL &&
		c.StaleWhileRevalidate == o.StaleWhileRevalidate && c.StaleIfError == o.StaleIfError && len(c.IgnoreQuery) == len(o.IgnoreQuery) &&
		c.SortQuery == o.SortQuery && c.KeyHost == o.KeyHost && c.MinUses == o.MinUses && len(c.Ignore) == len(o.Ignore)
}

// Warnings says of each rule where it makes the cache break RFC 9111.
func (c Config) Warnings() problem.List {
	var l problem.List
	rules, _ := c.rules()
	for i, r := range rules {
		for _, b := range bends {
			if r.mayBend()&b.bit != 0 {
				l.Add("cache.rule["+strconv.Itoa(i)+"]."+r.keyOf(b.bit), "", "%q breaks RFC 9111, Section %s: %s", r.Name, b.section, b.means)
			}
		}
	}
	return l
}

// keyOf returns the key that bends what the bit says.
func (r *rule) keyOf(b bend) string {
	switch {
	case b == bendMinTTL:
		return "min_ttl"
	case b == bendNegative:
		return "negative_ttl"
	case b == bendStale && r.StaleWhileRevalidate > 0:
		return "stale_while_revalidate"
	case b == bendStale:
		return "stale_if_error"
	case b == bendKey && r.KeyHost != "":
		return "key_host"
	case b == bendKey && len(r.IgnoreQuery) > 0:
		return "ignore_query"
	case b == bendKey:
		return "sort_query"
	}
	return "ignore"
}

// matches reports whether the rule holds for a URL with the host, in canonical
// form, and the escaped path.
func (r *rule) matches(host, path string) bool {
	if len(r.To) > 0 && !r.anyHost && !r.hosts.Contain(host) {
		return false
	}
	return r.Path == "" || r.path.MatchString(path)
}
