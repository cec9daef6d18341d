package edge

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"fwdproxy/acl"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
	"fwdproxy/internal/target"
	"fwdproxy/internal/unit"
)

func mustTarget(t *testing.T, authority string) target.Target {
	t.Helper()
	to, err := target.FromAuthority(authority, "http")
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func question(client netip.Addr, method string, t target.Target) acl.Request {
	return acl.Request{Client: client, Method: method, Host: t.Host, HostAddr: t.Addr, Port: t.Port, Scheme: t.Scheme, Path: "/"}
}

var someClient = netip.MustParseAddr("192.0.2.200")

// verdictOf is what the name got, and then each address.
func verdictOf(j Judgement, addrs ...string) []string {
	word := func(v acl.Verdict, err error) string {
		s := v.Action.String()
		if v.Pending {
			s = "pending"
		}
		s += " " + v.Rule
		if err != nil {
			f := fault.From(err)
			s = string(f.Kind) + " " + f.Rule
		}
		return s
	}
	out := []string{word(j.Verdict, j.Err)}
	for _, a := range addrs {
		if j.Address == nil {
			return append(out, "nobody to ask")
		}
		v, err := j.Address(netip.AddrPortFrom(netip.MustParseAddr(a), 80))
		out = append(out, word(v, err))
	}
	return out
}

func TestAnAddressThatOnlyAParentKnowsIsForNothingThatHangsOnIt(t *testing.T) {
	rules, problems := acl.Compile(acl.Config{Default: "allow", Rules: []acl.RuleConfig{
		{Name: "no names of theirs", To: []string{"bad.test"}, Action: "deny"},
		{Name: "not that network", To: []string{"10.0.0.0/8"}, Ports: []unit.PortRange{{First: 8080, Last: 8080}}, Action: "deny"},
	}}, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, unresolved := range []bool{false, true} {
		d := &Door{ACL: rules, Unresolved: unresolved, Guard: func(netip.AddrPort) error { return errors.New("the guard is asked about an address that nobody knows") }}
		for host, want := range map[string]bool{"a.test:80": unresolved, "a.test:8080": false} {
			j := d.Judge(question(someClient, http.MethodGet, mustTarget(t, host)))
			if j.Err != nil {
				t.Fatal(j.Err)
			}
			_, err := j.Address(hop.Unknown)
			if (err == nil) != want {
				t.Errorf("%s, a parent resolves: %v: got %v", host, unresolved, err)
			}
			if f := fault.From(err); err != nil && f.Kind != fault.RequestDenied {
				t.Errorf("%s: %v", host, err)
			}
		}
	}
}

func TestWhatHangsOnTheAddressIsDecidedForEachAddress(t *testing.T) {
	guard := func(a netip.AddrPort) error {
		if a.Addr().Unmap().IsLoopback() {
			return &fault.Error{Kind: fault.DestinationIPProhibited, Rule: "guard"}
		}
		return nil
	}
	list := []acl.RuleConfig{
		{Name: "never there", To: []string{"10.0.0.0/8"}, Action: "deny"},
		{Name: "bad name", To: []string{"bad.test"}, Action: "deny"},
		{Name: "only GET", Methods: []string{"GET"}, Action: "allow"},
		{Name: "loopback too", To: []string{"127.0.0.0/8"}, Action: "allow"},
		{Name: "that net", To: []string{"203.0.113.0/24"}, Methods: []string{"PUT"}, Action: "allow"},
	}
	d := &Door{Mode: "forward", ACL: rules(t, list...), Guard: guard}
	for name, tt := range map[string]struct {
		method, host string
		addrs        []string
		want         []string
	}{
		"pending, and the address decides": {"GET", "a.test", []string{"192.0.2.1", "10.1.2.3", "::ffff:10.1.2.3"},
			[]string{"pending never there", "allow only GET", "http_request_denied never there", "http_request_denied never there"}},
		"pending, and the guard comes before the rules": {"GET", "a.test", []string{"127.0.0.1", "::ffff:127.0.0.1"},
			[]string{"pending never there", "destination_ip_prohibited guard", "destination_ip_prohibited guard"}},
		"no rule but the default is left": {"PUT", "a.test", []string{"203.0.113.9", "192.0.2.1"},
			[]string{"pending loopback too", "allow that net", "http_request_denied default"}},
		"refused by name, no address is asked about": {"POST", "bad.test", []string{"192.0.2.1"},
			[]string{"http_request_denied bad name", "nobody to ask"}},
		"an address as host is decided at once":        {"GET", "192.0.2.1", []string{"192.0.2.1"}, []string{"allow only GET", "allow only GET"}},
		"an address as host, refused":                  {"GET", "10.0.0.1", []string{"10.0.0.1"}, []string{"http_request_denied never there", "nobody to ask"}},
		"an address as host, refused in its IPv6 form": {"GET", "[::ffff:10.0.0.1]", []string{"10.0.0.1"}, []string{"http_request_denied never there", "nobody to ask"}},
		"an address as host, and the guard":            {"GET", "127.0.0.1", nil, []string{"destination_ip_prohibited guard"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := verdictOf(d.Judge(question(someClient, tt.method, mustTarget(t, tt.host))), tt.addrs...)
			for i := range tt.want {
				if i >= len(got) || got[i] != tt.want[i] {
					t.Fatalf("got  %q\nwant %q", got, tt.want)
				}
			}
		})
	}
}

func TestTheGuardIsAskedEvenWhereTheRulesSaidYes(t *testing.T) {
	refused := errors.New("refused")
	var asked []netip.AddrPort
	d := &Door{Mode: "forward", ACL: anything(t), Guard: func(a netip.AddrPort) error { asked = append(asked, a); return refused }}
	j := d.Judge(question(someClient, "GET", mustTarget(t, "a.test:81")))
	if j.Err != nil || j.Verdict.Pending {
		t.Fatalf("the name alone: %+v", j)
	}
	if _, err := j.Address(addrPort("192.0.2.1:81")); !errors.Is(err, refused) {
		t.Errorf("the address: %v", err)
	}
	if len(asked) != 1 || asked[0] != addrPort("192.0.2.1:81") {
		t.Errorf("asked about %v", asked)
	}
	if j := d.Judge(question(someClient, "GET", mustTarget(t, "192.0.2.1:82"))); !errors.Is(j.Err, refused) || asked[1] != addrPort("192.0.2.1:82") {
		t.Errorf("an address as host: %v, asked about %v", j.Err, asked)
	}
}

func TestAPolicyThatSaysNothingRefuses(t *testing.T) {
	for _, client := range []netip.Addr{someClient, {}} {
		d := &Door{Mode: "forward", ACL: &acl.Engine{}}
		if j := d.Judge(question(client, "GET", mustTarget(t, "a.test"))); j.Err == nil || j.Address != nil {
			t.Errorf("%v: %+v", client, j)
		}
	}
	d := &Door{Mode: "forward", ACL: anything(t)}
	if j := d.Judge(question(netip.Addr{}, "GET", mustTarget(t, "a.test"))); j.Err == nil {
		t.Error("a client without an address gets through")
	}
}

func TestARefusalNamesItsRule(t *testing.T) {
	d := &Door{Mode: "forward", ACL: rules(t, acl.RuleConfig{Name: "no social", To: []string{".social.test"}, Action: "deny"})}
	f := fault.From(d.Judge(question(someClient, "GET", mustTarget(t, "www.social.test"))).Err)
	if f.Kind != fault.RequestDenied || f.Rule != "no social" || f.HTTPStatus() != http.StatusForbidden {
		t.Errorf("%+v", f)
	}
}

// A site's addresses are a pool's, and nobody asks the rules about those: an
// answer that would hang on them stays no.
func TestBeforeServersOfOnesOwnAnAddressRuleThatWaitsRefuses(t *testing.T) {
	d := &Door{Mode: "reverse", ACL: rules(t,
		acl.RuleConfig{Name: "that net", From: []string{"192.0.2.0/24"}, To: []string{"198.51.100.0/24"}, Action: "deny"},
		acl.RuleConfig{Name: "all", Action: "allow"})}
	j := d.Judge(question(someClient, "GET", mustTarget(t, "a.test")))
	if f := fault.From(j.Err); j.Err == nil || f.Rule != "that net" {
		t.Errorf("who the rule is about: %v", j.Err)
	}
	j = d.Judge(question(netip.MustParseAddr("203.0.113.1"), "GET", mustTarget(t, "a.test")))
	if j.Err != nil || j.Verdict.Rule != "all" {
		t.Errorf("who it is not about: %v", j.Err)
	}
	if _, err := j.Address(addrPort("198.51.100.7:80")); err != nil {
		t.Errorf("the peer of the pool: %v", err)
	}
}

func TestThePolicyIsAskedAboutTheRequestAsItWasSent(t *testing.T) {
	r := httptest.NewRequest("GET", "http://a.test/x%2fy//?q=%61", nil)
	r.RemoteAddr = "[::ffff:192.0.2.200]:4000"
	r.Header.Set("User-Agent", "x/1")
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 3128})))
	now := time.Unix(1, 0)
	q := Question(r, mustTarget(t, "a.test"), now)
	if q.Client != someClient || q.Scheme != "http" || q.Path != "/x%2fy//" || q.Query != "q=%61" || q.Header["User-Agent"][0] != "x/1" ||
		q.Listen != addrPort("192.0.2.1:3128") || q.Now != now || q.Port != 80 {
		t.Errorf("%+v", q)
	}
	r = httptest.NewRequest("GET", "http://a.test", nil)
	if q := Question(r, mustTarget(t, "a.test"), now); q.Path != "/" || q.Listen.IsValid() {
		t.Errorf("without a path, from nowhere: %+v", q)
	}
	r = httptest.NewRequest("CONNECT", "a.test:443", nil)
	if q := Question(r, mustTarget(t, "a.test:443"), now); q.Path != "" || q.Scheme != "" || q.Query != "" {
		t.Errorf("of a tunnel nothing but the destination is known: %+v", q)
	}
}
