package acl

import (
	"slices"
	"testing"
)

func TestAReloadSaysWhatChanges(t *testing.T) {
	rule := func(name, to string) RuleConfig { return RuleConfig{Name: name, To: []string{to}, Action: "deny"} }
	list := func(names ...string) ListConfig { return ListConfig{Domains: names} }
	was := compile(t, Config{
		Rules: []RuleConfig{rule("a", "a.test"), rule("b", "b.test"), rule("c", "c.test"), rule("d", "d.test"), rule("gone", "e.test")},
		Lists: map[string]ListConfig{"l": list("a.test"), "same": list("a.test"), "out": list("a.test")},
	}, nil)
	is := compile(t, Config{
		Default: "allow",
		Rules:   []RuleConfig{rule("new", "n.test"), rule("b", "b.test"), rule("c", "x.test"), rule("d", "d.test"), rule("a", "a.test")},
		Lists:   map[string]ListConfig{"l": list("a.test", "b.test"), "same": list("b.test"), "in": {Addresses: []string{"10.0.0.0/8"}}},
	}, nil)
	want := []string{
		`rule "new" added`, `rule "c" changed`, `rule "gone" removed`, `rule "a" moved from place 1 to 5`, `default allow, was deny`,
		`list "in" added, 0 domains and 1 addresses`, `list "l" has 2 domains and 0 addresses, had 1 domains and 0 addresses`, `list "out" removed`,
	}
	if got := was.Difference(is); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := is.Difference(is); len(got) > 0 {
		t.Errorf("the same: %q", got)
	}
}
