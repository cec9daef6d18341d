package upstream

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
	"fwdproxy/internal/target"
)

// heads gathers what a scripted server was sent.
type heads struct {
	mu   sync.Mutex
	list []string
}

func (h *heads) add(s string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, s)
}

func (h *heads) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.list...)
}

// parentProxy is a parent that answers absolute-form requests itself, with
// their target, and opens the tunnel to behind for each CONNECT.
func parentProxy(t *testing.T, behind string) (*origin, *heads) {
	seen := &heads{}
	return serve(t, func(_ int, c net.Conn, r *bufio.Reader) { beParent(c, r, seen, behind) }), seen
}

func beParent(c net.Conn, r *bufio.Reader, seen *heads, behind string) {
	for {
		head := readRequestHead(r)
		if head == "" {
			return
		}
		seen.add(head)
		method, rest, _ := strings.Cut(head, " ")
		if method != "CONNECT" {
			to, _, _ := strings.Cut(rest, " ")
			io.WriteString(c, ok("parent for "+to))
			continue
		}
		server, err := net.Dial("tcp", behind)
		if err != nil {
			io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
			continue
		}
		defer server.Close()
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		go io.Copy(c, server)
		io.Copy(server, r)
		return
	}
}

func password(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// withParents returns a transport for which a.test and b.test are loopback.
func withParents(t *testing.T, change func(*Config), parents ...ParentConfig) *Transport {
	return newTransport(t, func(c *Config) {
		c.Hosts = map[string][]string{"a.test": {"127.0.0.1"}, "b.test": {"127.0.0.1"}, "mixed.test": {"192.0.2.1", "127.0.0.1"}}
		c.Parents = parents
		if change != nil {
			change(c)
		}
	})
}

func TestAPlainRequestGoesToTheParentInAbsoluteForm_RFC9112_3_2_2(t *testing.T) {
	o, seen := parentProxy(t, "")
	tr := withParents(t, nil, ParentConfig{URL: "http://" + o.addr, User: "fwd", PasswordFile: password(t, "secret\n")})
	for _, url := range []string{"http://a.test/one?q", "http://b.test:8080/two"} {
		req := request(t, "GET", url, nil)
		req.Header.Set("Proxy-Authorization", "Basic the-clients-own")
		res, body := do(t, tr, req)
		if res.StatusCode != 200 || body != "parent for "+url {
			t.Errorf("%s: %d %q", url, res.StatusCode, body)
		}
	}
	if o.conns.Load() != 1 {
		t.Errorf("%d connections to the parent, want one that is used again", o.conns.Load())
	}
	for i, want := range []string{"GET http://a.test/one?q HTTP/1.1\r\nHost: a.test\r\n", "GET http://b.test:8080/two HTTP/1.1\r\nHost: b.test:8080\r\n"} {
		head := seen.all()[i]
		if !strings.HasPrefix(head, want) || strings.Count(head, "Proxy-Authorization") != 1 ||
			!strings.Contains(head, "\r\nProxy-Authorization: Basic ZndkOnNlY3JldA==\r\n") {
			t.Errorf("the parent got\n%s", head)
		}
	}
	o2, seen := parentProxy(t, "")
	tr = withParents(t, nil, ParentConfig{URL: "http://" + o2.addr})
	req := request(t, "OPTIONS", "http://a.test", nil)
	req.URL.Path = "*"
	do(t, tr, req)
	if head := seen.all()[0]; !strings.HasPrefix(head, "OPTIONS http://a.test HTTP/1.1\r\n") {
		t.Errorf("a server-wide OPTIONS goes out as\n%s", head) // RFC 9112, Section 3.2.4
	}
}

func TestATunnelGoesThroughTheParent_RFC9110_9_3_6(t *testing.T) {
	seen := &heads{}
	o := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
		seen.add(readRequestHead(r))
		io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\n\r\nSSH-2.0-early")
		io.Copy(c, r)
	})
	tr := withParents(t, nil, ParentConfig{URL: "http://" + o.addr, User: "fwd", PasswordFile: password(t, "secret")})
	h := &hop.Hop{Permit: permitAll, Via: "1.1 me"}
	conn, early, err := tr.Dial(hop.With(t.Context(), h), target.Target{Host: "a.test", Port: 2222})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, plain := conn.(*net.TCPConn); !plain {
		t.Errorf("a tunnel gets a %T, want a plain *net.TCPConn", conn)
	}
	if head := seen.all()[0]; head != "CONNECT a.test:2222 HTTP/1.1\r\nHost: a.test:2222\r\nVia: 1.1 me\r\nProxy-Authorization: Basic ZndkOnNlY3JldA==\r\n\r\n" {
		t.Errorf("the parent got\n%s", head)
	}
	io.WriteString(conn, "!")
	all, b := string(early), make([]byte, 1)
	for !strings.HasSuffix(all, "!") {
		if _, err := io.ReadFull(conn, b); err != nil {
			t.Fatalf("%q, then %v", all, err)
		}
		all += string(b)
	}
	if all != "SSH-2.0-early!" {
		t.Errorf("got %q", all)
	}
	if addr, name := h.Answered(); addr != netip.MustParseAddrPort("127.0.0.1:2222") || name != "FIRSTUP_PARENT/"+o.addr {
		t.Errorf("recorded %s %s", addr, name)
	}
}

