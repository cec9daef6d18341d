package acl

import (
	"net/netip"
	"strings"
	"testing"

	"fwdproxy/internal/unit"
)

func TestTheZeroValueOfEverythingDenies(t *testing.T) {
	var action Action
	var verdict Verdict
	var engine Engine
	if action != Deny || verdict.Action != Deny || verdict.Action.String() != "deny" || Allow.String() != "allow" || Action(7).String() != "deny" {
		t.Error("the zero action is not deny")
	}
	if v := engine.Decide(ask("10.0.0.1", "a.test")); v.Action != Deny || v.Index != -1 || v.Rule != "default" || v.Pending {
		t.Errorf("the zero engine decides %+v", v)
	}
	if engine.Destination(netip.MustParseAddr("10.0.0.1")) == nil || engine.Destination(netip.Addr{}) == nil {
		t.Error("the zero engine has no guard")
	}
	for name, c := range map[string]Config{"zero": {}, "default": DefaultConfig()} {
		e := compile(t, c, nil)
		if v := e.Decide(ask("10.0.0.1", "a.test")); v.Action != Deny || e.Default() != Deny || e.Destination(netip.MustParseAddr("127.0.0.1")) == nil {
			t.Errorf("the %s policy decides %+v", name, v)
		}
	}
}

func TestARequestThatLacksAnythingIsDeniedEvenWhereTheDefaultAllows(t *testing.T) {
	e := compile(t, Config{Default: "allow", Rules: []RuleConfig{{Action: "allow"}}}, nil)
	if v := e.Decide(ask("10.0.0.1", "a.test")); v.Action != Allow {
		t.Fatalf("the whole request: %+v", v)
	}
	for name, lack := range map[string]func(*Request){
		"client": func(r *Request) { r.Client = netip.Addr{} },
		"method": func(r *Request) { r.Method = "" },
		"host":   func(r *Request) { r.Host = "" },
		"port":   func(r *Request) { r.Port = 0 },
	} {
		r := ask("10.0.0.1", "a.test")
		lack(&r)
		if v := e.Decide(r); v.Action != Deny || v.Pending || v.Index != -1 {
			t.Errorf("without %s: %+v", name, v)
		}
	}
}

