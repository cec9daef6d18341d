package acl

import (
	"strings"
	"testing"
)

// RFC 9110, Section 11.7.1: a proxy that requires authentication challenges.
// Here it does so only where a rule could make a difference.
func TestOnlyARuleThatCouldChangeTheOutcomeMakesAChallenge(t *testing.T) {
	rule := func(action, from, to string) RuleConfig {
		r := RuleConfig{Action: action}
		if not, ok := strings.CutPrefix(from, "!"); ok {
			r.NotFrom = []string{not}
		} else if from != "" {
			r.From = strings.Split(from, " ")
		}
		if to != "" {
			r.To = []string{to}
		}
		return r
	}
	const named = "a.test"
	for name, c := range map[string]struct {
		rules []RuleConfig
		want  string // of nobody, who may be asked
		known string // of ann, who is in sales
		never string // of nobody, who cannot be asked
	}{
		"allowed to a group, else denied":               {[]RuleConfig{rule("allow", "group:sales", "")}, "challenge by rule 1", "allow", "deny"},
		"denied to a group, else allowed":               {[]RuleConfig{rule("deny", "group:sales", ""), rule("allow", "", "")}, "challenge by rule 1", "deny", "deny"},
		"allowed to everybody before":                   {[]RuleConfig{rule("allow", "", ""), rule("deny", "user:ann", "")}, "allow", "allow", "allow"},
		"allowed to a user and to everybody":            {[]RuleConfig{rule("allow", "user:ann", ""), rule("allow", "", "")}, "allow", "allow", "allow"},
		"denied to a user and to everybody":             {[]RuleConfig{rule("deny", "user:ann", "")}, "deny", "deny", "deny"},
		"about another place":                           {[]RuleConfig{rule("allow", "user:ann", "b.test")}, "deny", "deny", "deny"},
		"an address that is enough":                     {[]RuleConfig{rule("allow", "10.0.0.0/8 group:sales", "")}, "allow", "allow", "allow"},
		"an address that is not":                        {[]RuleConfig{rule("allow", "192.0.2.0/24 group:sales", "")}, "challenge by rule 1", "allow", "deny"},
		"to all but a user":                             {[]RuleConfig{rule("allow", "!user:bob", "")}, "challenge by rule 1", "allow", "deny"},
		"denied to all but a group":                     {[]RuleConfig{rule("deny", "!group:sales", ""), rule("allow", "", "")}, "challenge by rule 1", "allow", "deny"},
		"to nobody without an address":                  {[]RuleConfig{rule("allow", "!user:bob", "192.0.2.0/24")}, "challenge by rule 1", "pending on rule 1", "deny"},
		"an address that nobody must name for":          {[]RuleConfig{rule("allow", "", "192.0.2.0/24"), rule("allow", "user:ann", "")}, "pending on rule 1", "allow", "pending on rule 1"},
		"an address that is denied before one is asked": {[]RuleConfig{rule("deny", "", "192.0.2.0/24"), rule("allow", "user:ann", "")}, "challenge by rule 2", "pending on rule 1", "deny"},
		"an address behind a denied user":               {[]RuleConfig{rule("deny", "user:bob", ""), rule("allow", "", "192.0.2.0/24")}, "challenge by rule 1", "pending on rule 2", "deny"},
	} {
		e := compile(t, Config{Rules: c.rules}, nil)
		for _, ask := range []struct {
			q    Request
			want string
		}{
			{asked(ask("10.0.0.1", named), person{"", nil, true}), c.want},
			{asked(ask("10.0.0.1", named), person{"ann", []string{"sales"}, true}), c.known},
			{asked(ask("10.0.0.1", named), person{}), c.never},
		} {
			v := e.Decide(ask.q)
			got := v.Action.String()
			if v.Pending {
				got = "pending on " + v.Rule
			} else if v.Challenge {
				got = "challenge by " + v.Rule
			}
			if got != ask.want {
				t.Errorf("%s: %q gets %s, want %s", name, ask.q.User, got, ask.want)
			}
		}
	}
}

