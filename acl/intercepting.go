package acl

import "strings"

// Intercepting is a rule that intercepts, for who makes an authority for it.
type Intercepting struct {
	Key     string
	Domains []string // as the policy writes them
	Bounded bool     // Domains are all that the rule intercepts
}

// Intercepting returns the rules that intercept. A rule is bounded where it
// names domains alone, itself or by lists that have no files.
func (c Config) Intercepting() (out []Intercepting) {
	for i, r := range c.Rules {
		if r.Action != wordIntercept {
			continue
		}
		one := Intercepting{Key: index("acl.rule", i), Bounded: len(r.To) > 0}
		for _, text := range r.To {
			if name, is := strings.CutPrefix(text, "list:"); is {
				l := c.Lists[name]
				one.Domains = append(one.Domains, l.Domains...)
				one.Bounded = one.Bounded && len(l.Addresses)+len(l.Files) == 0
				continue
			}
			if _, bad := parseDomain(text); bad != nil {
				one.Bounded = false
				continue
			}
			one.Domains = append(one.Domains, text)
		}
		out = append(out, one)
	}
	return out
}

// IsDomain reports whether the text is a domain as rules write it: "a.b", or
// ".a.b".
func IsDomain(text string) bool {
	_, bad := parseDomain(text)
	return bad == nil
}
