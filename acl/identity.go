package acl

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The kinds of identities, as rules write them before the colon.
const (
	User  = "user"
	Group = "group"
)

// Identity reads "user:NAME" or "group:NAME"; ok is false for anything else.
func Identity(s string) (kind, name string, ok bool) {
	kind, name, ok = strings.Cut(s, ":")
	return kind, name, ok && (kind == User || kind == Group)
}

// Identified is an identity that a rule names.
type Identified struct {
	Key  string // as in "acl.rule[0].from[1]"
	Kind string // User or Group
	Name string
}

// Identities returns the identities that rules, limits and modifiers name, in their order.
func (c Config) Identities() []Identified {
	var out []Identified
	add := func(key string, texts []string) {
		for j, s := range texts {
			if kind, name, ok := Identity(s); ok {
				out = append(out, Identified{index(key, j), kind, name})
			}
		}
	}
	for i, r := range c.Rules {
		add(index("acl.rule", i)+".from", r.From)
		add(index("acl.rule", i)+".not_from", r.NotFrom)
	}
	for i, l := range c.Limits {
		add(index("acl.limit", i)+".from", l.From)
		add(index("acl.limit", i)+".not_from", l.NotFrom)
	}
	for i, m := range c.Modify {
		add(index("acl.modify", i)+".from", m.From)
		add(index("acl.modify", i)+".not_from", m.NotFrom)
	}
	return out
}

func (r RuleConfig) namesIdentities() bool {
	named := func(s string) bool { _, _, ok := Identity(s); return ok }
	return slices.ContainsFunc(r.From, named) || slices.ContainsFunc(r.NotFrom, named)
}

// identity refuses names that no user or group can have.
func (k *compiler) identity(key, text, name string) {
	bad := func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || r == ':' || r == utf8.RuneError
	}
	if name == "" || strings.ContainsFunc(name, bad) {
		k.problems.Add(key, `write it as "user:ann" or "group:sales"`, "%s names nobody: a name is not empty, and has neither spaces nor colons", quote(text))
	}
}
