package acl

import (
	"io"
	"net/netip"
	"strings"
	"testing"

	"fwdproxy/internal/unit"
)

func TestEveryProblemIsReportedAtOnceWithKeyAndHint(t *testing.T) {
	c := Config{
		Default: "block", PrivateDestinations: "Deny", PrivateExceptions: []string{"10.0.0.0/8", "10.0.0.1/8", "intranet"},
		Lists: map[string]ListConfig{
			"social":  {Domains: []string{"x.com", "10.0.0.1", "", " y.com"}, Addresses: []string{"a.test", "1.2.3.4"}},
			"empty":   {},
			"two bad": {Files: []string{""}},
		},
		Rules: []RuleConfig{
			{From: []string{"user:", "group:sales team", "*", "list:social", "list:named", "laptop.test"}, Action: "allow"},
			{To: []string{"*.a.b", "a*.b", "http://Exämple.test/x", "a.test:443", ".a.test:443", "[2001:db8::1]", "[2001:db8::1]:80", "2001:db8::1"}, Action: "allow"},
			{To: []string{"10.0.0.1/8", "10.0.0.0/255.0.0.0", "10.0.0.0/255.0.255.0", "10.0.0.1-10.0.0.9", "a.test/path", "10.0.0.0/33", "::ffff:0:0/95", "::ffff:10.0.0.1/104"}, Action: "allow"},
			{To: []string{"127.1", ".10.0.0.1", ".", "a..b", "fe80::1%eth0", "user:ann", "list:socail", "list:", "a b"}, Action: "allow"},
			{Name: "twice", Ports: []unit.PortRange{{}, {First: 9, Last: 8}, {First: 1, Last: 2}}, Methods: []string{"GET", "get", "", "G ET"}},
			{Name: "twice", Action: "Allow"},
			{Name: "default", Action: "inspect"},
			{Name: "rule 9", Action: "deny"},
			{Action: "deny"},
			{Name: "a\nb", Action: "deny"},
		},
	}
	c.Lists["named"] = ListConfig{Domains: []string{"a.test"}}
	golden(t, "problems.golden", lines(c.Validate()))
	e, problems := Compile(c, files{}.open)
	if e != nil {
		t.Error("there is an engine")
	}
	golden(t, "problems.golden", lines(problems))
}

func TestAPolicyWithoutProblemsHasNone(t *testing.T) {
	c := Config{
		Default: "allow", PrivateDestinations: "allow", PrivateExceptions: []string{"10.0.0.0/8", "::1"},
		Lists: map[string]ListConfig{"l": {Domains: []string{".a.test"}, Files: []string{"never opened"}}},
		Rules: []RuleConfig{{From: []string{"list:l"}, To: []string{"*", ".a.b", "list:l", "0.0.0.0/0", "::/0"}, Ports: []unit.PortRange{{First: 1, Last: 65535}},
			Methods: []string{"GET"}, Action: "deny"}},
	}
	if problems := c.Validate(); len(problems) > 0 {
		t.Errorf("%v", problems)
	}
}

func TestWhatIsShownOfALongEntryFitsALine(t *testing.T) {
	c := Config{
		Lists: map[string]ListConfig{"": {Domains: []string{"a.test"}}},
		Rules: []RuleConfig{{To: []string{strings.Repeat("a", 100_000)}, From: []string{"lap top", "127.1"}, Action: "deny"}},
	}
	same(t, lines(c.Validate()), `acl.lists."": the list has no name
acl.rule[0].from[0]: "lap top" has a space in it (one entry each, without spaces)
acl.rule[0].from[1]: "127.1" is neither a host name nor an address (`+addressHint+`)
acl.rule[0].to[0]: "`+strings.Repeat("a", 80)+`"... is neither a host name nor an address (`+entryHint+")\n")
}

func TestAListOfDomainsAloneIsNoPlaceForAClient(t *testing.T) {
	c := Config{Lists: map[string]ListConfig{"l": {Files: []string{"f"}}}, Rules: []RuleConfig{{From: []string{"list:l"}, Action: "deny"}}}
	_, problems := Compile(c, files{"f": "a.test\n"}.open)
	same(t, lines(problems), `acl.rule[0].from[0]: "list:l" has no addresses, and a client is known by its address (write an address, or a prefix as "10.0.0.0/8")`+"\n")
	compile(t, c, files{"f": "a.test\n10.0.0.1\n"})
	compile(t, c, files{"f": "# none yet\n"})
}

