package tunnel

import (
	"context"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// tcpPair returns the two ends of a TCP connection over loopback.
func tcpPair(t testing.TB) (here, there *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// tunneled is a relay under way, and its two peers.
type tunneled struct {
	client, server *net.TCPConn
	done           chan Result
}

// open relays between two TCP peers; the early bytes are what the proxy has
// read of them already.
func open(t testing.TB, ctx context.Context, idle time.Duration, early ...string) *tunneled {
	t.Helper()
	client, clientSide := tcpPair(t)
	server, serverSide := tcpPair(t)
	for _, c := range []*net.TCPConn{client, server} {
		_ = c.SetDeadline(time.Now().Add(30 * time.Second)) // a relay that hangs fails the test
	}
	early = append(early, "", "")
	tn := &tunneled{client: client, server: server, done: make(chan Result, 1)}
	go func() {
		tn.done <- Relay(ctx, Side{clientSide, []byte(early[0])}, Side{serverSide, []byte(early[1])}, idle, nil)
	}()
	return tn
}

func (tn *tunneled) result(t testing.TB) Result {
	t.Helper()
	select {
	case r := <-tn.done:
		return r
	case <-time.After(30 * time.Second):
		t.Fatal("the relay does not end")
		return Result{}
	}
}

func send(t testing.TB, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func expect(t testing.TB, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("%q, %v; want %q", b[:n], err, want)
	}
}

func expectEnd(t testing.TB, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("%d bytes, %v; want the end", n, err)
	}
}

// inBubble relays between two pipes in a synctest bubble, where a test's time
// is exact.
func inBubble(t *testing.T, idle time.Duration, play func(t *testing.T, client, server net.Conn, done <-chan Result)) {
	synctest.Test(t, func(t *testing.T) {
		client, clientSide := net.Pipe()
		server, serverSide := net.Pipe()
		done := make(chan Result, 1)
		go func() { done <- Relay(t.Context(), Side{Conn: clientSide}, Side{Conn: serverSide}, idle, nil) }()
		play(t, client, server, done)
		client.Close()
		server.Close()
	})
}

func openFiles(t testing.TB) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("this system does not list a process's files")
	}
	return len(files)
}

// eventually waits for what other goroutines are about to make true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("it never came to be: " + what)
}