func TestHTTPSAndWebSocketGoThroughATunnel_RFC6455_4_1(t *testing.T) {
	cert, ca := certificate(t, time.Now().Add(time.Hour), "a.test")
	secure := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}}, func(_ int, c *tls.Conn, r *bufio.Reader) {
		for readRequestHead(r) != "" {
			io.WriteString(c, ok("secret"))
		}
	})
	o, seen := parentProxy(t, secure.addr)
	tr := withParents(t, func(c *Config) { c.CAFile = ca }, ParentConfig{URL: "http://" + o.addr})
	for range 2 {
		if _, body := do(t, tr, request(t, "GET", "https://a.test/x", nil)); body != "secret" {
			t.Errorf("got %q", body)
		}
	}
	if len(seen.all()) != 1 || !strings.HasPrefix(seen.all()[0], "CONNECT a.test:443 ") {
		t.Errorf("the parent got %q", seen.all())
	}
	if err := fails(t, tr, request(t, "GET", "https://b.test/", nil)); fault.From(err).Kind != fault.TLSCertificateError {
		t.Errorf("another host's certificate: %v", err)
	}

	ws := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if head := readRequestHead(r); strings.HasPrefix(head, "GET /chat HTTP/1.1\r\nHost: a.test\r\n") {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		}
	})
	o, seen = parentProxy(t, ws.addr)
	tr = withParents(t, nil, ParentConfig{URL: "http://" + o.addr})
	req := request(t, "GET", "http://a.test/chat", nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusSwitchingProtocols || !strings.HasPrefix(seen.all()[0], "CONNECT a.test:80 ") {
		t.Errorf("%d, the parent got %q", res.StatusCode, seen.all())
	}
}

func TestAParentMaySpeakTLS(t *testing.T) {
	cert, ca := certificate(t, time.Now().Add(time.Hour), "127.0.0.1")
	behind := answering(t, ok("through"))
	seen := &heads{}
	o := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}}, func(_ int, c *tls.Conn, r *bufio.Reader) { beParent(c, r, seen, behind.addr) })
	tr := withParents(t, func(c *Config) { c.CAFile = ca }, ParentConfig{URL: "https://" + o.addr})
	if _, body := do(t, tr, request(t, "GET", "http://a.test/", nil)); body != "parent for http://a.test/" {
		t.Errorf("got %q", body)
	}
	conn, _, err := tr.Dial(hop.With(t.Context(), &hop.Hop{Permit: permitAll}), target.Target{Host: "a.test", Port: 443})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n")
	if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.ContentLength != 7 {
		t.Errorf("%v %v", res, err)
	}
	// One whose certificate cannot be verified gets nothing.
	tr = withParents(t, nil, ParentConfig{URL: "https://" + o.addr})
	wantFault(t, fails(t, tr, request(t, "GET", "http://a.test/", nil)), fault.TLSCertificateError, 502)
}

