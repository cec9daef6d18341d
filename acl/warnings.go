package acl

import (
	"slices"
	"strings"

	"fwdproxy/internal/problem"
	"fwdproxy/internal/unit"
)

// Warnings returns what is allowed and yet surely not meant: rules that can
// never decide, because one before them holds whenever they do. In particular
// a rule about 10.1.2.3 that stands behind one about 10.0.0.0/8 has no effect,
// as has every rule behind one without conditions.
func (c Config) Warnings() problem.List {
	var out problem.List
	names := c.names()
	scopes := make([]scope, len(c.Rules))
	for i, r := range c.Rules {
		scopes[i] = scopeOf(r)
		for j := range i {
			if scopes[j].covers(&scopes[i]) {
				out.Add(index("acl.rule", i), "the first rule that matches decides; put the narrower rule first, or delete this one",
					"%q can never decide: %q (acl.rule[%d]) holds whenever it does", names[i], names[j], j)
				break
			}
		}
	}
	return out
}

// scope is what a rule holds for, as far as its own text says: a list is known
// by its name alone.
type scope struct {
	malformed bool
	from, to  place
	ports     []unit.PortRange
	methods   []string
}

type place struct {
	any     bool
	lists   []string
	entries []entry
	set     set
}

func scopeOf(r RuleConfig) scope {
	s := scope{ports: r.Ports, methods: r.Methods}
	ok := s.from.read(r.From)
	s.malformed = !s.to.read(r.To) || !ok
	return s
}

func (p *place) read(texts []string) bool {
	p.any = len(texts) == 0
	for _, text := range texts {
		switch {
		case text == "*":
			p.any = true
		case strings.HasPrefix(text, "list:"):
			p.lists = append(p.lists, text)
		default:
			e, bad := parseEntry(text)
			if bad != nil {
				return false
			}
			p.entries = append(p.entries, e)
			p.set.add(e)
		}
	}
	p.set.addresses.seal()
	return true
}

// covers reports whether a surely holds whenever b does, for methods in upper
// case.
func (a *scope) covers(b *scope) bool {
	return !a.malformed && !b.malformed && a.from.covers(&b.from) && a.to.covers(&b.to) &&
		covers(a.ports, b.ports, func(a, b unit.PortRange) bool { return a.First <= b.First && b.Last <= a.Last }) &&
		covers(a.methods, b.methods, func(a, b string) bool { return a == b })
}

func (p *place) covers(q *place) bool {
	if p.any || q.any {
		return p.any
	}
	return !slices.ContainsFunc(q.lists, func(l string) bool { return !slices.Contains(p.lists, l) }) &&
		!slices.ContainsFunc(q.entries, func(e entry) bool { return !p.set.covers(e) })
}

// covers reports whether condition a holds whenever b does, where each is a
// choice of values and none at all means any.
func covers[T any](a, b []T, contains func(a, b T) bool) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) == 0
	}
	return !slices.ContainsFunc(b, func(narrow T) bool {
		return !slices.ContainsFunc(a, func(wide T) bool { return contains(wide, narrow) })
	})
}
