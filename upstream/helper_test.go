package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
	"fwdproxy/internal/unit"
)

// origin is a server that a test scripts: handle has each connection, of which
// it is told the number, from 1.
type origin struct {
	addr  string
	conns atomic.Int32
}

func serve(t testing.TB, handle func(number int, c net.Conn, r *bufio.Reader)) *origin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{addr: l.Addr().String()}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n := o.conns.Add(1)
			go func() {
				defer c.Close()
				handle(int(n), c, bufio.NewReader(c))
			}()
		}
	}()
	return o
}

// answering is an origin that sends the same bytes for each request head, and
// keeps the connection.
func answering(t testing.TB, answer string) *origin {
	return serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for readRequestHead(r) != "" {
			io.WriteString(c, answer)
		}
	})
}

// readRequestHead returns a request's head with its empty line; "" at the end.
func readRequestHead(r *bufio.Reader) string {
	var head strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return ""
		}
		head.WriteString(line)
		if line == "\r\n" {
			return head.String()
		}
	}
}

func newTransport(t testing.TB, change func(*Config), pools ...PoolConfig) *Transport {
	t.Helper()
	c := DefaultConfig()
	if change != nil {
		change(&c)
	}
	if p := append(c.Validate(), ValidatePools(pools)...); len(p) > 0 {
		t.Fatal(p)
	}
	tr, err := New(c, pools)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	return tr
}

// at is the peers at these addresses.
func at(addrs ...string) (peers []PeerConfig) {
	for _, a := range addrs {
		peers = append(peers, PeerConfig{Address: a})
	}
	return peers
}

func permitAll(netip.AddrPort) error { return nil }

// request returns a request that may use every address.
func request(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	return requestWith(t, &hop.Hop{Permit: permitAll}, method, url, body)
}

func requestWith(t testing.TB, h *hop.Hop, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(hop.With(t.Context(), h), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// do sends the request and returns the answer and its whole body.
func do(t testing.TB, tr *Transport, req *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func get(t testing.TB, tr *Transport, o *origin) (*http.Response, string) {
	t.Helper()
	return do(t, tr, request(t, "GET", "http://"+o.addr+"/", nil))
}

// wantFault fails the test unless err is a fault of the kind and status.
func wantFault(t testing.TB, err error, kind fault.Kind, status int) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) {
		t.Fatalf("error %v, want a fault %s", err, kind)
	}
	if f.Kind != kind || f.HTTPStatus() != status {
		t.Fatalf("fault %s %d (%v), want %s %d", f.Kind, f.HTTPStatus(), err, kind, status)
	}
}

// fails sends a request to an origin and returns the error that must come.
func fails(t testing.TB, tr *Transport, req *http.Request) error {
	t.Helper()
	res, err := tr.RoundTrip(req)
	if err == nil {
		res.Body.Close()
		t.Fatalf("the answer %s came, want an error", res.Status)
	}
	return err
}

// eventually waits for what another goroutine is about to make true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("it never came to be: " + what)
}

// disturbed waits until something came on the one connection that is kept.
func disturbed(t testing.TB, tr *Transport) {
	t.Helper()
	eventually(t, "something came on the connection that is kept", func() bool {
		tr.idle.mu.Lock()
		defer tr.idle.mu.Unlock()
		for _, list := range tr.idle.byKey {
			return !quiet(list[0].raw)
		}
		return false
	})
}

func ok(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func short(d time.Duration) unit.Duration { return unit.Duration(d) }

// piped returns a connection of the transport's to the returned end of a
// pipe, which a synctest bubble can wait for.
func piped(tr *Transport) (*conn, net.Conn) {
	here, there := net.Pipe()
	return newConn(tr, "pipe", here, here, netip.AddrPort{}, "pipe"), there
}

func exchange(c *conn, req *http.Request) (*http.Response, error) {
	head, err := encodeHead(req, new(outgoing))
	if err != nil {
		return nil, err
	}
	return c.exchange(req, head)
}

func canceled(parent context.Context) context.Context {
	ctx, cancel := context.WithCancel(parent)
	cancel()
	return ctx
}
