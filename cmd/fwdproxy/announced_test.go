package main

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fwdproxy/http1"
	"fwdproxy/internal/edge"
	"fwdproxy/internal/unit"
)

// announcing serves on loopback, from where PROXY headers are read; the answer
// is the client's address.
func announcing(t *testing.T, framing *http1.Server, connections int) string {
	t.Helper()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })}
	t.Cleanup(func() { srv.Close() })
	from := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	room := newRoom(framing, connections, newAnnouncers(func() []netip.Prefix { return from }, slog.New(slog.DiscardHandler)))
	srv.ConnState = room.connState
	ls := newListeners(srv, room, "forward.listen", make(chan error, 1))
	listenOn(t, ls, "127.0.0.1:0")
	return ls.addrs()[0].String()
}

const (
	ofSeven = "PROXY TCP4 192.0.2.7 198.51.100.2 4660 443\r\n"
	ofEight = "PROXY TCP4 192.0.2.8 198.51.100.2 4661 443\r\n"
)

func begin(t *testing.T, addr, header string) net.Conn {
	t.Helper()
	c := dial(t, addr)
	if _, err := io.WriteString(c, header); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOneThatKeepsItsHeaderBackHoldsUpNobodyElse(t *testing.T) {
	addr := announcing(t, testFraming(), 8)
	begin(t, addr, "PROXY TCP4 192")
	if got := ask(t, begin(t, addr, ofSeven)); !strings.HasSuffix(got, "192.0.2.7:4660") {
		t.Errorf("%q", got)
	}
}

func TestConnectionsAreCountedForTheClientThatTheHeaderNames(t *testing.T) {
	framing := testFraming()
	limits := framing.Limits()
	limits.ConnectionsPerClient = 1
	framing.Limits = func() *edge.Limits { return limits }
	addr := announcing(t, framing, 8)
	first := begin(t, addr, ofSeven)
	if got := ask(t, first); !strings.HasSuffix(got, "192.0.2.7:4660") {
		t.Errorf("the first: %q", got)
	}
	if got := ask(t, begin(t, addr, ofEight)); !strings.HasSuffix(got, "192.0.2.8:4661") {
		t.Errorf("another client: %q", got)
	}
	if got := ask(t, begin(t, addr, ofSeven)); !strings.HasPrefix(got, "HTTP/1.1 429") {
		t.Errorf("the same client again: %q", got)
	}
}

func TestAConnectionWithoutAHeaderGivesItsPlaceBack(t *testing.T) {
	for name, header := range map[string]string{
		"a request":  "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"malformed":  "PROXY TCP4 192.0.2.7 198.51.100.2 4660\r\n",
		"half a one": "PROXY",
	} {
		t.Run(name, func(t *testing.T) {
			framing := testFraming()
			limits := *framing.Limits()
			limits.HeaderTimeout = unit.Duration(50 * time.Millisecond)
			framing.Limits = func() *edge.Limits { return &limits }
			addr := announcing(t, framing, 1)
			c := begin(t, addr, header)
			if b, err := io.ReadAll(c); len(b) > 0 {
				t.Errorf("answered with %q, %v", b, err)
			}
			if got := ask(t, begin(t, addr, ofSeven)); !strings.HasSuffix(got, "192.0.2.7:4660") {
				t.Errorf("after it: %q", got)
			}
		})
	}
}

func TestATunnelGetsThePlainConnectionBehindTheHeader(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	begin(t, l.Addr().String(), ofSeven)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a := newAnnouncers(nil, slog.New(slog.DiscardHandler))
	announced, ok := a.read(c, testFraming().Limits().HeaderTimeout.D())
	if !ok || announced.RemoteAddr().String() != "192.0.2.7:4660" {
		t.Fatalf("%v", announced)
	}
	plain, _ := testFraming().Wrap(announced).(*http1.Conn).Unwrap()
	if plain != c {
		t.Errorf("it gets a %T, want the *net.TCPConn that splice(2) takes", plain)
	}
}
