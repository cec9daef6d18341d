package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fwdproxy/auth"
	"fwdproxy/intercept"
	"fwdproxy/internal/proxytest"
	"fwdproxy/policy"
)

// inside is the whole proxy, intercepting, before a TLS origin on loopback.
type inside struct {
	*server
	addr  string // of the proxy
	port  string // of the origin, secure.test and 127.0.0.1
	log   *syncBuffer
	roots *x509.CertPool
	asked atomic.Int32 // requests that the origin got

	origins *x509.CertPool // who vouches for the origin
	seen    chan *http.Request
}

// startInside runs it under the rules, which stand behind one that intercepts
// unless they say so themselves; more is the rest of the policy, keys that of
// [forward.intercept].
func startInside(t testing.TB, rules, more string, keys ...string) *inside {
	t.Helper()
	in := &inside{log: &syncBuffer{}, seen: make(chan *http.Request, 1000)}
	ca, err := proxytest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(time.Now().Add(time.Hour), "secure.test", "other.test", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	origin, stop, err := proxytest.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in.asked.Add(1)
		select {
		case in.seen <- r:
		default:
		}
		w.Header().Set("Cache-Control", "no-store")
		io.WriteString(w, "from the origin")
	}), cert)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	_, in.port, _ = net.SplitHostPort(origin)
	in.origins = ca.Pool
	in.begin(t, ca, rules, more, keys...)
	return in
}

func (in *inside) begin(t testing.TB, ca *proxytest.CA, rules, more string, keys ...string) {
	t.Helper()
	dir := t.TempDir()
	if !strings.Contains(rules, `"intercept"`) {
		rules = "[[acl.rule]]\nname = \"look into\"\naction = \"intercept\"\n" + rules
	}
	text := `
[forward]
listen = ["127.0.0.1:0"]
[forward.tunnel]
ports = ["1-65535"]
peek = ["1-65535"]
[forward.intercept]
ca_cert = "ca.pem"
ca_key = "ca.key"
` + strings.Join(keys, "\n") + `
[upstream]
ca_file = "origin-ca.pem"
connect_timeout = "2s"
keepalive = "200ms"
[upstream.hosts]
"secure.test" = ["127.0.0.1"]
"other.test" = ["127.0.0.1"]
[admin]
listen = ""
[acl]
private_destinations = "allow"
` + rules + more
	caFile := filepath.Join(dir, "ca.pem")
	for name, content := range map[string]string{"policy.toml": text, "origin-ca.pem": string(ca.PEM)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := intercept.Create(caFile, filepath.Join(dir, "ca.key"), "Test CA", nil, time.Now(), time.Hour); err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	in.roots = x509.NewCertPool()
	in.roots.AppendCertsFromPEM(pem)
	p, err := policy.Load(filepath.Join(dir, "policy.toml"), "")
	if err != nil {
		t.Fatal(err)
	}
	if in.server, err = start(modeForward, p, nil, in.log, io.Discard); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.front.Close()
		in.insides.srv.Close()
		in.current.Load().upstream.Close()
		in.access.Close()
	})
	in.addr = in.doors.plain.addrs()[0].String()
}

// connect opens a tunnel to host:port and returns what it was answered.
func (in *inside) connect(t testing.TB, authority, fields string) (net.Conn, string) {
	t.Helper()
	c, err := net.Dial("tcp", in.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", authority, authority, fields)
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	for rest := line; err == nil && rest != "\r\n"; {
		rest, err = r.ReadString('\n')
	}
	if err != nil {
		t.Fatal(err)
	}
	return c, proxytest.Status(line)
}

// enter opens a tunnel to host and shakes hands in it, for the server name sni.
func (in *inside) enter(t testing.TB, host, sni string) (*tls.Conn, error) {
	t.Helper()
	c, status := in.connect(t, net.JoinHostPort(host, in.port), "")
	if status != "200" {
		return nil, fmt.Errorf("CONNECT: %s", status)
	}
	secure := tls.Client(c, &tls.Config{RootCAs: in.roots, ServerName: sni})
	return secure, secure.Handshake()
}

// ask sends raw in a new tunnel and returns all that comes back.
func (in *inside) ask(t testing.TB, raw string) string {
	t.Helper()
	c, err := in.enter(t, "secure.test", "secure.test")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, raw)
	reply, _ := io.ReadAll(c)
	return string(reply)
}

const allowAll = "[[acl.rule]]\nname = \"all\"\naction = \"allow\"\n"

func TestWhatIsRefusedOutsideIsRefusedInsideATunnel(t *testing.T) {
	in := startInside(t, allowAll, "[limits]\nheader_size = \"16KiB\"\nrequest_line = \"4KiB\"\nheader_count = 40\n")
	expand := strings.NewReplacer("{B}", "", "{H}", "secure.test:"+in.port)
	for _, h := range hostileHeads() {
		reply := in.ask(t, expand.Replace(strings.ReplaceAll(h.raw, "%%", "%")+smuggled))
		if got := statuses(reply); got != h.want || proxytest.Field(reply, "Connection") != "close" {
			t.Errorf("%s: got %q, want %s\n%s", h.name, got, h.want, reply)
		}
	}
	if n := in.asked.Load(); n != 0 {
		t.Errorf("the origin was asked %d times", n)
	}
}

