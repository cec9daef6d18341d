package reverse

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"fwdproxy/accesslog"
	"fwdproxy/acl"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/unit"
)

func TestATargetIsReadOnceAndTheSameForAll_RFC9112_3_2(t *testing.T) {
	sites := []SiteConfig{
		{Hosts: []string{"a.test", "xn--bcher-kva.test", "192.0.2.1", "2001:db8::1"}, Pool: "a"},
		{Hosts: []string{"a.test"}, Path: "/api", Pool: "api"},
		{Hosts: []string{"denied.test"}, Pool: "denied"},
	}
	for name, tt := range map[string]struct {
		line, fields string // without line ends; Connection: close is added
		status       string
		seen         string // at the next hop; "" is nothing
	}{
		"Host":                       {"GET /x?y HTTP/1.1", "Host: a.test", "200", "GET http://a.test/x?y Host=a.test pool=a"},
		"Host in another form":       {"GET / HTTP/1.1", "Host: A.TEST.:80", "200", "GET http://a.test/ Host=a.test pool=a"},
		"Host with another port":     {"GET / HTTP/1.1", "Host: a.test:8080", "200", "GET http://a.test:8080/ Host=a.test:8080 pool=a"},
		"absolute-form wins":         {"GET http://a.test/api/x HTTP/1.1", "Host: denied.test", "200", "GET http://a.test/api/x Host=a.test pool=api"},
		"absolute-form is decided":   {"GET http://denied.test/ HTTP/1.1", "Host: a.test", "403", ""},
		"https here is still http":   {"GET https://a.test/ HTTP/1.1", "Host: a.test", "200", "GET http://a.test:443/ Host=a.test:443 pool=a"},
		"a rule":                     {"GET / HTTP/1.1", "Host: denied.test", "403", ""},
		"no site":                    {"GET / HTTP/1.1", "Host: b.test", "404", ""},
		"no Host":                    {"GET / HTTP/1.1", "X: y", "400", ""},
		"an empty Host":              {"GET / HTTP/1.1", "Host:", "400", ""},
		"two Hosts":                  {"GET / HTTP/1.1", "Host: a.test\r\nHost: a.test", "400", ""},
		"HTTP/1.0 without Host":      {"GET / HTTP/1.0", "X: y", "400", ""},
		"HTTP/1.0":                   {"GET / HTTP/1.0", "Host: a.test", "200", "GET http://a.test/ Host=a.test pool=a"},
		"a list":                     {"GET / HTTP/1.1", "Host: a.test,denied.test", "400", ""},
		"a slash":                    {"GET / HTTP/1.1", "Host: a.test/x", "400", ""},
		"an at sign":                 {"GET / HTTP/1.1", "Host: b@a.test", "400", ""},
		"a question mark":            {"GET / HTTP/1.1", "Host: a.test?x", "400", ""},
		"a space":                    {"GET / HTTP/1.1", "Host: a.test x", "400", ""},
		"a control character":        {"GET / HTTP/1.1", "Host: a.test\x01", "400", ""},
		"an encoded letter":          {"GET / HTTP/1.1", "Host: %61.test", "400", ""},
		"port 0":                     {"GET / HTTP/1.1", "Host: a.test:0", "400", ""},
		"port 80a":                   {"GET / HTTP/1.1", "Host: a.test:80a", "400", ""},
		"no host but a port":         {"GET / HTTP/1.1", "Host: :80", "400", ""},
		"an address":                 {"GET / HTTP/1.1", "Host: 192.0.2.1", "200", "GET http://192.0.2.1/ Host=192.0.2.1 pool=a"},
		"an IPv6 address":            {"GET / HTTP/1.1", "Host: [2001:DB8::1]:81", "200", "GET http://[2001:db8::1]:81/ Host=[2001:db8::1]:81 pool=a"},
		"an address as one number":   {"GET / HTTP/1.1", "Host: 3221225985", "400", ""},
		"an international name":      {"GET http://bücher.test/ HTTP/1.1", "Host: x", "200", "GET http://xn--bcher-kva.test/ Host=xn--bcher-kva.test pool=a"},
		"userinfo":                   {"GET http://me@a.test/ HTTP/1.1", "Host: a.test", "400", ""},
		"ftp":                        {"GET ftp://a.test/ HTTP/1.1", "Host: a.test", "400", ""},
		"a dot segment":              {"GET /api/../x HTTP/1.1", "Host: a.test", "400", ""},
		"an encoded dot segment":     {"GET /api/%2e%2E/x HTTP/1.1", "Host: a.test", "400", ""},
		"an encoded slash and dots":  {"GET /api/..%2fx HTTP/1.1", "Host: a.test", "400", ""},
		"dots behind a parameter":    {"GET /api/..;a=b/x HTTP/1.1", "Host: a.test", "400", ""},
		"the path stays as it came":  {"GET /a%2fb//c;d/%7e HTTP/1.1", "Host: a.test", "200", "GET http://a.test/a%2fb//c;d/%7e Host=a.test pool=a"},
		"two slashes are no host":    {"GET //denied.test/x HTTP/1.1", "Host: a.test", "200", "GET http://a.test//denied.test/x Host=a.test pool=a"},
		"OPTIONS of the server":      {"OPTIONS * HTTP/1.1", "Host: a.test", "200", ""},
		"OPTIONS of it, by its name": {"OPTIONS http://a.test HTTP/1.1", "Host: a.test", "200", ""},
		"OPTIONS of a resource":      {"OPTIONS /api HTTP/1.1", "Host: a.test", "200", "OPTIONS http://a.test/api Host=a.test pool=api"},
		"GET of *":                   {"GET * HTTP/1.1", "Host: a.test", "400", ""},
		"TRACE":                      {"TRACE / HTTP/1.1", "Host: a.test", "405", ""},
		"CONNECT":                    {"CONNECT a.test:443 HTTP/1.1", "Host: a.test", "405", ""},
		"a loop":                     {"GET / HTTP/1.1", "Host: a.test\r\nVia: 1.1 fwdproxy", "508", ""},
		"too many fields":            {"GET / HTTP/1.1", "Host: a.test" + strings.Repeat("\r\nX: y", 200), "431", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var seen []string
			s := newStand(t, answer(&seen), sites,
				acl.RuleConfig{Name: "not that", To: []string{"denied.test"}, Action: "deny"}, acl.RuleConfig{Name: "all", Action: "allow"})
			reply := s.talk(t, tt.line+"\r\n"+tt.fields+"\r\nConnection: close\r\n\r\n")
			if got := strings.Join(seen, ", "); status(reply) != tt.status || got != tt.seen {
				t.Errorf("the next hop saw %q, want %q; the reply:\n%s", got, tt.seen, reply)
			}
			if status(reply) == "405" && field(reply, "Allow") != "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" {
				t.Errorf("Allow: %s", field(reply, "Allow"))
			}
		})
	}
}