func TestAConditionHoldsForWhatItNames(t *testing.T) {
	lists := map[string]ListConfig{
		"mixed":  {Domains: []string{".social.test", "only.test"}, Addresses: []string{"203.0.113.0/24", "2001:db8::/32", "10.9.9.9"}},
		"people": {Addresses: []string{"10.20.0.0/16", "fe80::/10"}},
		"filed":  {Files: []string{"f.txt"}},
	}
	opened := files{"f.txt": "||ads.test^\nplain.test\n198.51.100.0/24\n"}
	for _, tt := range []struct {
		rule    RuleConfig
		holds   []Request
		not     []Request
		because string
	}{
		{rule: RuleConfig{}, holds: []Request{ask("10.0.0.1", "a.test"), ask("::1", "192.0.2.1")}, because: "all conditions"},
		{rule: RuleConfig{To: []string{"*"}}, holds: []Request{ask("10.0.0.1", "a.test"), ask("::1", "192.0.2.1")}, because: "all conditions"},
		{rule: RuleConfig{From: []string{"10.0.0.0/8", "2001:db8::7"}},
			holds: []Request{ask("10.255.255.255", "a.test"), ask("2001:db8::7", "a.test"), ask("::ffff:10.0.0.1", "a.test")},
			not:   []Request{ask("11.0.0.0", "a.test"), ask("9.255.255.255", "a.test"), ask("2001:db8::8", "a.test")}},
		{rule: RuleConfig{From: []string{"::ffff:10.0.0.0/104"}},
			holds: []Request{ask("10.1.2.3", "a.test")}, not: []Request{ask("11.0.0.1", "a.test")}},
		{rule: RuleConfig{From: []string{"list:people", "192.0.2.1"}},
			holds: []Request{ask("10.20.3.4", "a.test"), ask("192.0.2.1", "a.test"), ask("fe80::1%eth0", "a.test")},
			not:   []Request{ask("10.21.0.0", "a.test"), ask("192.0.2.2", "a.test")}},
		{rule: RuleConfig{To: []string{".a.test"}}, because: "host name",
			holds: []Request{ask("::1", "a.test"), ask("::1", "b.a.test"), ask("::1", "c.b.a.test")},
			not:   []Request{ask("::1", "test"), ask("::1", "ba.test"), ask("::1", "a.test.b"), ask("::1", "a.testx")}},
		{rule: RuleConfig{To: []string{"a.test"}}, because: "host name",
			holds: []Request{ask("::1", "a.test")},
			not:   []Request{ask("::1", "b.a.test"), ask("::1", "test"), ask("::1", "xa.test")}},
		{rule: RuleConfig{To: []string{"BÜCHER.example.", ".Ünder.test"}}, because: "host name",
			holds: []Request{ask("::1", "xn--bcher-kva.example"), ask("::1", "www.xn--nder-zra.test")},
			not:   []Request{ask("::1", "bucher.example")}},
		{rule: RuleConfig{To: []string{".test"}}, because: "host name",
			holds: []Request{ask("::1", "test"), ask("::1", "a.b.test")}, not: []Request{ask("::1", "a.tests")}},
		{rule: RuleConfig{To: []string{"192.0.2.7", "198.51.100.0/24", "2001:db8::/32", "::ffff:203.0.113.1"}}, because: "address",
			holds: []Request{ask("::1", "192.0.2.7"), ask("::1", "198.51.100.255"), ask("::1", "2001:db8:ffff::"), ask("::1", "203.0.113.1"),
				at(ask("::1", "a.test"), "192.0.2.7"), at(ask("::1", "a.test"), "::ffff:192.0.2.7"), at(ask("::1", "a.test"), "2001:db8::1%eth0")},
			not: []Request{ask("::1", "192.0.2.8"), ask("::1", "198.51.101.0"), ask("::1", "2001:db9::"), at(ask("::1", "a.test"), "203.0.113.2")}},
		{rule: RuleConfig{To: []string{"list:mixed"}}, because: "list:mixed",
			holds: []Request{ask("::1", "www.social.test"), ask("::1", "only.test"), ask("::1", "203.0.113.9"), at(ask("::1", "x.test"), "10.9.9.9")},
			not:   []Request{at(ask("::1", "www.only.test"), "10.9.9.8"), ask("::1", "203.0.114.0")}},
		{rule: RuleConfig{To: []string{"list:filed"}}, because: "list:filed",
			holds: []Request{ask("::1", "x.ads.test"), ask("::1", "plain.test"), ask("::1", "198.51.100.1")},
			not:   []Request{at(ask("::1", "www.plain.test"), "192.0.2.1")}},
		{rule: RuleConfig{Ports: []unit.PortRange{{First: 80, Last: 80}, {First: 8443, Last: 8449}}},
			holds: []Request{port(80), port(8443), port(8446), port(8449)}, not: []Request{port(79), port(81), port(8442), port(8450), port(65535)}},
		{rule: RuleConfig{Methods: []string{"GET", "M-SEARCH"}},
			holds: []Request{method("GET"), method("M-SEARCH")}, not: []Request{method("POST"), method("HEAD"), method("GETS"), method("get")}},
		{rule: RuleConfig{From: []string{"10.0.0.1"}, To: []string{"a.test"}, Ports: []unit.PortRange{{First: 80, Last: 80}}, Methods: []string{"GET"}},
			holds: []Request{ask("10.0.0.1", "a.test")},
			not:   []Request{ask("10.0.0.2", "a.test"), ask("10.0.0.1", "b.test"), port(81), method("PUT")}},
	} {
		tt.rule.Name, tt.rule.Action = "it", "allow"
		e := compile(t, Config{Lists: lists, Rules: []RuleConfig{tt.rule}}, opened)
		for _, r := range tt.holds {
			v := e.Decide(r)
			if v.Action != Allow || v.Rule != "it" || v.Index != 0 || v.Pending || !strings.Contains(v.Reason, tt.because) {
				t.Errorf("%+v should hold for %+v: %+v", tt.rule, r, v)
			}
		}
		for _, r := range tt.not {
			if v := e.Decide(r); v.Action != Deny || v.Rule != "default" || v.Index != -1 || v.Pending {
				t.Errorf("%+v should not hold for %+v: %+v", tt.rule, r, v)
			}
		}
	}
}

