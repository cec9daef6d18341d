//lint:file-ignore SA1019 the transport of net/http has no way to open a tunnel in a stream.

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"

	"fwdproxy/internal/proxytest"
)

// byHTTP2 is a forward proxy with a TLS port, and a client of it that speaks
// HTTP/2.
type byHTTP2 struct {
	*wire
	s      *server
	client *h2.Transport
}

func serveHTTP2(t *testing.T, more string) *byHTTP2 {
	t.Helper()
	ca, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.sign(1, "proxy.test")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"proxy.pem": string(cert), "proxy.key": string(key), "users": "# empty\n", "policy.toml": `
[forward]
listen = ["127.0.0.1:0"]
[forward.tls]
listen = ["127.0.0.1:0"]
cert = "proxy.pem"
key = "proxy.key"
[forward.auth]
htpasswd = "users"
[upstream.hosts]
"origin.test" = ["127.0.0.1"]
"closed.test" = ["127.0.0.1"]
[forward.tunnel]
ports = ["1-65535"]
[acl]
private_destinations = "allow"
[[acl.rule]]
name = "closed"
to = ["closed.test"]
action = "deny"
[[acl.rule]]
name = "staff"
to = ["staff.test"]
from = ["user:ann"]
action = "allow"
[[acl.rule]]
name = "open"
to = ["origin.test"]
action = "allow"
[admin]
listen = ""
` + more} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := loadPolicy(filepath.Join(dir, "policy.toml"))
	if err != nil {
		t.Fatal(err)
	}
	w := &byHTTP2{wire: &wire{log: &syncBuffer{}}}
	if w.s, err = start(modeForward, p, nil, w.log, io.Discard); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	addr := w.s.doors.secure.addrs()[0].String()
	w.client = &h2.Transport{AllowHTTP: true, DialTLSContext: func(ctx context.Context, network, _ string, _ *tls.Config) (net.Conn, error) {
		d := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: "proxy.test", NextProtos: []string{"h2"}}}
		return d.DialContext(ctx, network, addr)
	}}
	t.Cleanup(func() {
		w.client.CloseIdleConnections()
		done, cancel := context.WithCancel(context.Background())
		cancel()
		_ = w.s.http2.Shutdown(done)
		w.s.front.Close()
		w.s.access.Close()
	})
	return w
}

// get asks for the URL and returns status, Proxy-Status and body.
func (w *byHTTP2) get(t *testing.T, url string, change func(*http.Request)) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	res, err := w.client.RoundTrip(r)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return strings.TrimSpace(res.Status + " " + res.Header.Get("Proxy-Status") + " " + string(body))
}

// tunnel opens one by CONNECT. What is written to the pipe goes up.
func (w *byHTTP2) tunnel(t *testing.T, authority string) (up *io.PipeWriter, res *http.Response) {
	t.Helper()
	body, up := io.Pipe()
	r, err := http.NewRequest(http.MethodConnect, "https://"+authority, body)
	if err != nil {
		t.Fatal(err)
	}
	res, err = w.client.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return up, res
}

func originFor(t *testing.T) (port string) {
	t.Helper()
	o, err := proxytest.StartOrigin("== GET /page\n200\nCache-Control: max-age=60\n\na page\n== GET /socket\n101 socket\n")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	_, port, _ = net.SplitHostPort(o.Addr)
	return port
}

func TestByHTTP2ThePolicyTheCacheAndTheLogAreTheSame(t *testing.T) {
	port := originFor(t)
	w := serveHTTP2(t, "")
	for range 2 {
		if got := w.get(t, "http://origin.test:"+port+"/page", nil); got != "200 OK  a page" {
			t.Error(got)
		}
	}
	if got := w.get(t, "http://closed.test/", nil); !strings.HasPrefix(got, `403 Forbidden fwdproxy; error=http_request_denied; details="rule closed"`) {
		t.Error(got)
	}
	if got := w.get(t, "http://staff.test/", nil); !strings.HasPrefix(got, "407 ") {
		t.Error(got)
	}
	if got := w.get(t, "http://origin.test:"+port+"/page", func(r *http.Request) { r.Header.Set("Proxy-Authorization", "Basic YTpi") }); !strings.HasPrefix(got, "407 ") {
		t.Error(got)
	}
	if got := w.get(t, "http://origin.test:"+port+"/page", func(r *http.Request) { r.Header.Set("Via", "1.1 fwdproxy") }); !strings.HasPrefix(got, "508 ") {
		t.Error(got)
	}
	log := w.logText(t, 6)
	for _, want := range []string{
		`/page","status":200,.*"tag":"TCP_MISS".*"protocol":"HTTP/2.0"`, `/page","status":200,.*"tag":"TCP_HIT"`,
		`closed.test/","status":403`, `staff.test/","status":407`,
	} {
		mustMatch(t, log, want)
	}
}