func TestNothingRunsBehindARefusedRequest(t *testing.T) {
	const behind = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"
	for _, head := range []string{
		"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"GET /../x HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: b@a.test\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: denied.test\r\nContent-Length: 1000\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: denied.test\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n",
	} {
		s := newStand(t, never(t), everySite, acl.RuleConfig{Name: "not that", To: []string{"denied.test"}, Action: "deny"}, acl.RuleConfig{Name: "all", Action: "allow"})
		reply := s.talk(t, head+behind)
		if strings.Count(reply, "HTTP/1.1 ") != 1 || status(reply)[0] != '4' || field(reply, "Connection") != "close" {
			t.Errorf("%q:\n%s", head, reply)
		}
	}
}

func TestAPortInARuleIsTheListeners(t *testing.T) {
	rule := func() acl.RuleConfig {
		return acl.RuleConfig{Name: "here", Ports: []unit.PortRange{{First: 1, Last: 1}}, Action: "allow"}
	}
	var seen []string
	s := newStand(t, answer(&seen), everySite, rule())
	// What Host says of the port is the client's word alone.
	for _, host := range []string{"a.test", "a.test:80", "a.test:1"} {
		if reply := s.talk(t, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n"); status(reply) != "200" {
			t.Errorf("%s:\n%s", host, reply)
		}
	}
	other := newStand(t, never(t), everySite, acl.RuleConfig{Name: "there", Ports: []unit.PortRange{{First: 80, Last: 80}}, Action: "allow"})
	for _, host := range []string{"a.test", "a.test:80"} {
		if reply := other.talk(t, "GET http://"+host+"/ HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n"); status(reply) != "403" {
			t.Errorf("%s, with a rule about another port:\n%s", host, reply)
		}
	}
}

