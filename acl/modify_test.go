package acl

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
)

// applying returns the names of the tables that apply, as they are enforced,
// and fails where they are explained otherwise.
func applying(t *testing.T, e *Engine, r Request) string {
	t.Helper()
	got, explained := e.Modify(r).Tables(), []string{}
	for _, s := range e.ExplainModify(r) {
		if strings.HasPrefix(s.Outcome, "applies") {
			explained = append(explained, s.Table)
		}
	}
	if strings.Join(got, ",") != strings.Join(explained, ",") {
		t.Errorf("explained as %q, enforced as %q", explained, got)
	}
	if (len(got) > 0) != e.Modifies(r) {
		t.Errorf("Modifies is %v for %q", e.Modifies(r), got)
	}
	return strings.Join(got, ",")
}

func TestTablesThatModifyApplyTogetherAndInDoubtTheyApply(t *testing.T) {
	table := func(name string, c ModifyConfig) ModifyConfig {
		c.Name, c.BypassCache = name, true
		return c
	}
	e := compile(t, Config{Modify: []ModifyConfig{
		table("all", ModifyConfig{}),
		table("office", ModifyConfig{From: []string{"10.0.0.0/8"}}),
		table("ann", ModifyConfig{From: []string{"user:ann"}}),
		table("not ann", ModifyConfig{NotFrom: []string{"user:ann"}}),
		table("network", ModifyConfig{To: []string{"192.0.2.0/24"}}),
		table("elsewhere", ModifyConfig{NotTo: []string{"192.0.2.0/24"}}),
		table("domain", ModifyConfig{To: []string{".example.com"}}),
		table("path", ModifyConfig{Path: "^/b$"}),
		table("field", ModifyConfig{Header: map[string]string{"x-a": "^1$"}}),
	}}, nil)
	known := func(r Request, user string) Request { r.User, r.MayIdentify = user, true; return r }
	path := func(r Request, path string) Request { r.Scheme, r.Path = "http", path; return r }
	for name, c := range map[string]struct {
		r    Request
		want string
	}{
		"ann":                            {path(known(ask("10.1.1.1", "a.test"), "ann"), "/"), "all,office,ann,elsewhere"},
		"bob":                            {path(known(ask("10.1.1.1", "a.test"), "bob"), "/"), "all,office,not ann,elsewhere"},
		"nobody said who":                {path(known(ask("192.0.2.1", "a.test"), ""), "/"), "all,ann,not ann,elsewhere"},
		"nobody can say":                 {path(ask("192.0.2.1", "a.test"), "/"), "all,ann,not ann,elsewhere"},
		"a host that is an address":      {path(known(ask("192.0.2.1", "192.0.2.7"), "bob"), "/"), "all,not ann,network"},
		"a name's address counts not":    {at(path(known(ask("192.0.2.1", "www.example.com"), "bob"), "/"), "198.51.100.1"), "all,not ann,elsewhere,domain"},
		"a path":                         {path(known(ask("192.0.2.1", "a.test"), "bob"), "/b"), "all,not ann,elsewhere,path"},
		"a path that can be read as two": {path(known(ask("192.0.2.1", "a.test"), "bob"), "/a/..%2fb"), "all,not ann,elsewhere,path"},
		"a tunnel":                       {Request{Client: ask("10.1.1.1", "a.test").Client, Method: "CONNECT", Host: "a.test", Port: 443}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := applying(t, e, c.r); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	r := path(known(ask("192.0.2.1", "a.test"), "bob"), "/")
	for _, c := range []struct {
		lines []string
		want  bool
	}{{nil, false}, {[]string{"2"}, false}, {[]string{"1"}, true}, {[]string{"2", "1"}, true}} {
		r.Header = map[string][]string{"X-A": c.lines}
		if got := strings.HasSuffix(applying(t, e, r), ",field"); got != c.want {
			t.Errorf("X-A %q: %v", c.lines, got)
		}
	}
	if none := compile(t, Config{}, nil); none.Modify(r) != nil || none.Apart(nil, http.Header{"X-A": {"1"}}) != "" {
		t.Error("a policy without tables modifies something")
	}
}

func TestWhatTablesMakeOfFieldsInTheirOrder(t *testing.T) {
	e := compile(t, Config{Modify: []ModifyConfig{
		{Name: "a", SetRequest: map[string]string{"x-tenant": "one", "X-More": "1"}, SetResponse: map[string]string{"X-Seen": "a"}, MaxResponse: 10},
		{Name: "b", From: []string{"10.0.0.1"}, SetRequest: map[string]string{"X-Tenant": "two"}, RemoveRequest: []string{"x-client-data"},
			RemoveResponse: []string{"Alt-Svc"}, MaxResponse: 20, BypassCache: true},
		{Name: "c", From: []string{"10.0.0.1"}, MaxResponse: 5, BypassCache: true},
	}}, nil)
	m := e.Modify(ask("10.0.0.1", "a.test"))
	h := http.Header{"X-Tenant": {"mine", "too"}, "X_tenant": {"mine"}, "X_client-Data": {"secret"}, "X-Client-Data": {"secret"}, "Accept": {"*/*"}}
	m.Request(h)
	if len(h) != 3 || strings.Join(h["X-Tenant"], "|") != "two" || h["X-More"][0] != "1" || h["Accept"][0] != "*/*" {
		t.Errorf("the request has %v", h)
	}
	if m.Bypass != "b" || m.MaxResponse != 5 || m.MaxBy != "c" {
		t.Errorf("bypass %q, max %d by %q", m.Bypass, m.MaxResponse, m.MaxBy)
	}
	h = http.Header{"Alt-Svc": {"h3"}, "X-Seen": {"before", "twice"}}
	m.Response(h)
	if len(h) != 1 || strings.Join(h["X-Seen"], "|") != "a" {
		t.Errorf("the response has %v", h)
	}
	h = http.Header{"Alt-Svc": {"h3"}, "X-Seen": {"before"}, "Digest": {"x"}}
	if m.Removes(h); len(h) != 1 {
		t.Errorf("the trailer has %v", h)
	}
}

func TestRequestsAreKeptApartByWhatTablesMakeOfThem(t *testing.T) {
	e := compile(t, Config{Modify: []ModifyConfig{
		{Name: "a", From: []string{"10.0.0.1"}, SetRequest: map[string]string{"X-Tenant": "one"}},
		{Name: "b", From: []string{"10.0.0.2"}, SetRequest: map[string]string{"X-Tenant": "two"}},
		{Name: "c", From: []string{"10.0.0.3"}, RemoveRequest: []string{"X-Client-Data"}},
		{Name: "d", From: []string{"10.0.0.4"}, SetResponse: map[string]string{"X-Tenant": "one"}, BypassCache: true},
	}}, nil)
	apart := func(client string, h http.Header) string {
		m := e.Modify(ask(client, "a.test"))
		m.Request(h)
		return e.Apart(m, h)
	}
	seen := map[string]string{}
	for name, text := range map[string]string{
		"one":                     apart("10.0.0.1", http.Header{}),
		"two":                     apart("10.0.0.2", http.Header{}),
		"without":                 apart("10.0.0.3", http.Header{}),
		"without, and sent by it": apart("10.0.0.3", http.Header{"X-Tenant": {"one"}}),
		"nothing":                 apart("10.0.0.9", http.Header{"X-Client-Data": {"mine"}, "Accept": {"*/*"}}),
		"sent by itself":          apart("10.0.0.9", http.Header{"X-Tenant": {"one"}}),
		"sent in two lines":       apart("10.0.0.9", http.Header{"X-Tenant": {"one", "two"}}),
		"sent as for CGI":         apart("10.0.0.9", http.Header{"X_tenant": {"one"}}),
		"sent empty":              apart("10.0.0.9", http.Header{"X-Tenant": {""}}),
	} {
		if other, ok := seen[text]; ok {
			t.Errorf("%q and %q share their copies", name, other)
		}
		seen[text] = name
	}
	if apart("10.0.0.9", http.Header{}) != "" || apart("10.0.0.4", http.Header{}) != "" {
		t.Error("a request that no table changes is kept apart")
	}
	if apart("10.0.0.1", http.Header{"X-Tenant": {"evil"}}) != apart("10.0.0.1", http.Header{}) {
		t.Error("what a table replaces makes a difference")
	}
}

func TestWhatIsWrongWithATableThatModifiesIsSaidAllAtOnce(t *testing.T) {
	set := func(names ...string) map[string]string {
		m := map[string]string{}
		for _, n := range names {
			m[n] = "x"
		}
		return m
	}
	golden(t, "modify.txt", lines(Config{Modify: []ModifyConfig{
		{BypassCache: true},
		{Name: "a", Methods: []string{"GET", "CONNECT"}, Schemes: []string{"tunnel"}, MaxResponse: -1},
		{Name: "a", SetRequest: set("Host", "connection", "Transfer-Encoding", "Content-Length", "proxy-authorization", "Authorization", "Cookie",
			"Range", "If-None-Match", "X-Forwarded-For", "x_original_url", "Via", "Fwdproxy-Site", "Sec-WebSocket-Key", "bad name", "")},
		{Name: "b", RemoveRequest: []string{"Host", "TE", "content-type", "If-Match", "Expect", "X-A", "x_a", "Content_Length", "transfer_encoding"}, SetRequest: set("X-A", "Accept-Encoding")},
		{Name: "c", SetResponse: map[string]string{"X-A": "a\r\nSet-Cookie: evil=1", "X-B": "", "X-C": " c", "X-D": "\x00", "x-e": "1", "X-E": "2"},
			RemoveResponse: []string{"Vary", "Content-Encoding", "ETag", "Trailer", "Age", "Cache-Status", "content_length"}},
		{Name: "d", To: []string{"list:none"}, Path: "(", BypassCache: true},
	}}.Validate()))
}

func TestTablesAreExplainedAsTheyAreEnforced(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	applied := 0
	for range 300 {
		c := randomConfig(r)
		for i, u := range c.Rules {
			if len(u.Methods)+len(u.Schemes) > 0 {
				continue // which may be those of tunnels
			}
			c.Modify = append(c.Modify, ModifyConfig{Name: fmt.Sprint(i), BypassCache: true, From: u.From, NotFrom: u.NotFrom, To: u.To, NotTo: u.NotTo,
				Ports: u.Ports, Path: u.Path, Query: u.Query, Header: u.Header, UserAgent: u.UserAgent, When: u.When, Listen: u.Listen})
		}
		e := compile(t, c, nil)
		for range 30 {
			if applying(t, e, randomRequest(r)) != "" {
				applied++
			}
		}
	}
	if applied == 0 {
		t.Error("no table ever applied")
	}
}

func TestAReloadTellsOfTablesThatModify(t *testing.T) {
	one := ModifyConfig{Name: "one", BypassCache: true}
	changed := one
	changed.To = []string{"a.test"}
	before := compile(t, Config{Modify: []ModifyConfig{one, {Name: "two", MaxResponse: 5}}}, nil)
	after := compile(t, Config{Modify: []ModifyConfig{changed, {Name: "three", MaxResponse: 5}}}, nil)
	same(t, strings.Join(before.Difference(after), "\n")+"\n", "modify \"one\" changed\nmodify \"three\" added\nmodify \"two\" removed\n")
}