func TestARequestInATunnelIsForTheTunnelsTarget_RFC9110_15_5_20(t *testing.T) {
	in := startInside(t, allowAll, "")
	at := "secure.test:" + in.port
	for name, tt := range map[string]struct{ raw, want string }{
		"the target":                     {"GET / HTTP/1.1\r\nHost: " + at + "\r\n", "200"},
		"in other letters":               {"GET / HTTP/1.1\r\nHost: SECURE.test.:" + in.port + "\r\n", "200"},
		"in absolute-form":               {"GET https://" + at + "/ HTTP/1.1\r\nHost: " + at + "\r\n", "200"},
		"OPTIONS *":                      {"OPTIONS * HTTP/1.1\r\nHost: " + at + "\r\n", "200"},
		"another host":                   {"GET / HTTP/1.1\r\nHost: other.test:" + in.port + "\r\n", "421"},
		"another port":                   {"GET / HTTP/1.1\r\nHost: secure.test\r\n", "421"},
		"another host in absolute-form":  {"GET https://other.test:" + in.port + "/ HTTP/1.1\r\nHost: " + at + "\r\n", "421"},
		"its Host beside another target": {"GET https://" + at + "/ HTTP/1.1\r\nHost: other.test\r\n", "200"},
		"http":                           {"GET http://" + at + "/ HTTP/1.1\r\nHost: " + at + "\r\n", "421"},
		"a CONNECT":                      {"CONNECT " + at + " HTTP/1.1\r\nHost: " + at + "\r\n", "400"},
		"GET *":                          {"GET * HTTP/1.1\r\nHost: " + at + "\r\n", "400"},
		"a loop":                         {"GET / HTTP/1.1\r\nVia: 1.1 fwdproxy\r\nHost: " + at + "\r\n", "508"},
		"TRACE":                          {"TRACE / HTTP/1.1\r\nHost: " + at + "\r\n", "405"},
	} {
		before := in.asked.Load()
		reply := in.ask(t, tt.raw+"Connection: close\r\n\r\n")
		if statuses(reply) != tt.want || (in.asked.Load() > before) != (tt.want == "200") {
			t.Errorf("%s: want %s:\n%s", name, tt.want, reply)
		}
	}
	for len(in.seen) > 0 {
		if r := <-in.seen; r.Host != at {
			t.Errorf("the origin got Host %s", r.Host)
		}
	}
}

// The rules that decide about requests, and the code that explains them, must
// say of every request in a tunnel what becomes of it.
func TestExplainSaysOfEveryRequestInATunnelWhatBecomesOfIt(t *testing.T) {
	in := startInside(t, `
[[acl.rule]]
name = "closed"
to = ["other.test"]
action = "tunnel"
[[acl.rule]]
name = "look into"
to = ["secure.test", "127.0.0.1"]
action = "intercept"
[[acl.rule]]
name = "no secrets"
path = "^/secret"
schemes = ["https"]
action = "deny"
[[acl.rule]]
name = "no robots"
user_agent = "robot"
schemes = ["https"]
action = "deny"
status = 451
[[acl.rule]]
name = "reading"
methods = ["GET"]
action = "allow"
`, "")
	e := in.engine
	denied := 0
	for _, host := range []string{"secure.test", "other.test", "127.0.0.1", "nowhere.test"} {
		authority := net.JoinHostPort(host, in.port)
		connect, err := e.explain(t.Context(), url.Values{"url": {authority}, "method": {"CONNECT"}})
		if err != nil {
			t.Fatal(err)
		}
		sni := host
		c, err := in.enter(t, host, sni)
		want := map[string]bool{"intercept": true}[connect.Verdict]
		if intercepted := err == nil; intercepted != want {
			t.Errorf("%s: explained as %s, and %v", host, connect.Verdict, err)
		}
		if err != nil {
			continue
		}
		c.Close()
		for _, method := range []string{"GET", "POST"} {
			for _, path := range []string{"/", "/secret", "/%73ecret/a", "/a/../secret", "/a?b=/secret"} {
				for _, agent := range []string{"person", "robot"} {
					ex, err := e.explain(t.Context(), url.Values{"url": {"https://" + authority + path}, "method": {method}, "header": {"User-Agent: " + agent}})
					if err != nil {
						t.Fatal(err)
					}
					c, err := in.enter(t, host, host)
					if err != nil {
						t.Fatal(err)
					}
					fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", method, path, authority, agent)
					b, _ := io.ReadAll(c)
					reply := string(b)
					if allowed := statuses(reply) == "200"; allowed != (ex.Verdict == "allow") || !allowed && !strings.Contains(reply, "Rule: "+ex.Rule) || ex.Tunnel.Verdict != "intercept" {
						t.Errorf("%s https://%s%s by %s: explained as %s by %q, tunnel %+v, and:\n%s", method, authority, path, agent, ex.Verdict, ex.Rule, ex.Tunnel, reply)
					}
					if ex.Verdict == "deny" {
						denied++
					}
				}
			}
		}
	}
	if denied < 10 {
		t.Errorf("only %d were denied: too few to tell", denied)
	}
}

