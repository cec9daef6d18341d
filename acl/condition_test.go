package acl

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"fwdproxy/internal/target"
	"fwdproxy/internal/unit"
)

// outcome is what a rule says of a request: "yes", "no" or "pending".
func outcome(t *testing.T, u RuleConfig, r Request) string {
	t.Helper()
	u.Name = "it"
	other := map[string]string{"allow": "deny", "deny": "allow"}
	v := compile(t, Config{Default: other[u.Action], Lists: map[string]ListConfig{
		"l": {Domains: []string{".list.test"}, Addresses: []string{"203.0.113.0/24"}},
	}, Rules: []RuleConfig{u}}, nil).Decide(r)
	switch {
	case v.Pending:
		return "pending"
	case v.Rule == "it":
		return "yes"
	}
	return "no"
}

// whole is a request in which everything is known.
func whole(change func(*Request)) Request {
	r := ask("10.0.0.1", "a.test")
	r.Scheme, r.Path, r.Query = "http", "/", ""
	r.Header = map[string][]string{}
	r.Listen = netip.MustParseAddrPort("192.0.2.1:3128")
	r.Now = time.Date(2026, 1, 7, 12, 0, 0, 0, time.UTC) // a Wednesday
	if change != nil {
		change(&r)
	}
	return r
}

func path(p string) Request  { return whole(func(r *Request) { r.Path = p }) }
func query(q string) Request { return whole(func(r *Request) { r.Query = q }) }

func tunnel() Request {
	return whole(func(r *Request) { r.Method, r.Scheme, r.Path, r.Port = "CONNECT", "", "", 443 })
}

func field(name string, lines ...string) Request {
	return whole(func(r *Request) { r.Header = map[string][]string{name: lines} })
}