func port(p uint16) Request {
	r := ask("10.0.0.1", "a.test")
	r.Port = p
	return r
}

func method(m string) Request {
	r := ask("10.0.0.1", "a.test")
	r.Method = m
	return r
}

func TestADenyingRuleHoldsForEverySpellingOfItsMethod(t *testing.T) {
	e := compile(t, Config{Default: "allow", Rules: []RuleConfig{{Methods: []string{"POST"}, Action: "deny"}}}, nil)
	for m, want := range map[string]Action{"POST": Deny, "post": Deny, "Post": Deny, "PUT": Allow} {
		if v := e.Decide(method(m)); v.Action != want {
			t.Errorf("%s: %+v", m, v)
		}
	}
}

func TestADomainNeverHoldsForAnAddress(t *testing.T) {
	e := compile(t, Config{Rules: []RuleConfig{{To: []string{".test", "a.b"}, Action: "allow"}}}, nil)
	r := ask("::1", "192.0.2.1")
	r.Host = "a.test" // even where the two texts of the host disagree
	if v := e.Decide(r); v.Action != Deny {
		t.Errorf("%+v", v)
	}
}

func TestTheFirstRuleThatMatchesDecides(t *testing.T) {
	c := Config{Default: "allow", Rules: []RuleConfig{
		{To: []string{"good.bad.test"}, Action: "allow"},
		{Name: "no bad", To: []string{".bad.test"}, Action: "deny"},
		{To: []string{".bad.test"}, From: []string{"10.0.0.1"}, Action: "allow"},
		{To: []string{"10.1.2.3"}, Action: "deny"},
		{To: []string{"10.1.0.0/16"}, Action: "allow"},
		{To: []string{"10.0.0.0/8"}, Action: "deny"},
		{To: []string{"10.2.0.0/16"}, Action: "allow"},
	}}
	e := compile(t, c, nil)
	for host, want := range map[string]Verdict{
		"good.bad.test": {Action: Allow, Rule: "rule 1", Index: 0},
		"x.bad.test":    {Action: Deny, Rule: "no bad", Index: 1},
		"10.1.2.3":      {Action: Deny, Rule: "rule 4", Index: 3},
		"10.1.2.4":      {Action: Allow, Rule: "rule 5", Index: 4},
		"10.2.0.1":      {Action: Deny, Rule: "rule 6", Index: 5},
		"192.0.2.1":     {Action: Allow, Rule: "default", Index: -1},
	} {
		v := e.Decide(ask("10.0.0.1", host))
		if v.Reason = ""; v != want {
			t.Errorf("%s: %+v, want %+v", host, v, want)
		}
	}
	rules := e.Rules()
	if len(rules) != len(c.Rules)+1 || rules[0] != (RuleInfo{Name: "rule 1", Action: "allow"}) || rules[1] != (RuleInfo{Name: "no bad", Action: "deny"}) || rules[7].Name != "default" || e.Default() != Allow {
		t.Errorf("Rules() = %v", rules)
	}
}

