package edge

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fwdproxy/acl"
	"fwdproxy/auth"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/target"
	"fwdproxy/tunnel"
)

// checker knows ann, whose password is "a" and who is in sales.
func checker(t *testing.T) *auth.Checker {
	t.Helper()
	hash, err := auth.HashPassword("a")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"users": "ann:" + hash + "\n", "groups": "sales: ann\n"}
	c := auth.Config{Htpasswd: "users", Groups: "groups", Realm: "test", Failures: 100}
	d, problems := auth.Load(c, func(path string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(files[path])), nil })
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return auth.New(c, d, nil)
}

func proxyAuth(user, password string) string {
	return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// RFC 9110, Section 11.7.2: credentials are for one request. A connection that
// several users share, as behind another proxy, is nobody's.
func TestAnIdentityIsOfOneRequestAndNeverOfItsConnection(t *testing.T) {
	var passed []string
	next := roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("Proxy-Authorization") != "" {
			t.Error("credentials go further")
		}
		passed = append(passed, r.URL.Path)
		return &http.Response{StatusCode: 204, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	})
	s := newStand(t, next, func(d *Door) {
		d.Auth, d.ACL = checker(t), rules(t, acl.RuleConfig{Name: "sales", From: []string{"group:sales"}, Action: "allow"})
	})
	get := func(path string, fields ...string) string {
		return "GET http://origin.test" + path + " HTTP/1.1\r\nHost: origin.test\r\n" + strings.Join(append(fields, ""), "\r\n") + "\r\n"
	}
	got := s.talk(t, get("/1", proxyAuth("ann", "a"))+get("/2")+get("/3", proxyAuth("ann", "b"))+get("/4", proxyAuth("ann", "a"), "Connection: close, Proxy-Authorization"))
	var statuses []string
	for line := range strings.Lines(got) {
		if strings.HasPrefix(line, "HTTP/1.1 ") {
			statuses = append(statuses, line[9:12])
		}
	}
	if strings.Join(statuses, " ") != "204 407 407 204" || strings.Join(passed, " ") != "/1 /4" {
		t.Errorf("%v, passed %v", statuses, passed)
	}
	for i, want := range []string{"ann", "", "", "ann"} {
		if r := <-s.records; r.User != want || strings.Contains(r.ErrorCause, "ann") {
			t.Errorf("request %d is logged as %q, %q", i+1, r.User, r.ErrorCause)
		}
	}
	for _, r := range s.door.ACL.Rules() {
		if r.Name == "sales" && r.Hits != 2 {
			t.Errorf("the rule counts %d hits", r.Hits)
		}
	}
}

func challenged(err error) string {
	var f *fault.Error
	switch {
	case err == nil:
		return "allowed"
	case errors.As(err, &f) && f.HTTPStatus() == http.StatusProxyAuthRequired && len(f.Challenge) > 0:
		return "challenge by " + f.Rule
	}
	return "refused by " + fault.From(err).Rule
}