func TestAListFileThatCanNotBeReadIsAProblemAndNeverAllows(t *testing.T) {
	c := Config{Default: "allow", Lists: map[string]ListConfig{"l": {Files: []string{"there.txt", "gone.txt"}}},
		Rules: []RuleConfig{{To: []string{"list:l"}, Action: "deny"}}}
	e, problems := Compile(c, files{"there.txt": "a.test\n"}.open)
	if e != nil {
		t.Error("there is an engine")
	}
	same(t, lines(problems), "acl.lists.l.files[1]: list file can not be opened: open gone.txt: file does not exist\n")

	broken := func(string) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("a.test\nb.te"), failing{})), nil
	}
	e, problems = Compile(c, broken)
	if e != nil || !strings.Contains(lines(problems), "acl.lists.l.files[0]: there.txt:3: disk on fire") {
		t.Errorf("%v\n%s", e, lines(problems))
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, diskError{} }

type diskError struct{}

func (diskError) Error() string { return "disk on fire" }

func FuzzEveryAcceptedEntryMatchesItsOwnCanonicalForm(f *testing.F) {
	for _, s := range []string{"a.b", ".a.b", "Bücher.example.", "10.0.0.0/8", "10.0.0.1/8", "::ffff:10.0.0.0/104", "::/0", "*.a", "a:1", "[::1]:1",
		"http://a/", "10.0.0.0/255.0.0.0", "1.2.3.4-5.6.7.8", "fe80::1%a", "..", "/", "-", "a/b", "。a", "xn--a", "①.0.0.1", "\xff0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, bad := parseEntry(s)
		if bad != nil {
			if bad.message == "" || len(bad.message) > 600 {
				t.Fatalf("%q: message %q", s, bad.message)
			}
			return
		}
		again, bad := parseEntry(e.String())
		if bad != nil || again != e {
			t.Fatalf("%q is read as %q, which is read as %q, %v", s, e, again, bad)
		}
		engine := compile(t, Config{Rules: []RuleConfig{{To: []string{s}, Action: "allow"}}}, nil)
		q := ask("10.0.0.1", e.name)
		if e.prefix.IsValid() {
			q = ask("10.0.0.1", e.prefix.Addr().String())
		}
		if v := engine.Decide(q); v.Action != Allow || v.Pending {
			t.Fatalf("%q does not match %q: %+v", s, q.Host, v)
		}
		if e.below {
			q.Host = "x." + e.name
			if v := engine.Decide(q); v.Action != Allow {
				t.Fatalf("%q does not match %q: %+v", s, q.Host, v)
			}
		}
		if !e.prefix.IsValid() {
			q.Host += "x"
			q.Addr = netip.MustParseAddr("192.0.2.1")
			if v := engine.Decide(q); v.Action != Deny {
				t.Fatalf("%q matches %q: %+v", s, q.Host, v)
			}
		}
	})
}

func TestMistakesInConditionsAreReportedAtOnce(t *testing.T) {
	c := Config{Rules: []RuleConfig{
		{Schemes: []string{"HTTP", "ftp"}, Path: "^/a(", Query: "(?=x)", UserAgent: "[", Header: map[string]string{"X A": "x", "Host": "a.test", "X-B": "*"}, Action: "deny"},
		{When: "Mon-Fri 09:00-18:00", Action: "deny"},
		{When: "Mon-Fri 09:00-18:00 Europe/Berln", Action: "deny"},
		{When: "Mon-Fri 09:00-25:00 UTC", Action: "deny"},
		{When: "Mon-Fry UTC", Action: "deny"},
		{When: "09:00-09:00 UTC", Action: "deny"},
		{When: "Mon 9-18 UTC", Action: "deny"},
		{When: "Mon 09:00-18:00 18:00 UTC", Action: "deny"},
		{When: "Europe/Berlin", Action: "deny"},
		{When: "Mon 09:00-10:00;; Local", Action: "deny"},
		{NotWhen: " ", Action: "deny"},
		{Listen: []string{"3128", "0", "proxy:3128", "0.0.0.0:3128", "::", "fe80::1%eth0"}, NotTo: []string{"*", "a b"}, NotFrom: []string{"*"}, Action: "deny"},
	}}
	golden(t, "conditions.golden", lines(c.Validate()))
}

func TestRulesAboutWhatATunnelHidesAreWarnedAbout(t *testing.T) {
	c := Config{Rules: []RuleConfig{
		{Name: "no admin", Path: "^/admin", Action: "deny"},
		{Name: "no help, said well", Path: "^/help", Schemes: []string{"http", "https"}, Action: "deny"},
		{Name: "no uploads", Methods: []string{"POST"}, NotHeader: map[string]string{"X-A": "x"}, Action: "deny"},
		{Name: "not so", Methods: []string{"CONNECT"}, UserAgent: "apt", Action: "allow"},
		{Name: "apt", UserAgent: "apt", Action: "allow"},
	}}
	same(t, lines(c.Warnings()), `acl.rule[0].path: "no admin" denies every tunnel (CONNECT) for which its other conditions hold, since what goes through a tunnel is not seen (write schemes = ["http", "https"] where the rule means no tunnels)
acl.rule[3].user_agent: "not so" can never hold: it is for tunnels alone, and what goes through one is not seen (allow the tunnel by its destination)
`)
}