func TestARuleAboutAddressesWaitsForTheAddressOfAName(t *testing.T) {
	lists := map[string]ListConfig{"nets": {Domains: []string{"named.test"}, Addresses: []string{"203.0.113.0/24"}}}
	allow := func(to ...string) RuleConfig { return RuleConfig{To: to, Action: "allow"} }
	deny := func(to ...string) RuleConfig { return RuleConfig{To: to, Action: "deny"} }
	const inside, outside = "203.0.113.5", "198.51.100.5"
	for name, tt := range map[string]struct {
		byDefault string
		rules     []RuleConfig
		host      string
		unsettled string // the rule that waits; "" when the verdict is settled without address
		in, out   Action
	}{
		"a denying rule before the default that allows":   {"allow", []RuleConfig{deny("203.0.113.0/24")}, "a.test", "rule 1", Deny, Allow},
		"an allowing rule before the default that denies": {"deny", []RuleConfig{allow("203.0.113.0/24")}, "a.test", "rule 1", Allow, Deny},
		"a rule with the outcome of the default":          {"deny", []RuleConfig{deny("203.0.113.0/24")}, "a.test", "", Deny, Deny},
		"through a list":                                  {"allow", []RuleConfig{deny("list:nets")}, "a.test", "rule 1", Deny, Allow},
		"the list has the name itself":                    {"allow", []RuleConfig{deny("list:nets")}, "named.test", "", Deny, Deny},
		"the name matches next to the prefix":             {"allow", []RuleConfig{deny("203.0.113.0/24", ".a.test")}, "x.a.test", "", Deny, Deny},
		"the match stands before":                         {"deny", []RuleConfig{allow("a.test"), deny("203.0.113.0/24")}, "a.test", "", Allow, Allow},
		"the match stands behind":                         {"deny", []RuleConfig{deny("203.0.113.0/24"), allow("a.test")}, "a.test", "rule 1", Deny, Allow},
		"the match behind has the same outcome":           {"allow", []RuleConfig{deny("203.0.113.0/24"), deny("a.test")}, "a.test", "", Deny, Deny},
		"the second rule waits, the first agrees":         {"deny", []RuleConfig{allow("203.0.113.9"), deny("203.0.113.0/24"), allow("*")}, "a.test", "rule 2", Deny, Allow},
		"another condition does not hold":                 {"allow", []RuleConfig{{To: []string{"203.0.113.0/24"}, Methods: []string{"POST"}, Action: "deny"}}, "a.test", "", Allow, Allow},
		"the client is another":                           {"allow", []RuleConfig{{To: []string{"203.0.113.0/24"}, From: []string{"10.9.0.0/16"}, Action: "deny"}}, "a.test", "", Allow, Allow},
		"no rule is about addresses":                      {"allow", []RuleConfig{deny(".b.test")}, "a.test", "", Allow, Allow},
		"all destinations":                                {"allow", []RuleConfig{deny("203.0.113.0/24", "*")}, "a.test", "", Deny, Deny},
		"the host is an address inside":                   {"allow", []RuleConfig{deny("203.0.113.0/24")}, "203.0.113.77", "", Deny, Deny},
		"the host is an address outside":                  {"allow", []RuleConfig{deny("203.0.113.0/24")}, "198.51.100.77", "", Allow, Allow},
	} {
		e := compile(t, Config{Default: tt.byDefault, Lists: lists, Rules: tt.rules}, nil)
		r := ask("10.0.0.1", tt.host)
		v := e.Decide(r)
		switch {
		case tt.unsettled == "" && (v.Pending || v.Action != tt.in):
			t.Errorf("%s: without address %+v", name, v)
		case tt.unsettled != "" && (!v.Pending || v.Action != Deny || v.Rule != tt.unsettled || v.Reason != reasonAwaiting):
			t.Errorf("%s: without address %+v, should wait for %s, and deny until then", name, v, tt.unsettled)
		}
		if v := e.Decide(at(r, inside)); v.Pending || v.Action != tt.in {
			t.Errorf("%s: at %s %+v", name, inside, v)
		}
		if v := e.Decide(at(r, outside)); v.Pending || v.Action != tt.out {
			t.Errorf("%s: at %s %+v", name, outside, v)
		}
	}
}

func TestListsAreCounted(t *testing.T) {
	e := compile(t, Config{Lists: map[string]ListConfig{
		"b": {Domains: []string{"a.test", ".a.test", "b.test"}, Addresses: []string{"10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/8", "::1"}},
		"a": {Files: []string{"f"}},
	}}, files{"f": "x.test\n/ads/\nx.test##.banner\n||y.test^$third-party\n"})
	got := e.Lists()
	if len(got) != 2 || got[0] != (ListInfo{"a", 1, 0, 0, 3}) || got[1] != (ListInfo{"b", 2, 2, 0, 0}) {
		t.Errorf("Lists() = %+v", got)
	}
}