func TestEachConditionForAnAllowingAndADenyingRule(t *testing.T) {
	header := func(name, re string) map[string]string { return map[string]string{name: re} }
	for _, tt := range []struct {
		about       string
		rule        RuleConfig
		r           Request
		allow, deny string
	}{
		{"scheme", RuleConfig{Schemes: []string{"http"}}, whole(nil), "yes", "yes"},
		{"other scheme", RuleConfig{Schemes: []string{"https"}}, whole(nil), "no", "no"},
		{"a tunnel is a scheme of its own", RuleConfig{Schemes: []string{"https"}}, tunnel(), "no", "no"},
		{"a tunnel", RuleConfig{Schemes: []string{"tunnel"}}, tunnel(), "yes", "yes"},
		{"scheme that nobody said", RuleConfig{Schemes: []string{"http"}}, ask("::1", "a.test"), "no", "yes"},
		{"not that scheme", RuleConfig{NotSchemes: []string{"tunnel"}}, whole(nil), "yes", "yes"},
		{"not a tunnel", RuleConfig{NotSchemes: []string{"tunnel"}}, tunnel(), "no", "no"},

		{"path", RuleConfig{Path: "^/admin"}, path("/admin/x"), "yes", "yes"},
		{"other path", RuleConfig{Path: "^/admin"}, path("/x/admin"), "no", "no"},
		{"anywhere in the path", RuleConfig{Path: "admin"}, path("/x/admin"), "yes", "yes"},
		{"case counts in a path", RuleConfig{Path: "^/admin"}, path("/Admin"), "no", "no"},
		{"unless it says otherwise", RuleConfig{Path: "(?i)^/admin"}, path("/Admin"), "yes", "yes"},
		{"encoded path", RuleConfig{Path: "^/admin"}, path("/%61dmin"), "no", "yes"},
		{"encoded twice", RuleConfig{Path: "^/admin"}, path("/%2561dmin"), "no", "yes"},
		{"encoded too often to tell", RuleConfig{Path: "^/admin"}, path("/%2525252561dmin"), "no", "yes"},
		{"encoded slash", RuleConfig{Path: "^/a/b$"}, path("/a%2fb"), "no", "yes"},
		{"empty segments", RuleConfig{Path: "^/admin"}, path("//admin"), "no", "yes"},
		{"dot segments", RuleConfig{Path: "^/admin"}, path("/x/./..//admin"), "no", "yes"},
		{"dot segments lead out of what is allowed", RuleConfig{Path: "^/public/"}, path("/public/../secret"), "no", "yes"},
		{"encoded dot segments", RuleConfig{Path: "^/public/"}, path("/public/%2e%2E/secret"), "no", "yes"},
		{"dot segment with parameters", RuleConfig{Path: "^/public/"}, path("/public/..;x=1/secret"), "no", "yes"},
		{"backslashes", RuleConfig{Path: "^/admin/x"}, path(`/admin\x`), "no", "yes"},
		{"a path with signs that mean nothing", RuleConfig{Path: "^/100%$"}, path("/100%"), "yes", "yes"},
		{"path of a tunnel", RuleConfig{Path: "^/admin"}, tunnel(), "no", "yes"},
		{"not that path", RuleConfig{NotPath: "^/public/"}, path("/secret"), "yes", "yes"},
		{"but that path", RuleConfig{NotPath: "^/public/"}, path("/public/x"), "no", "no"},
		{"not that path, in one form", RuleConfig{NotPath: "^/public/"}, path("/public/../x"), "no", "yes"},
		{"not that path, in a tunnel", RuleConfig{NotPath: "^/public/"}, tunnel(), "no", "yes"},

		{"query", RuleConfig{Query: "(^|&)id=1(&|$)"}, query("a=b&id=1"), "yes", "yes"},
		{"other query", RuleConfig{Query: "(^|&)id=1(&|$)"}, query("id=12"), "no", "no"},
		{"no query", RuleConfig{Query: "^$"}, query(""), "yes", "yes"},
		{"encoded query", RuleConfig{Query: "id=1"}, query("%69d=1"), "no", "yes"},
		{"spaces in a query", RuleConfig{Query: "a b"}, query("q=a+b"), "no", "yes"},
		{"query of a tunnel", RuleConfig{Query: "x"}, tunnel(), "no", "yes"},
		{"not that query", RuleConfig{NotQuery: "id="}, query("x=1"), "yes", "yes"},

		{"field", RuleConfig{Header: header("x-tenant", "^acme$")}, field("X-Tenant", "acme"), "yes", "yes"},
		{"other value", RuleConfig{Header: header("X-Tenant", "^acme$")}, field("X-Tenant", "acme2"), "no", "no"},
		{"field that is not there", RuleConfig{Header: header("X-Tenant", "")}, whole(nil), "no", "no"},
		{"field that is there", RuleConfig{Header: header("X-Tenant", "")}, field("X-Tenant", ""), "yes", "yes"},
		{"one of two lines", RuleConfig{Header: header("X-Tenant", "^acme$")}, field("X-Tenant", "other", "acme"), "no", "yes"},
		{"both lines", RuleConfig{Header: header("X-Tenant", "acme")}, field("X-Tenant", "acme", "acme"), "yes", "yes"},
		{"two lines as one", RuleConfig{Header: header("X-Tenant", "a, b")}, field("X-Tenant", "a", "b"), "no", "yes"},
		{"all fields", RuleConfig{Header: map[string]string{"X-A": "1", "X-B": "2"}}, field("X-A", "1"), "no", "no"},
		{"field of a tunnel", RuleConfig{Header: header("X-Tenant", "acme")}, tunnel(), "no", "yes"},
		{"not that field", RuleConfig{NotHeader: header("X-Tenant", "acme")}, whole(nil), "yes", "yes"},
		{"none of the fields", RuleConfig{NotHeader: map[string]string{"X-A": "1", "X-B": "2"}}, field("X-B", "2"), "no", "no"},
		{"not that field, on one line", RuleConfig{NotHeader: header("X-Tenant", "^acme$")}, field("X-Tenant", "acme", "x"), "no", "yes"},

		{"user agent", RuleConfig{UserAgent: "^apt/"}, field("User-Agent", "apt/2.9"), "yes", "yes"},
		{"no user agent", RuleConfig{UserAgent: "^$"}, whole(nil), "yes", "yes"},
		{"other user agent", RuleConfig{UserAgent: "^apt/"}, field("User-Agent", "curl/8"), "no", "no"},
		{"user agent of a tunnel", RuleConfig{UserAgent: "^apt/"}, tunnel(), "no", "yes"},
		{"not that user agent", RuleConfig{NotUserAgent: "^apt/"}, whole(nil), "yes", "yes"},

		{"port listened on", RuleConfig{Listen: []string{"3129", "3128"}}, whole(nil), "yes", "yes"},
		{"address listened on", RuleConfig{Listen: []string{"192.0.2.1"}}, whole(nil), "yes", "yes"},
		{"both", RuleConfig{Listen: []string{"192.0.2.1:3128"}}, whole(nil), "yes", "yes"},
		{"the same port of another address", RuleConfig{Listen: []string{"192.0.2.2:3128", "[::1]:3128"}}, whole(nil), "no", "no"},
		{"port that nobody said", RuleConfig{Listen: []string{"3128"}}, ask("::1", "a.test"), "no", "yes"},
		{"not that port", RuleConfig{NotListen: []string{"3128"}}, whole(nil), "no", "no"},

		{"time", RuleConfig{When: "Mon-Fri 09:00-18:00 UTC"}, whole(nil), "yes", "yes"},
		{"other time", RuleConfig{When: "Sat,Sun UTC"}, whole(nil), "no", "no"},
		{"time that nobody said", RuleConfig{When: "Mon-Fri UTC"}, ask("::1", "a.test"), "no", "yes"},
		{"not that time", RuleConfig{NotWhen: "Sat,Sun UTC"}, whole(nil), "yes", "yes"},

		{"not that client", RuleConfig{NotFrom: []string{"10.0.0.2", "list:l"}}, whole(nil), "yes", "yes"},
		{"but that client", RuleConfig{NotFrom: []string{"10.0.0.0/8"}}, whole(nil), "no", "no"},
		{"not that port", RuleConfig{NotPorts: []unit.PortRange{{First: 80, Last: 90}}}, whole(nil), "no", "no"},
		{"not that method", RuleConfig{NotMethods: []string{"POST"}}, whole(nil), "yes", "yes"},
		{"not that method, in another spelling", RuleConfig{NotMethods: []string{"GET"}}, whole(func(r *Request) { r.Method = "get" }), "no", "yes"},
		{"not that host", RuleConfig{NotTo: []string{"b.test", ".c.test"}}, whole(nil), "yes", "yes"},
		{"but that host", RuleConfig{NotTo: []string{".test", "10.0.0.0/8"}}, whole(nil), "no", "no"},
		{"not that address, not known", RuleConfig{NotTo: []string{"10.0.0.0/8"}}, whole(nil), "pending", "pending"},
		{"not that list, not known", RuleConfig{NotTo: []string{"list:l"}}, whole(nil), "pending", "pending"},
		{"not that list, known", RuleConfig{NotTo: []string{"list:l"}}, at(whole(nil), "203.0.113.9"), "no", "no"},
		{"not that list, another", RuleConfig{NotTo: []string{"list:l"}}, at(whole(nil), "203.0.112.9"), "yes", "yes"},
		{"not that address, and another condition fails", RuleConfig{NotTo: []string{"10.0.0.0/8"}, Path: "^/x"}, whole(nil), "no", "no"},
		{"this and not that", RuleConfig{To: []string{".test"}, NotTo: []string{"a.test"}}, whole(nil), "no", "no"},
	} {
		for action, want := range map[string]string{"allow": tt.allow, "deny": tt.deny} {
			tt.rule.Action = action
			if got := outcome(t, tt.rule, tt.r); got != want {
				t.Errorf("%s: the rule that would %s says %s, want %s", tt.about, action, got, want)
			}
		}
	}
}

