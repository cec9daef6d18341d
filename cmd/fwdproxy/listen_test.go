package main

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"fwdproxy/http1"
	"fwdproxy/internal/edge"
)

// serving returns listeners that answer "ok" and the address of the first.
func serving(t *testing.T, connections int) (*listeners, string) {
	t.Helper()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })}
	t.Cleanup(func() { srv.Close() })
	room := newRoom(testFraming(), connections, newAnnouncers(func() []netip.Prefix { return nil }, slog.New(slog.DiscardHandler)))
	srv.ConnState = room.connState
	ls := newListeners(srv, room, "forward.listen", make(chan error, 1))
	listenOn(t, ls, "127.0.0.1:0")
	return ls, ls.addrs()[0].String()
}

func listenOn(t *testing.T, ls *listeners, addrs ...string) {
	t.Helper()
	added, err := ls.prepare(addrs)
	if err != nil {
		t.Fatal(err)
	}
	ls.commit(addrs, added)
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func ask(t *testing.T, c net.Conn) string {
	t.Helper()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestNoMoreConnectionsThanTheLimitAreServedAtOnce(t *testing.T) {
	ls, addr := serving(t, 1)
	first := dial(t, addr)
	if got := ask(t, first); !strings.HasSuffix(got, "ok") {
		t.Fatalf("got %q", got)
	}
	// The second waits in the backlog until the first is gone.
	second := dial(t, addr)
	answered := make(chan string, 1)
	go func() { answered <- ask(t, second) }()
	if n := len(ls.room.places); n != 1 {
		t.Errorf("%d connections are open, want 1", n)
	}
	select {
	case got := <-answered:
		t.Fatalf("the second was answered while the first was open: %q", got)
	default:
	}
	first.Close()
	if got := <-answered; !strings.HasSuffix(got, "ok") {
		t.Errorf("got %q", got)
	}
}

func TestAListenerThatWaitsTakesNoPlaceFromAnother(t *testing.T) {
	ls, addr := serving(t, 1)
	listenOn(t, ls, "127.0.0.1:0", "[::1]:0")
	for _, a := range ls.addrs() {
		if a.String() == addr {
			continue
		}
		c := dial(t, a.String())
		if got := ask(t, c); !strings.HasSuffix(got, "ok") {
			t.Errorf("got %q", got)
		}
	}
}

func TestAReloadOpensAndClosesListenersAndKeepsConnections(t *testing.T) {
	ls, addr := serving(t, 10)
	kept := dial(t, addr)
	ask(t, kept)
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	other := "127.0.0.1:" + port
	listenOn(t, ls, other)
	if got := ask(t, dial(t, other)); !strings.HasSuffix(got, "ok") {
		t.Errorf("the new listener answers %q", got)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("the old listener still accepts")
	}
	if got := ask(t, kept); !strings.HasSuffix(got, "ok") {
		t.Errorf("the connection that was open answers %q", got)
	}
}

func TestWhenOneAddressIsTakenNoneIsOpenedAndTheErrorNamesTheKey(t *testing.T) {
	ls, addr := serving(t, 10)
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, err = ls.prepare([]string{"127.0.0.1:0", "127.0.0.1:" + port, taken.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "it is taken") || !strings.Contains(err.Error(), "forward.listen") {
		t.Errorf("error %v", err)
	}
	if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
		c.Close()
		t.Error("an address of the failed reload is listened on")
	}
	if got := ask(t, dial(t, addr)); !strings.HasSuffix(got, "ok") {
		t.Errorf("the old listener answers %q", got)
	}
}

// testFraming refuses without a policy.
func testFraming() *http1.Server {
	limits := edge.DefaultLimits()
	return &http1.Server{
		Limits: func() *edge.Limits { return &limits },
		Refuse: func(q edge.Refused) []byte {
			return []byte("HTTP/1.1 " + strconv.Itoa(q.Err.HTTPStatus()) + " Refused\r\nConnection: close\r\n\r\n")
		},
	}
}
