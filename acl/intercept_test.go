package acl

import (
	"strings"
	"testing"
)

// The policy that most people begin with: banks stay closed, the rest is looked
// into, and in there paths decide.
func TestATunnelIsDecidedByItselfAndEachRequestInItByTheSameRules(t *testing.T) {
	e := compile(t, Config{Rules: []RuleConfig{
		{Name: "banks stay closed", To: []string{".bank.test"}, Action: "tunnel"},
		{Name: "no uploads", To: []string{"code.test"}, Methods: []string{"POST"}, Action: "deny"},
		{Name: "look into", To: []string{"code.test", "bank.test"}, Action: "intercept"},
		{Name: "our code", To: []string{"code.test"}, Path: "^/ours/", Action: "allow"},
	}}, nil)
	request := func(method, host, path string) Request {
		q := ask("::1", host)
		q.Method, q.Scheme, q.Path = method, "https", path
		return q
	}
	for _, tt := range []struct {
		q      Request
		action Action
		rule   string
	}{
		{request("CONNECT", "www.bank.test", ""), Allow, "banks stay closed"},
		{request("CONNECT", "code.test", ""), Intercept, "look into"},
		{request("CONNECT", "else.test", ""), Deny, "default"},
		{request("GET", "code.test", "/ours/a"), Allow, "our code"},
		{request("GET", "code.test", "/theirs/a"), Deny, "default"},
		{request("GET", "code.test", "/ours/../theirs"), Deny, "default"},
		{request("POST", "code.test", "/ours/a"), Deny, "no uploads"},
		{request("GET", "www.bank.test", "/"), Deny, "default"}, // a tunnel rule decides about no request
	} {
		v, steps := e.Explain(tt.q)
		if v.Action != tt.action || v.Rule != tt.rule || v.Pending || v.ActionPending || v != e.Decide(tt.q) {
			t.Errorf("%s %s%s: %+v", tt.q.Method, tt.q.Host, tt.q.Path, v)
		}
		if tt.q.Method == "GET" && steps[0].Why != "it is about CONNECT alone" {
			t.Errorf("%s%s: %+v", tt.q.Host, tt.q.Path, steps[0])
		}
	}
	if !e.Intercepts() || Intercept.String() != "intercept" || Deny.Permits() || !Intercept.Permits() {
		t.Error("the action does not say what it is")
	}
}

func TestWhetherToInterceptWaitsForTheAddressAndForWhoAsks(t *testing.T) {
	connect := func(p person) Request {
		q := ask("::1", "a.test")
		q.Method = "CONNECT"
		return asked(q, p)
	}
	nobody, ann := person{"", nil, true}, person{"ann", nil, true}
	byAddress := compile(t, Config{Default: "allow", Rules: []RuleConfig{{Name: "inside", To: []string{"192.0.2.0/24"}, Action: "intercept"}}}, nil)
	if v := byAddress.Decide(connect(nobody)); v.Action != Allow || !v.ActionPending {
		t.Errorf("before the address is known: %+v", v)
	}
	if v := byAddress.Decide(at(connect(nobody), "192.0.2.1")); v.Action != Intercept || v.ActionPending {
		t.Errorf("at an address of the rule: %+v", v)
	}
	byUser := compile(t, Config{Default: "allow", Rules: []RuleConfig{{Name: "her", From: []string{"user:ann"}, Action: "intercept"}}}, nil)
	if v := byUser.Decide(connect(nobody)); v.Action != Deny || !v.Challenge || v.Pending || v.Rule != "her" {
		t.Errorf("who has not said who they are could slip by: %+v", v)
	}
	if v := byUser.Decide(connect(ann)); v.Action != Intercept {
		t.Errorf("ann: %+v", v)
	}
	inside := compile(t, Config{Rules: []RuleConfig{
		{Name: "open", Action: "intercept"},
		{Name: "elsewhere", To: []string{"b.test"}, From: []string{"user:ann"}, Action: "allow"},
		{Name: "tunnels", Schemes: []string{"tunnel"}, From: []string{"user:ann"}, Action: "allow"},
		{Name: "hers", From: []string{"user:ann"}, Path: "^/hers", Action: "allow"},
	}}, nil)
	if v := inside.Decide(connect(nobody)); !v.Challenge || v.Rule != "hers" {
		t.Errorf("inside nobody can be asked, so that they must be before: %+v", v)
	}
	if v := inside.Decide(connect(person{"bob", nil, true})); v.Action != Intercept || v.Rule != "open" {
		t.Errorf("bob: %+v", v)
	}
}

func TestAConditionThatNoCONNECTCanMeetIsAProblemOfARuleAboutCONNECT(t *testing.T) {
	c := Config{Rules: []RuleConfig{
		{Action: "intercept", Path: "^/a", NotHeader: map[string]string{"x": "y"}},
		{Action: "tunnel", Methods: []string{"GET"}},
		{Action: "intercept", Schemes: []string{"https"}},
		{Action: "intercept", Status: 404},
		{Action: "intercept", Methods: []string{"CONNECT"}, Schemes: []string{"tunnel"}},
	}}
	got := lines(c.Validate())
	for _, want := range []string{"acl.rule[0].path:", "acl.rule[0].not_header:", "acl.rule[1].action:", "acl.rule[2].action:", "acl.rule[3].status:"} {
		if !strings.Contains(got, want) {
			t.Errorf("no problem of %s in\n%s", want, got)
		}
	}
	if strings.Contains(got, "acl.rule[4]") {
		t.Error(got)
	}
}

func TestAnInterceptRuleHidesNoRuleAboutRequestsFromTheWarnings(t *testing.T) {
	c := Config{Rules: []RuleConfig{
		{Name: "look", Action: "intercept"},
		{Name: "dead", To: []string{"a.test"}, Action: "tunnel"},
		{Name: "alive", To: []string{"a.test"}, Action: "allow"},
	}}
	got := lines(c.Warnings())
	if !strings.Contains(got, "acl.rule[1]") || strings.Contains(got, "acl.rule[2]") {
		t.Error(got)
	}
}