func TestPathsInPlainForm(t *testing.T) {
	for sent, want := range map[string]string{
		"/": "/", "/a": "/a", "/a/": "/a/", "/a/.": "/a/", "/a/..": "/", "/a/b/..": "/a/", "/..": "/", "/../../a": "/a", "//": "/", "///a//b///": "/a/b/",
		"/.a": "/.a", "/a./b": "/a./b", "/...": "/...", "/.;x": "/", "/a;x/b": "/a;x/b", "/%2e%2e/a": "/a", "/a%5c..%5cb": "/b", "/%": "/%", "/%4": "/%4",
		"/%zz": "/%zz", "*": "*", "/%25": "/%", "/a%00": "/a\x00", "/%C3%BC": "/ü",
	} {
		got, ok := plainPath(sent)
		if !ok || got != want {
			t.Errorf("%q becomes %q, %v; want %q", sent, got, ok, want)
		}
		if again, ok := plainPath(got); !ok || again != got && !strings.Contains(got, "%") {
			t.Errorf("%q becomes %q, which becomes %q", sent, got, again)
		}
	}
}

func FuzzAPathsPlainFormIsPlain(f *testing.F) {
	for _, s := range []string{"/a/../b", "/%2e%2e/", `\..\`, "//;/..;x", "/%252e", "*", "", "/a%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		got, ok := plainPath(sent)
		if !ok {
			return
		}
		if strings.Contains(got, `\`) || target.Decode(got) != got {
			t.Fatalf("%q becomes %q", sent, got)
		}
		if strings.HasPrefix(got, "/") && (strings.Contains(got, "//") || strings.Contains(got+"/", "/../") || strings.Contains(got+"/", "/./")) {
			t.Fatalf("%q becomes %q", sent, got)
		}
		if again, ok := plainPath(got); !ok || again != got {
			t.Fatalf("%q becomes %q, which becomes %q", sent, got, again)
		}
	})
}

func TestExplainTellsWhichConditionFails(t *testing.T) {
	e := compile(t, Config{Rules: []RuleConfig{
		{Name: "post", Methods: []string{"POST"}, Action: "allow"},
		{Name: "net", To: []string{"10.0.0.0/8"}, Action: "deny"},
		{Name: "tenant", Header: map[string]string{"x-tenant": "^acme$"}, Action: "deny"},
		{Name: "path", NotPath: "^/x", To: []string{".test"}, Action: "allow"},
		{Name: "never asked", Action: "deny"},
	}}, nil)
	v, steps := e.Explain(whole(nil))
	if v != e.Decide(whole(nil)) {
		t.Errorf("explained %+v", v)
	}
	var got strings.Builder
	for _, s := range steps {
		got.WriteString(s.Rule + " (" + s.Action + "): " + s.Outcome + ": " + s.Why + "\n")
	}
	same(t, got.String(), `post (allow): no match: "methods" does not hold
net (deny): waits: "to" hangs on the destination's address
tenant (deny): no match: "header.x-tenant" does not hold
path (allow): decides: the host name is in the rule's "to"
`)
}

func TestAskingEveryConditionAllocatesNothing(t *testing.T) {
	e := compile(t, Config{Rules: []RuleConfig{
		{Methods: []string{"POST"}, Action: "deny"},
		{Path: "^/admin", Query: "x=1", UserAgent: "^bad", Action: "deny"},
		{When: "Mon-Fri 23:00-24:00 Europe/Berlin", Header: map[string]string{"X-A": "b"}, Listen: []string{"1"}, Action: "deny"},
		{To: []string{".elsewhere.test", "10.0.0.0/8"}, NotTo: []string{".x.test"}, From: []string{"10.0.0.1"}, Action: "deny"},
		{Action: "allow"},
	}}, nil)
	r := at(whole(func(r *Request) { r.Path, r.Query = "/some/path", "q=1" }), "192.0.2.7")
	if n := testing.AllocsPerRun(100, func() { e.Decide(r) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