func TestNobodyIsAskedForWhatNobodyMayDo(t *testing.T) {
	sales := acl.RuleConfig{Name: "sales", From: []string{"group:sales"}, Action: "allow"}
	d := &Door{Mode: "forward", Auth: checker(t), ACL: rules(t, sales), Guard: func(a netip.AddrPort) error {
		if a.Addr().IsPrivate() {
			return &fault.Error{Kind: fault.DestinationIPProhibited, Rule: "private_destinations"}
		}
		return nil
	}}
	for name, c := range map[string]struct {
		method, to string
		who        auth.Identity
		want       string
	}{
		"a name":                    {"GET", "a.test", auth.Identity{}, "challenge by sales"},
		"a name, for ann":           {"GET", "a.test", auth.Identity{User: "ann", Groups: []string{"sales"}}, "allowed"},
		"a name, for bob":           {"GET", "a.test", auth.Identity{User: "bob"}, "refused by default"},
		"a private address":         {"GET", "10.0.0.1", auth.Identity{}, "refused by private_destinations"},
		"a tunnel to a closed port": {"CONNECT", "a.test:25", auth.Identity{}, "refused by forward.tunnel.ports"},
		"an address":                {"GET", "192.0.2.1", auth.Identity{}, "challenge by sales"},
	} {
		to := mustTarget(t, c.to)
		if got := challenged(d.Judge(d.As(question(someClient, c.method, to), c.who)).Err); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestWhereAnAddressIsNeededFirstTheChallengeComesWithIt(t *testing.T) {
	d := &Door{Mode: "forward", Auth: checker(t), Unresolved: true, ACL: rules(t,
		acl.RuleConfig{Name: "public", To: []string{"192.0.2.0/24"}, Action: "allow"},
		acl.RuleConfig{Name: "sales", From: []string{"group:sales"}, Action: "allow"})}
	j := d.Judge(d.As(question(someClient, "GET", mustTarget(t, "a.test")), auth.Identity{}))
	if j.Err != nil {
		t.Fatal(j.Err)
	}
	for addr, want := range map[string]string{"192.0.2.1": "allowed", "198.51.100.1": "challenge by sales"} {
		if _, err := j.Address(netip.AddrPortFrom(netip.MustParseAddr(addr), 80)); challenged(err) != want {
			t.Errorf("%s: %v, want %s", addr, err, want)
		}
	}
	// A parent looks the name up, and nobody here learns the address.
	if err := d.unknown(j.Verdict, &acl.Request{}); !strings.HasPrefix(challenged(err), "challenge") {
		t.Errorf("no address: %v", err)
	}
}

func TestTheReverseSideAsksNobody(t *testing.T) {
	d := &Door{Mode: modeReverse, ACL: rules(t,
		acl.RuleConfig{Name: "not bob", From: []string{"user:bob"}, To: []string{"b.test"}, Action: "deny"},
		acl.RuleConfig{Name: "sales", From: []string{"group:sales"}, Action: "allow"},
		acl.RuleConfig{Name: "others", To: []string{"a.test", "b.test"}, Action: "allow"})}
	for host, want := range map[string]string{"a.test": "allowed", "b.test": "refused by not bob", "c.test": "refused by default"} {
		if got := challenged(d.Judge(d.As(question(someClient, "GET", mustTarget(t, host)), auth.Identity{})).Err); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
}

// The server name in a tunnel is held against the rules for the user who
// opened it.
func TestTheNameInATunnelIsJudgedForTheUserOfTheTunnel(t *testing.T) {
	d := &Door{Mode: "forward", Auth: checker(t), Unresolved: true, Tunnel: tunnel.DefaultConfig(),
		ACL: rules(t, acl.RuleConfig{Name: "sales", From: []string{"group:sales"}, Action: "allow"})}
	for user, want := range map[string]string{"ann": "allowed", "": "challenge by sales"} {
		x := &Exchange{door: d, r: &http.Request{Method: "CONNECT", RemoteAddr: "192.0.2.9:1"}, target: target.Target{Host: "a.test", Port: 443}}
		if user != "" {
			x.who = d.Auth.Directory().Identity(user)
		}
		x.door.Tunnel.OtherSNI = "allow"
		_, err := x.judgeHello(d, tunnel.Hello{TLS: true, ServerName: "b.test"}, time.Now(), x.who, acl.Verdict{})
		if got := challenged(err); got != want {
			t.Errorf("%q: %s, want %s", user, got, want)
		}
	}
}

// On a reload a tunnel's user is who the new files say: with other groups, or
// nobody.
func TestAnOpenTunnelIsDecidedAgainForItsUserAsTheFilesAreNow(t *testing.T) {
	d := &Door{Mode: "forward", Auth: checker(t), Unresolved: true, Tunnel: tunnel.DefaultConfig(),
		ACL: rules(t, acl.RuleConfig{Name: "sales", From: []string{"group:sales"}, Action: "allow"})}
	for _, tt := range []struct {
		who  auth.Identity // as it was
		want string
	}{
		{auth.Identity{User: "ann"}, "allowed"}, // who has come to the group since
		{auth.Identity{User: "gone", Groups: []string{"sales"}}, "challenge by sales"},
		{auth.Identity{}, "challenge by sales"},
	} {
		x := &Exchange{door: d, who: tt.who, r: &http.Request{Method: "CONNECT", RemoteAddr: "192.0.2.9:1"},
			target: target.Target{Host: "a.test", Port: 443}, hello: &tunnel.Hello{TLS: true, ServerName: "a.test"}}
		if got := challenged(x.again(d, time.Now())); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.who, got, tt.want)
		}
	}
	d.Auth = nil // nobody can say who they are any more
	x := &Exchange{door: d, who: auth.Identity{User: "ann", Groups: []string{"sales"}}, r: &http.Request{Method: "CONNECT", RemoteAddr: "192.0.2.9:1"},
		target: target.Target{Host: "a.test", Port: 443}}
	if x.again(d, time.Now()) == nil {
		t.Error("without [forward.auth] the rule about a group still allows")
	}
}