func TestWhoAskedForWhatIsTheProxysToSay(t *testing.T) {
	var got http.Header
	s := newStand(t, roundTrip(func(r *http.Request) (*http.Response, error) {
		got = r.Header
		return &http.Response{StatusCode: 204, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	}), everySite)
	var claimed strings.Builder
	for name := range claims {
		fmt.Fprintf(&claimed, "%s: evil\r\n%s: evil\r\n", name, strings.ReplaceAll(strings.ToUpper(name), "-", "_"))
	}
	s.talk(t, "GET / HTTP/1.1\r\nHost: A.test:8080\r\nConnection: close, X-Forwarded-For, X-Forwarded-Proto\r\n"+claimed.String()+
		"X-Forwarded-For: evil\r\nX_Forwarded-for: evil\r\nX-Forwarded-Fortune: kept\r\n\r\n")
	want := map[string]string{"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "a.test:8080", "X-Forwarded-Proto": "http",
		"X-Forwarded-Fortune": "kept", "Via": "1.1 fwdproxy"}
	for name, values := range got {
		if want[name] != strings.Join(values, "|") {
			t.Errorf("%s: %q, want %q", name, values, want[name])
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

func TestOverTLSTheSchemeIsHTTPS(t *testing.T) {
	var seen []string
	var proto string
	next := answer(&seen)
	s := newStand(t, roundTrip(func(r *http.Request) (*http.Response, error) {
		proto = r.Header.Get("X-Forwarded-Proto")
		return next(r)
	}), everySite, acl.RuleConfig{Action: "allow"})
	s.settings.Door.ACL, _ = acl.Compile(acl.Config{Default: "allow"}, nil)
	for target, want := range map[string]string{
		"/x": "GET https://a.test/x Host=a.test pool=app", "http://a.test/x": "GET https://a.test:80/x Host=a.test:80 pool=app",
	} {
		seen = nil
		r := httptest.NewRequest("GET", target, nil).WithContext(contextAt(t, "192.0.2.9:8443"))
		r.Host, r.TLS = "a.test", &tls.ConnectionState{}
		New(func() *Settings { return s.settings }).ServeHTTP(httptest.NewRecorder(), r)
		if len(seen) != 1 || seen[0] != want || proto != "https" {
			t.Errorf("%s: %q, X-Forwarded-Proto %q", target, seen, proto)
		}
	}
}

func TestWithoutAListenersPortNothingIsAllowed(t *testing.T) {
	s := newStand(t, never(t), everySite)
	w := httptest.NewRecorder()
	New(func() *Settings { return s.settings }).ServeHTTP(w, httptest.NewRequest("GET", "http://a.test/", nil))
	if w.Code != 403 {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}

// peer counts what reaches it; each answer may be stored.
func peer(t *testing.T, requests *atomic.Int32) string {
	return server(t, func(c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			n := requests.Add(1)
			b, _ := io.ReadAll(req.Body)
			body := fmt.Sprintf("%d %s %s %s", n, req.Method, req.URL, b)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: X-Inner\r\nX-Inner: 1\r\nCache-Control: max-age=60\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
	})
}

func TestABodyThatNobodyNeedsIsNotTheNextRequest_RFC9112_9_3(t *testing.T) {
	var requests atomic.Int32
	up := pool(t, peer(t, &requests))
	s := newStand(t, cached(t, up), everySite)
	s.talk(t, "GET /page HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
	// The page is stored now, and a GET with a body asks for it again.
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"
	for _, framed := range []string{
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(smuggled), smuggled),
		fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled),
	} {
		reply := s.talk(t, "GET /page HTTP/1.1\r\nHost: a.test\r\n"+framed+"GET /page HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
		if strings.Count(reply, "HTTP/1.1 200 OK") != 2 || strings.Contains(reply, "GET /smuggled \r\n") || !strings.HasSuffix(reply, "1 GET /page ") {
			t.Errorf("the reply:\n%s", reply)
		}
		if strings.Contains(reply, "X-Inner") {
			t.Errorf("a field that Connection names came through:\n%s", reply)
		}
	}
	if n := requests.Load(); n != 3 {
		t.Errorf("the peer got %d requests, want 3", n)
	}
	// With only half of the body the connection ends, whatever comes behind.
	reply := s.talk(t, "GET /page HTTP/1.1\r\nHost: denied.test\r\nContent-Length: 1000\r\nExpect: 100-continue\r\nVia: 1.1 fwdproxy\r\n\r\n"+smuggled)
	if strings.Count(reply, "HTTP/1.1 ") != 1 || field(reply, "Connection") != "close" {
		t.Errorf("the reply:\n%s", reply)
	}
}

func TestTheRulesSayTheSameOfAStoredAnswerAndOfAFetch(t *testing.T) {
	var requests atomic.Int32
	up := pool(t, peer(t, &requests)) // on 127.0.0.1
	const ask = "GET /page HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
	for name, tt := range map[string]struct {
		list []acl.RuleConfig
		want [2]string
		tags [2]accesslog.Tag
	}{
		"by name": {[]acl.RuleConfig{{Name: "site", To: []string{"a.test"}, Action: "allow"}},
			[2]string{"200", "200"}, [2]accesslog.Tag{accesslog.TagMiss, accesslog.TagHit}},
		// Nobody asks about a pool's addresses, so that what hangs on one stays no.
		"by an address, to allow": {[]acl.RuleConfig{{Name: "there", To: []string{"127.0.0.0/8"}, Action: "allow"}},
			[2]string{"403", "403"}, [2]accesslog.Tag{accesslog.TagDenied, accesslog.TagDenied}},
		"by an address, to deny": {[]acl.RuleConfig{{Name: "there", To: []string{"10.0.0.0/8"}, Action: "deny"}, {Name: "all", Action: "allow"}},
			[2]string{"403", "403"}, [2]accesslog.Tag{accesslog.TagDenied, accesslog.TagDenied}},
		"by an address, behind the name": {[]acl.RuleConfig{{Name: "site", To: []string{"a.test"}, Action: "allow"}, {Name: "there", To: []string{"127.0.0.0/8"}, Action: "deny"}},
			[2]string{"200", "200"}, [2]accesslog.Tag{accesslog.TagMiss, accesslog.TagHit}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t, cached(t, up), everySite, tt.list...)
			for i := range tt.want {
				reply := s.talk(t, ask)
				if rec := s.record(t); status(reply) != tt.want[i] || rec.Tag != tt.tags[i] {
					t.Errorf("request %d: %s, logged %+v", i+1, status(reply), rec)
				}
			}
		})
	}
}

func TestAWebSocketToASiteIsRelayed(t *testing.T) {
	up := pool(t, server(t, func(c net.Conn, r *bufio.Reader) {
		if req, err := http.ReadRequest(r); err != nil || req.Header.Get("Upgrade") != "websocket" || req.Header.Get("X-Forwarded-For") != "127.0.0.1" {
			t.Errorf("the peer got %v, %v", req, err)
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly ")
		io.Copy(c, r)
	}))
	s := newStand(t, never(t), everySite)
	s.settings.Door.Direct = up
	c := s.dial(t)
	r := bufio.NewReader(c)
	send(t, c, "GET /socket HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
	if head := readHead(t, r); status(head) != "101" || field(head, "Upgrade") != "websocket" || field(head, "Connection") != "Upgrade" {
		t.Errorf("the head:\n%s", head)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := rest(t, r); got != "early hello" {
		t.Errorf("came back: %q", got)
	}
	rec := s.record(t)
	if rec.Tag != accesslog.TagTunnel || rec.URL != "http://a.test/socket" || rec.BytesIn != 5 || rec.BytesOut != 11 || !strings.HasPrefix(rec.NextHop, "app/") {
		t.Errorf("logged: %+v", rec)
	}
	if _, inUse := up.Stats(); inUse != 0 {
		t.Errorf("%d connections are still counted", inUse)
	}
}

func TestAPoolThatIsGoneIsTheProxysFault(t *testing.T) {
	s := newStand(t, pool(t, "127.0.0.1:1"), []SiteConfig{{Hosts: []string{"*"}, Pool: "gone"}})
	reply := s.talk(t, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
	if rec := s.record(t); status(reply) != "500" || rec.Error != string(fault.ConfigurationError) {
		t.Errorf("logged %+v; the reply:\n%s", rec, reply)
	}
}

// contextAt is that of a request that came in at the address.
func contextAt(t *testing.T, addr string) context.Context {
	return context.WithValue(t.Context(), http.LocalAddrContextKey, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
}