// nowhere returns an address at which nobody listens.
func nowhere(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestTheNextParentIsTriedWhereOneCannotBeReached(t *testing.T) {
	dead := nowhere(t)
	// This one takes connections, and closes them before it answers.
	mute := serve(t, func(_ int, _ net.Conn, r *bufio.Reader) { readRequestHead(r) })
	good, _ := parentProxy(t, "")
	tr := withParents(t, nil, ParentConfig{URL: "http://" + dead}, ParentConfig{URL: "http://" + mute.addr, To: []string{"b.test"}}, ParentConfig{URL: "http://" + good.addr})
	for _, host := range []string{"a.test", "c.a.test"} {
		h := &hop.Hop{Permit: permitAll}
		if _, body := do(t, tr, requestWith(t, h, "GET", "http://127.0.0.1/", nil)); body != "parent for http://127.0.0.1/" {
			t.Errorf("%s: %q", host, body)
		}
		if _, name := h.Answered(); name != "FIRSTUP_PARENT/"+good.addr {
			t.Errorf("answered by %s", name)
		}
	}
	var states []string
	for _, p := range tr.Parents() {
		states = append(states, fmt.Sprint(p.Name == dead, p.Rests))
	}
	if got := strings.Join(states, "; "); got != "true true; false false; false false" {
		t.Errorf("parents are %s", got)
	}
	ways, _ := tr.Route(target.Target{Host: "b.test", Port: 80})
	if got := strings.Join(ways, ", "); got != "parent "+mute.addr+", parent "+good.addr+", parent "+dead {
		t.Errorf("the one that rests comes last: %s", got)
	}
	conn, _, err := tr.Dial(hop.With(t.Context(), &hop.Hop{Permit: permitAll}), target.Target{Host: "b.test", Port: 443})
	if err == nil {
		conn.Close()
	}
	wantFault(t, err, fault.DestinationUnavailable, 503) // good's answer, for want of a server behind it
	if mute.conns.Load() == 0 {
		t.Error("the second parent was not asked first")
	}
}

func TestWithoutAParentThatCanBeReachedNothingGoesDirectUnlessThePolicySaysSo(t *testing.T) {
	o := answering(t, ok("direct"))
	for _, direct := range []bool{false, true} {
		tr := withParents(t, func(c *Config) { c.DirectFallback = direct }, ParentConfig{URL: "http://" + nowhere(t), NotTo: []string{".b.test"}})
		req := request(t, "GET", "http://"+o.addr+"/", nil)
		to, _ := target.FromAuthority(o.addr, "")
		ctx := hop.With(t.Context(), &hop.Hop{Permit: permitAll})
		if !direct {
			wantFault(t, fails(t, tr, req), fault.ConnectionRefused, 502)
			_, _, err := tr.Dial(ctx, to)
			wantFault(t, err, fault.ConnectionRefused, 502)
			if o.conns.Load() != 0 {
				t.Error("the origin was reached past the parent")
			}
		} else {
			if _, body := do(t, tr, req); body != "direct" {
				t.Errorf("got %q", body)
			}
			c, _, err := tr.Dial(ctx, to)
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
		// What the parent does not serve goes direct either way.
		_, port, _ := net.SplitHostPort(o.addr)
		if _, body := do(t, tr, request(t, "GET", "http://b.test:"+port+"/", nil)); body != "direct" {
			t.Errorf("got %q", body)
		}
		o.conns.Store(0)
	}
}

func TestTheDestinationIsDecidedBeforeTheParentHearsOfIt(t *testing.T) {
	o, _ := parentProxy(t, "")
	no := errors.New("no")
	loopback := func(a netip.AddrPort) error {
		if a.Addr().IsLoopback() {
			return no
		}
		return nil
	}
	tr := withParents(t, nil, ParentConfig{URL: "http://" + o.addr})
	resolving := withParents(t, nil, ParentConfig{URL: "http://" + o.addr, Resolves: true})
	do(t, tr, request(t, "GET", "http://a.test/", nil)) // leaves a connection
	for name, tt := range map[string]struct {
		tr   *Transport
		host string
	}{
		"a literal":                          {tr, "127.0.0.1"},
		"a literal, and the parent resolves": {resolving, "127.0.0.1"},
		"a name":                             {tr, "a.test"},
		"a name of which one address is permitted": {tr, "mixed.test"},
	} {
		before := o.conns.Load()
		err := fails(t, tt.tr, requestWith(t, &hop.Hop{Permit: loopback}, "GET", "http://"+tt.host+"/", nil))
		_, _, dialErr := tt.tr.Dial(hop.With(t.Context(), &hop.Hop{Permit: loopback}), target.Target{Host: tt.host, Port: 443, Addr: addrOf(tt.host)})
		if err != no || dialErr != no || o.conns.Load() != before {
			t.Errorf("%s: %v, %v, %d connections", name, err, dialErr, o.conns.Load()-before)
		}
	}
}

func addrOf(host string) netip.Addr { a, _ := netip.ParseAddr(host); return a }

func TestAParentThatResolvesIsAskedAboutNamesThatNobodyHereKnows(t *testing.T) {
	o, _ := parentProxy(t, "")
	tr := withParents(t, nil, ParentConfig{URL: "http://" + o.addr, Resolves: true})
	tr.resolver.lookup = nil // nothing looks anything up
	var asked []netip.AddrPort
	h := &hop.Hop{Permit: func(a netip.AddrPort) error { asked = append(asked, a); return nil }}
	if _, body := do(t, tr, requestWith(t, h, "GET", "http://inside.example/", nil)); body != "parent for http://inside.example/" {
		t.Errorf("got %q", body)
	}
	if len(asked) != 1 || asked[0] != hop.Unknown {
		t.Errorf("asked about %v", asked)
	}
	if addr, _ := h.Answered(); addr != hop.Unknown {
		t.Errorf("recorded %s", addr)
	}
	no := errors.New("no")
	err := fails(t, tr, requestWith(t, &hop.Hop{Permit: func(netip.AddrPort) error { return no }}, "GET", "http://inside.example/", nil))
	if err != no || o.conns.Load() != 1 {
		t.Errorf("%v, %d connections", err, o.conns.Load())
	}
}

func TestWhatAParentRefusesIsToldWithoutItsCredentials_RFC9110_15_5_8(t *testing.T) {
	for _, tt := range []struct {
		answer string
		kind   fault.Kind
		status int
	}{
		{"407 Proxy Authentication Required", fault.ConfigurationError, 502},
		{"403 Forbidden", fault.RequestDenied, 403},
		{"503 Service Unavailable", fault.DestinationUnavailable, 503},
		{"508 Loop Detected", fault.LoopDetected, 508},
		{"302 Found", fault.DestinationUnavailable, 502},
	} {
		o := answering(t, "HTTP/1.1 "+tt.answer+"\r\nProxy-Authenticate: Basic realm=parent\r\nContent-Length: 0\r\n\r\n")
		tr := withParents(t, nil, ParentConfig{URL: "http://" + o.addr})
		_, _, err := tr.Dial(hop.With(t.Context(), &hop.Hop{Permit: permitAll}), target.Target{Host: "a.test", Port: 443})
		wantFault(t, err, tt.kind, tt.status)
		if tt.status == 502 && tt.kind == fault.ConfigurationError {
			wantFault(t, fails(t, tr, request(t, "GET", "http://a.test/", nil)), tt.kind, tt.status)
		}
		if tr.Parents()[0].Rests {
			t.Errorf("%s: a parent that answers rests", tt.answer)
		}
	}
	o := answering(t, "HTTP/1.1 200 OK\r\nContent : x\r\n\r\n")
	_, _, err := withParents(t, nil, ParentConfig{URL: "http://" + o.addr}).
		Dial(hop.With(t.Context(), &hop.Hop{Permit: permitAll}), target.Target{Host: "a.test", Port: 443})
	wantFault(t, err, fault.ProtocolError, 502)
}

func TestAParentThatDoesNotAnswerAConnectIsGivenUp(t *testing.T) {
	o := serve(t, func(_ int, c net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) })
	tr := withParents(t, func(c *Config) { c.ConnectTimeout = short(100 * time.Millisecond) }, ParentConfig{URL: "http://" + o.addr})
	_, _, err := tr.Dial(hop.With(t.Context(), &hop.Hop{Permit: permitAll}), target.Target{Host: "a.test", Port: 443})
	wantFault(t, err, fault.ConnectionTimeout, 504)
	ctx := canceled(hop.With(t.Context(), &hop.Hop{Permit: permitAll}))
	if _, _, err := tr.Dial(ctx, target.Target{Host: "a.test", Port: 443}); err != ctx.Err() {
		t.Errorf("a caller that left gets %v", err)
	}
	eventually(t, "no connection is open", func() bool { idle, used := tr.Stats(); return idle+used == 0 })
}

func TestEveryProblemOfAParentIsReported(t *testing.T) {
	c := DefaultConfig()
	c.Parents = []ParentConfig{
		{URL: "parent:3128"}, {URL: "http://u:p@h:1"}, {URL: "http://h"}, {URL: "http://h:1/x"}, {URL: ""}, {URL: "ftp://h:21"},
		{URL: "http://h:1", To: []string{"ok.test", "a b"}, NotTo: []string{".192.0.2.1"}},
		{URL: "http://h:1", PasswordFile: "x"}, {URL: "http://h:1", User: "x"}, {URL: "http://h:1", User: "x:y", PasswordFile: "z"},
		{URL: "http://h:1/", User: "x", PasswordFile: "z"}, {URL: "https://[::1]:1"},
	}
	var keys []string
	for _, p := range c.Validate() {
		keys = append(keys, strings.TrimPrefix(p.Key, "upstream.parent"))
	}
	want := "[0].url [1].url [2].url [3].url [4].url [5].url [6].to[1] [6].not_to[0] [7].user [8].password_file [9].user"
	if got := strings.Join(keys, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	c = DefaultConfig()
	c.DirectFallback = true
	if p := c.Validate(); len(p) != 1 || p[0].Key != "upstream.direct_fallback" {
		t.Errorf("got %v", p)
	}
	c.Parents = []ParentConfig{{URL: "http://h:1", User: "x", PasswordFile: "/does/not/exist"}}
	if _, err := New(c, nil); err == nil || !strings.Contains(err.Error(), "upstream.parent[0].password_file") {
		t.Errorf("got %v", err)
	}
}

func TestWhatAParentRefusesDoesNotGoRoundIt(t *testing.T) {
	behind := answering(t, ok("direct"))
	for _, answer := range []string{"403 Forbidden", "407 Proxy Authentication Required", "503 Service Unavailable"} {
		o := answering(t, "HTTP/1.1 "+answer+"\r\nContent-Length: 0\r\n\r\n")
		tr := withParents(t, func(c *Config) { c.DirectFallback = true }, ParentConfig{URL: "http://" + o.addr})
		to, _ := target.FromAuthority(behind.addr, "")
		if c, _, err := tr.Dial(hop.With(t.Context(), &hop.Hop{Permit: permitAll}), to); err == nil {
			c.Close()
			t.Errorf("%s: the tunnel goes past the parent", answer)
		}
		if res, err := tr.RoundTrip(request(t, "GET", "https://"+behind.addr+"/", nil)); err == nil {
			res.Body.Close()
			t.Errorf("%s: https goes past the parent", answer)
		}
		if behind.conns.Load() != 0 {
			t.Errorf("%s: the origin was reached", answer)
		}
	}
}

func TestOneParentWithTwoUsersKeepsTheirConnectionsApart(t *testing.T) {
	o, seen := parentProxy(t, "")
	tr := withParents(t, nil,
		ParentConfig{URL: "http://" + o.addr, To: []string{"a.test"}, User: "one", PasswordFile: password(t, "x")},
		ParentConfig{URL: "http://" + o.addr, To: []string{"b.test"}, User: "two", PasswordFile: password(t, "x")})
	for _, host := range []string{"a.test", "b.test", "a.test"} {
		do(t, tr, request(t, "GET", "http://"+host+"/", nil))
	}
	if o.conns.Load() != 2 {
		t.Errorf("%d connections, want one for each user", o.conns.Load())
	}
	for i, want := range []string{"b25lOng=", "dHdvOng=", "b25lOng="} {
		if head := seen.all()[i]; !strings.Contains(head, "Basic "+want) {
			t.Errorf("request %d goes out with another's credentials:\n%s", i+1, head)
		}
	}
}
