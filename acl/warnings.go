package acl

import (
	"fmt"
	"reflect"
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
			if !c.Rules[j].Shadow && scopes[j].covers(&scopes[i]) {
				out.Add(index("acl.rule", i), "the first rule that matches decides; put the narrower rule first, or delete this one",
					"%q can never decide: %q (acl.rule[%d]) holds whenever it does", names[i], names[j], j)
				break
			}
		}
		r.warnTunnel(&out, index("acl.rule", i), names[i])
	}
	return out
}

// warnTunnel tells of rules about what a tunnel hides that do not say whether
// they mean tunnels as well.
func (r RuleConfig) warnTunnel(out *problem.List, key, name string) {
	about := ""
	if hidden := r.aboutInside(); len(hidden) > 0 {
		about = hidden[0]
	}
	tunnels := holdsFor("CONNECT", r.Methods, r.NotMethods) && holdsFor(Tunnel, r.Schemes, r.NotSchemes)
	switch {
	case about == "" || !tunnels:
	case r.Action == Deny.String():
		out.Add(key+"."+about, `write schemes = ["http", "https"] where the rule means no tunnels`,
			"%q denies every tunnel (CONNECT) for which its other conditions hold, since what goes through a tunnel is not seen", name)
	case holdsFor("CONNECT", r.Methods, nil) && len(r.Methods) == 1 || len(r.Schemes) == 1 && r.Schemes[0] == Tunnel:
		out.Add(key+"."+about, "allow the tunnel by its destination", "%q can never hold: it is for tunnels alone, and what goes through one is not seen", name)
	}
}

// aboutInside returns the rule's keys that are about what a tunnel hides.
func (r RuleConfig) aboutInside() (keys []string) {
	for _, c := range []struct {
		key string
		set bool
	}{{"path", r.Path != ""}, {"query", r.Query != ""}, {"header", len(r.Header) > 0}, {"user_agent", r.UserAgent != ""},
		{"not_path", r.NotPath != ""}, {"not_query", r.NotQuery != ""}, {"not_header", len(r.NotHeader) > 0}, {"not_user_agent", r.NotUserAgent != ""}} {
		if c.set {
			keys = append(keys, c.key)
		}
	}
	return keys
}

func holdsFor(value string, only, not []string) bool {
	return (len(only) == 0 || slices.Contains(only, value)) && !slices.Contains(not, value)
}

// scope is what a rule holds for, as far as its own text says: a list is known
// by its name alone, and what is neither place, port nor method by its text.
type scope struct {
	malformed bool
	action    string
	from, to  place
	ports     []unit.PortRange
	methods   []string
	texts     map[string]string
	doubtful  bool // holds for more where it denies than where it allows
}

type place struct {
	any     bool
	lists   []string // and identities: what is known by its name alone
	entries []entry
	set     set
}

func scopeOf(r RuleConfig) scope {
	s := scope{action: r.Action, ports: r.Ports, methods: r.Methods, texts: map[string]string{}}
	ok := s.from.read(r.From)
	s.malformed = !s.to.read(r.To) || !ok
	if r.connects() {
		s.methods = []string{"CONNECT"} // which is a part of any methods that the rule may have
	}
	v := reflect.ValueOf(r)
	for i := range v.NumField() {
		key, value := v.Type().Field(i).Tag.Get("toml"), v.Field(i)
		switch key {
		case "name", "from", "to", "ports", "methods", "action", "status", "message", "redirect", "shadow":
			continue
		}
		if value.Len() > 0 {
			s.texts[key] = fmt.Sprintf("%q", value)
		}
	}
	s.doubtful = len(s.texts) > 0 || r.namesIdentities()
	return s
}

func (p *place) read(texts []string) bool {
	p.any = len(texts) == 0
	for _, text := range texts {
		switch {
		case text == "*":
			p.any = true
		case strings.HasPrefix(text, "list:"), strings.HasPrefix(text, User+":"), strings.HasPrefix(text, Group+":"):
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
	p.set.seal()
	return true
}

// covers reports whether a surely holds whenever b does, for methods in upper
// case.
func (a *scope) covers(b *scope) bool {
	for key, text := range a.texts {
		if b.texts[key] != text {
			return false
		}
	}
	if a.action != Deny.String() && b.action != a.action && a.doubtful {
		return false
	}
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