func TestTheServerNameAndTheHostOfTheCONNECTAreOfOneMind(t *testing.T) {
	in := startInside(t, "[[acl.rule]]\nto = [\"secure.test\", \"127.0.0.1\"]\naction = \"intercept\"\n"+allowAll, "")
	for name, tt := range map[string]struct {
		host, sni string
		fine      bool
		by        string // whose certificate is seen; "" nobody's
	}{
		"the same":                           {"secure.test", "secure.test", true, "secure.test"},
		"in other letters":                   {"SECURE.test", "Secure.TEST", true, "secure.test"},
		"an address without a name":          {"127.0.0.1", "127.0.0.1", true, "127.0.0.1"},
		"an address with a name":             {"127.0.0.1", "secure.test", true, "secure.test"},
		"an address, and a name left closed": {"127.0.0.1", "other.test", false, ""},
		"another name":                       {"secure.test", "other.test", false, ""},
		"a name with an underscore":          {"secure.test", "se_cure.test", false, ""},
		"a wildcard":                         {"secure.test", "*.test", false, ""},
		"an address as a name":               {"secure.test", "0x7f.1", false, ""},
	} {
		c, err := in.enter(t, tt.host, tt.sni)
		if (err == nil) != tt.fine {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err == nil {
			if leaf := c.ConnectionState().PeerCertificates[0]; leaf.VerifyHostname(tt.by) != nil || len(leaf.DNSNames)+len(leaf.IPAddresses) != 1 {
				t.Errorf("%s: a certificate for %v %v", name, leaf.DNSNames, leaf.IPAddresses)
			}
			c.Close()
		}
	}
	// By an address that is not to be intercepted there is no way around the name.
	around := startInside(t, "[[acl.rule]]\nto = [\"secure.test\"]\naction = \"intercept\"\n"+allowAll, "")
	if _, err := around.enter(t, "127.0.0.1", "secure.test"); err == nil {
		t.Error("a CONNECT to the address passes the rule about the name by")
	}
}

func TestWhoTheCONNECTSaidHoldsInsideAndIsNotToldOn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	token, hash := auth.NewToken()
	line, err := auth.TokenLine("ann", hash)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := startInside(t, "[[acl.rule]]\nname = \"hers\"\nfrom = [\"user:ann\"]\naction = \"allow\"\n", "[forward.auth]\ntokens = \""+file+"\"\n")
	if _, status := in.connect(t, "secure.test:"+in.port, ""); status != "407" {
		t.Errorf("who has not said who they are gets %s at the CONNECT", status)
	}
	c, status := in.connect(t, "secure.test:"+in.port, "Proxy-Authorization: Bearer "+token+"\r\n")
	if status != "200" {
		t.Fatalf("CONNECT: %s", status)
	}
	secure := tls.Client(c, &tls.Config{RootCAs: in.roots, ServerName: "secure.test"})
	fmt.Fprintf(secure, "GET /a HTTP/1.1\r\nHost: secure.test:%s\r\nProxy-Authorization: Bearer other\r\nConnection: close\r\n\r\n", in.port)
	reply, err := io.ReadAll(secure)
	if err != nil || statuses(string(reply)) != "200" {
		t.Errorf("%v: %s", err, reply)
	}
	if r := <-in.seen; r.Header.Get("Proxy-Authorization") != "" {
		t.Errorf("the origin got %v", r.Header)
	}
}

func TestAClientThatRejectsPassesOnlyWhereThePolicySaysSo(t *testing.T) {
	for pass, want := range map[string]bool{"0s": false, "1h": true} {
		in := startInside(t, allowAll, "", `pass_rejected = "`+pass+`"`)
		try := func() {
			c, _ := in.connect(t, "secure.test:"+in.port, "")
			defer c.Close()
			if tls.Client(c, &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "secure.test"}).Handshake() == nil {
				t.Error("who trusts nobody shook hands")
			}
		}
		try()
		waitUntil(t, func() bool { return len(in.rejected.List()) == 1 })
		try()
		waitUntil(t, func() bool {
			return in.rejected.List()[0].Count == 2 || strings.Contains(in.log.String(), `"rule":"forward.intercept.pass_rejected","verdict":"allow"`)
		})
		if passed := in.rejected.List()[0].Count == 1; passed != want {
			t.Errorf("pass_rejected = %q: passed %v", pass, passed)
		}
	}
}

func waitUntil(t testing.TB, ok func() bool) {
	t.Helper()
	if err := poll(ok, func() error { return fmt.Errorf("it does not happen") }); err != nil {
		t.Fatal(err)
	}
}