func TestWhereTheAddressIsNeverLearntWhoAsksMayStillBeAsked(t *testing.T) {
	e := compile(t, Config{Rules: []RuleConfig{{To: []string{"192.0.2.0/24"}, Action: "allow"}, {From: []string{"user:ann"}, Action: "allow"}}}, nil)
	if v := e.Decide(asked(ask("10.0.0.1", "a.test"), person{"", nil, true})); !v.Pending || !v.Challenge {
		t.Errorf("%+v", v)
	}
	e = compile(t, Config{Rules: []RuleConfig{{To: []string{"192.0.2.0/24"}, Action: "allow"}, {From: []string{"user:ann"}, Action: "deny"}}}, nil)
	if v := e.Decide(asked(ask("10.0.0.1", "a.test"), person{"", nil, true})); !v.Pending || v.Challenge {
		t.Errorf("nobody could be allowed: %+v", v)
	}
	e = compile(t, Config{Rules: []RuleConfig{{To: []string{"192.0.2.0/24"}, Action: "deny"}, {Action: "allow"}}}, nil)
	if v := e.Decide(asked(ask("10.0.0.1", "a.test"), person{"", nil, true})); !v.Pending || v.Challenge {
		t.Errorf("no rule asks: %+v", v)
	}
	e = compile(t, Config{Rules: []RuleConfig{{From: []string{"group:sales"}, To: []string{"192.0.2.0/24"}, Action: "deny"}, {Action: "allow"}}}, nil)
	if v := e.Decide(asked(ask("10.0.0.1", "a.test"), person{"", nil, true})); !v.Pending || !v.Challenge {
		t.Errorf("it hangs on both: %+v", v)
	}
}

func TestAShadowAsksNobodyWhoTheyAre(t *testing.T) {
	e := compile(t, Config{Rules: []RuleConfig{{From: []string{"group:sales"}, Action: "deny", Shadow: true}, {Action: "allow"}}}, nil)
	q := asked(ask("10.0.0.1", "a.test"), person{"", nil, true})
	if v := e.Decide(q); v.Action != Allow || v.Challenge || v.Shadow.Rule != "" || v.ShadowPending {
		t.Errorf("nobody gets %+v", v)
	}
	if v := e.Decide(asked(q, person{"ann", []string{"sales"}, true})); v.Shadow.Rule != "rule 1" {
		t.Errorf("ann gets %+v", v)
	}
}

// Where nobody can be asked, the second of these decides.
func TestARuleAboutAUserIsDeadBehindOneThatHoldsInDoubtToo(t *testing.T) {
	ann := func(action string) RuleConfig { return RuleConfig{From: []string{"user:ann"}, Action: action} }
	for name, c := range map[string]struct {
		rules []RuleConfig
		dead  int
	}{
		"allow, then deny":   {[]RuleConfig{ann("allow"), ann("deny")}, 0},
		"deny, then allow":   {[]RuleConfig{ann("deny"), ann("allow")}, 1},
		"allow, then allow":  {[]RuleConfig{ann("allow"), ann("allow")}, 1},
		"another identity":   {[]RuleConfig{ann("deny"), {From: []string{"group:ann"}, Action: "allow"}}, 0},
		"one of several":     {[]RuleConfig{{From: []string{"user:bob", "user:ann"}, Action: "deny"}, ann("allow")}, 1},
		"more than was said": {[]RuleConfig{ann("deny"), {From: []string{"user:bob", "user:ann"}, Action: "allow"}}, 0},
	} {
		if w := (Config{Rules: c.rules}).Warnings(); len(w) != c.dead {
			t.Errorf("%s: %v", name, w)
		}
	}
	e := compile(t, Config{Rules: []RuleConfig{ann("allow"), ann("deny"), {Action: "allow"}}}, nil)
	if v := e.Decide(ask("10.0.0.1", "a.test")); v.Index != 1 {
		t.Errorf("%+v", v)
	}
}

func TestWhatTheRulesNameIsKnown(t *testing.T) {
	c := Config{Rules: []RuleConfig{{}, {From: []string{"10.0.0.1", "user:ann"}, NotFrom: []string{"group:sales"}}}}
	got := c.Identities()
	want := []Identified{{"acl.rule[1].from[1]", User, "ann"}, {"acl.rule[1].not_from[0]", Group, "sales"}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%+v", got)
	}
}
