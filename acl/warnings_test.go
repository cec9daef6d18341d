package acl

import (
	"testing"

	"fwdproxy/internal/unit"
)

func TestWarningsNameRulesThatCanNeverDecide(t *testing.T) {
	rule := func(name string, change func(*RuleConfig)) RuleConfig {
		r := RuleConfig{Name: name, Action: "deny"}
		if change != nil {
			change(&r)
		}
		return r
	}
	to := func(to ...string) func(*RuleConfig) { return func(r *RuleConfig) { r.To = to } }
	from := func(from ...string) func(*RuleConfig) { return func(r *RuleConfig) { r.From = from } }
	methods := func(m ...string) func(*RuleConfig) { return func(r *RuleConfig) { r.Methods = m } }
	ports := func(first, last uint16) func(*RuleConfig) {
		return func(r *RuleConfig) { r.Ports = []unit.PortRange{{First: first, Last: last}} }
	}
	for _, tt := range []struct {
		a, b func(*RuleConfig)
		dead bool
	}{
		{nil, nil, true},
		{nil, to("a.test"), true},
		{to("*"), to("a.test"), true},
		{to("a.test"), nil, false},
		{to("a.test"), to("*"), false},
		{to("a.test"), to("a.test"), true},
		{to(".a.test"), to("a.test", "x.a.test", ".y.a.test"), true},
		{to("a.test"), to(".a.test"), false},
		{to(".a.test"), to("xa.test"), false},
		{to(".a.test"), to("a.test", "b.test"), false},
		{to("10.0.0.0/8"), to("10.1.2.3"), true},
		{to("10.0.0.0/8"), to("10.1.0.0/16"), true},
		{to("10.1.0.0/16"), to("10.0.0.0/8"), false},
		{to("10.0.0.0/8"), to("a.test"), false},
		{to("list:l"), to("list:l"), true},
		{to("list:l"), to("list:m"), false},
		{to("list:l", "list:m", "x.test"), to("list:m", "X.test"), true},
		{from("10.0.0.0/8"), from("10.0.0.1"), true},
		{from("10.0.0.1"), from("10.0.0.0/8"), false},
		{from("10.0.0.1"), to("a.test"), false},
		{ports(80, 90), ports(81, 90), true},
		{ports(80, 90), ports(81, 91), false},
		{methods("GET", "POST"), methods("POST"), true},
		{methods("POST"), methods("GET", "POST"), false},
		{to("not a host"), to("not a host"), false},
	} {
		c := Config{Rules: []RuleConfig{rule("first", tt.a), rule("second", tt.b)}}
		w := c.Warnings()
		if dead := len(w) == 1 && w[0].Key == "acl.rule[1]"; dead != tt.dead || len(w) > 1 {
			t.Errorf("%+v: %v", c.Rules, w)
		}
	}
	c := Config{Rules: []RuleConfig{{To: []string{"10.0.0.0/8"}, Action: "allow"}, {Action: "allow"}, {To: []string{"10.1.2.3"}, Action: "deny"}}}
	same(t, lines(c.Warnings()), `acl.rule[2]: "rule 3" can never decide: "rule 1" (acl.rule[0]) holds whenever it does`+
		" (the first rule that matches decides; put the narrower rule first, or delete this one)\n")
}