func mustMatch(t *testing.T, text, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(text) {
		t.Errorf("no line matches %s in:\n%s", pattern, text)
	}
}

// TestByHTTP2ATunnelIsDecidedRelayedAndLogged is RFC 9113, Section 8.5.
func TestByHTTP2ATunnelIsDecidedRelayedAndLogged(t *testing.T) {
	_, port, _ := net.SplitHostPort(proxytest.Server(t, func(c net.Conn, r *bufio.Reader) {
		all, _ := io.ReadAll(r)
		fmt.Fprintf(c, "%d bytes", len(all))
	}))
	w := serveHTTP2(t, "[limits]\ntunnels_per_client = 1\n")
	up, res := w.tunnel(t, "origin.test:"+port)
	if res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	_, over := w.tunnel(t, "origin.test:"+port)
	if over.StatusCode != http.StatusTooManyRequests {
		t.Errorf("one more tunnel than the limit: %s", over.Status)
	}
	for range 100 {
		if _, err := up.Write(make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	up.Close()
	if got, err := io.ReadAll(res.Body); err != nil || string(got) != "1000000 bytes" {
		t.Errorf("%q %v", got, err)
	}
	_, closed := w.tunnel(t, "closed.test:443")
	if closed.StatusCode != http.StatusForbidden || !strings.Contains(closed.Header.Get("Proxy-Status"), "rule closed") {
		t.Errorf("%s %v", closed.Status, closed.Header)
	}
	_, asked := w.tunnel(t, "staff.test:443")
	if asked.StatusCode != http.StatusProxyAuthRequired || asked.Header.Get("Proxy-Authenticate") == "" {
		t.Errorf("%s %v", asked.Status, asked.Header)
	}
	log := w.logText(t, 4)
	mustMatch(t, log, `"CONNECT","url":"origin.test:`+port+`","status":200,"bytes_out":13,"bytes_in":1000000,.*"tag":"TCP_TUNNEL".*"protocol":"HTTP/2.0"`)
	mustMatch(t, log, `"CONNECT","url":"closed.test:443","status":403.*"tag":"TCP_DENIED"`)
	if open := w.s.tunnels.Open(); open != 0 {
		t.Errorf("%d tunnels are open", open)
	}
}

func TestByHTTP2ATunnelsServerNameIsHeldAgainstTheRules(t *testing.T) {
	_, port, _ := net.SplitHostPort(proxytest.Server(t, func(c net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) }))
	w := serveHTTP2(t, "")
	w.s.current.Load().door.Tunnel.Peek = w.s.current.Load().door.Tunnel.Ports
	up, res := w.tunnel(t, "origin.test:"+port)
	if res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	go tls.Client(&pipeConn{up}, &tls.Config{ServerName: "closed.test"}).Handshake()
	if got, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("the tunnel ended in order: %q", got)
	}
	mustMatch(t, w.logText(t, 1), `"tag":"TCP_DENIED".*"rule":"forward.tunnel.other_sni"`)
}

// pipeConn is the sending half of a connection.
type pipeConn struct{ *io.PipeWriter }

func (pipeConn) Read([]byte) (int, error)         { return 0, io.EOF }
func (pipeConn) LocalAddr() net.Addr              { return nil }
func (pipeConn) RemoteAddr() net.Addr             { return nil }
func (pipeConn) SetDeadline(time.Time) error      { return nil }
func (pipeConn) SetReadDeadline(time.Time) error  { return nil }
func (pipeConn) SetWriteDeadline(time.Time) error { return nil }

// TestByHTTP2AWebSocketGetsToItsServer is RFC 8441.
func TestByHTTP2AWebSocketGetsToItsServer(t *testing.T) {
	port := originFor(t)
	w := serveHTTP2(t, "")
	body, up := io.Pipe()
	r, err := http.NewRequest(http.MethodConnect, "http://origin.test:"+port+"/socket", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header[":protocol"] = []string{"websocket"}
	r.Header.Set("Sec-WebSocket-Version", "13")
	res, err := w.client.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 200 {
		t.Fatal(res.Status, res.Header)
	}
	io.WriteString(up, "over the socket\n")
	up.Close()
	if got, err := io.ReadAll(res.Body); err != nil || string(got) != "hello over the socket\n" {
		t.Errorf("%q %v", got, err)
	}
	mustMatch(t, w.logText(t, 1), `/socket","status":200.*"tag":"TCP_TUNNEL"`)
}

func TestADrainEndsHTTP2Connections(t *testing.T) {
	port := originFor(t)
	w := serveHTTP2(t, "")
	if got := w.get(t, "http://origin.test:"+port+"/page", nil); !strings.HasPrefix(got, "200") {
		t.Fatal(got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := w.s.http2.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := poll(func() bool { return w.s.doors.connections() == 0 }, func() error { return errors.New("a place is still taken") }); err != nil {
		t.Error(err)
	}
}
