package acl

import (
	"strings"
	"testing"
	"time"
)

func TestARefusalIsToldAsItsRuleWants(t *testing.T) {
	e := compile(t, Config{Rules: []RuleConfig{
		{Name: "gone & lost", To: []string{"gone.test"}, Action: "deny", Status: 410, Message: "Gone."},
		{Name: "a b", To: []string{"moved.test", "page.test"}, Action: "deny", Redirect: "https://page.test/x%20y?u={url}&r={rule}"},
	}}, nil)
	if v := e.Decide(ask("::1", "gone.test")); v.Answer == nil || v.Answer.Status != 410 || v.Answer.Message != "Gone." || v.Answer.Redirect("http://gone.test/", "gone.test") != "" {
		t.Errorf("%+v", v)
	}
	v := e.Decide(ask("::1", "moved.test"))
	if got, want := v.Answer.Redirect("http://moved.test/ä?a=b&{rule}\r\nX: y", "moved.test"),
		"https://page.test/x%20y?u=http%3A%2F%2Fmoved.test%2F%C3%A4%3Fa%3Db%26%7Brule%7D%0D%0AX%3A+y&r=a+b"; got != want {
		t.Errorf("%q\nwant %q", got, want)
	}
	if got := v.Answer.Redirect("http://page.test/", "page.test"); got != "" {
		t.Errorf("in circles to %q", got)
	}
	if v := e.Decide(ask("::1", "other.test")); v.Answer != nil {
		t.Errorf("the default: %+v", v)
	}
}

func TestMistakesInAnswersAreReportedAtOnce(t *testing.T) {
	c := Config{Rules: []RuleConfig{
		{Action: "allow", Status: 404, Message: "x", Redirect: "http://a.test/"},
		{Action: "deny", Status: 404, Redirect: "http://a.test/"},
		{Action: "deny", Status: 407},
		{Action: "deny", Status: 200, Message: "two\nlines"},
		{Action: "deny", Redirect: "/blocked"},
		{Action: "deny", Redirect: "ftp://a.test/"},
		{Action: "deny", Redirect: "http://a.test/{url}"},
		{Action: "deny", Redirect: "http://a.test/?{user}"},
		{Action: "deny", Redirect: "http://a.test/?x=a b"},
		{Action: "deny", Redirect: "http://u:p@a.test/"},
	}}
	golden(t, "answers.golden", lines(c.Validate()))
}

func TestAShadowDecidesNothingAndIsToldOf(t *testing.T) {
	e := compile(t, Config{Default: "allow", Rules: []RuleConfig{
		{Name: "waits", To: []string{"10.0.0.0/8"}, Action: "deny", Shadow: true},
		{Name: "first", To: []string{".a.test"}, Action: "deny", Shadow: true},
		{Name: "second", To: []string{"x.a.test"}, Action: "deny", Shadow: true},
		{Name: "real", To: []string{"y.a.test"}, Action: "deny"},
	}}, nil)
	for _, tt := range []struct {
		r            Request
		action       Action
		rule, shadow string
		pending      bool
	}{
		{ask("::1", "b.test"), Allow, "default", "", true},
		{at(ask("::1", "b.test"), "192.0.2.1"), Allow, "default", "", false},
		{at(ask("::1", "b.test"), "10.0.0.1"), Allow, "default", "waits", false},
		{ask("::1", "x.a.test"), Allow, "default", "", true},
		{at(ask("::1", "x.a.test"), "192.0.2.1"), Allow, "default", "first", false},
		{at(ask("::1", "y.a.test"), "192.0.2.1"), Deny, "real", "first", false},
	} {
		v := e.Decide(tt.r)
		if v.Action != tt.action || v.Rule != tt.rule || v.Shadow.Rule != tt.shadow || v.ShadowPending != tt.pending || v.Pending {
			t.Errorf("%+v: %+v", tt.r, v)
		}
		e.Count(v, time.Unix(1000, 0))
	}
	var got strings.Builder
	for _, r := range e.Rules() {
		got.WriteString(r.Name + strings.Repeat(" hit", int(r.Hits)) + strings.Repeat(" shadow", int(r.ShadowHits)) + "; ")
	}
	if got.String() != "waits shadow; first shadow shadow; second; real hit; default hit hit hit hit hit; " {
		t.Error(got.String())
	}
	if r := e.Rules()[0]; r.LastHit == nil || r.LastHit.Unix() != 1000 || e.Rules()[2].LastHit != nil {
		t.Errorf("%+v", e.Rules())
	}
}

func TestCountersAreKeptOverAReloadForRulesThatStayTheSame(t *testing.T) {
	rule := func(name, to string) RuleConfig { return RuleConfig{Name: name, To: []string{to}, Action: "deny"} }
	was := compile(t, Config{Rules: []RuleConfig{rule("a", "a.test"), rule("b", "b.test"), rule("c", "c.test")}}, nil)
	now := time.Unix(1000, 0)
	for _, host := range []string{"a.test", "b.test", "c.test", "d.test"} {
		was.Count(was.Decide(ask("::1", host)), now)
	}
	is := compile(t, Config{Rules: []RuleConfig{rule("c", "c.test"), rule("b", "other.test"), rule("new", "n.test"), rule("a", "a.test")}}, nil)
	is.Inherit(was)
	was.Count(was.Decide(ask("::1", "a.test")), now) // a request that began before
	is.Count(is.Decide(ask("::1", "a.test")), now)
	want := map[string]uint64{"c": 1, "b": 0, "new": 0, "a": 3, "default": 1}
	for _, r := range is.Rules() {
		if r.Hits != want[r.Name] {
			t.Errorf("%s: %d hits, want %d", r.Name, r.Hits, want[r.Name])
		}
	}
	is.Inherit(nil)
	var zero Engine
	zero.Count(zero.Decide(ask("::1", "a.test")), now)
	is.Inherit(&zero)
}
