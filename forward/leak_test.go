package forward

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"fwdproxy/acl"
	"fwdproxy/internal/unit"
)

// ending is a way in which tunnels end: what the policy says, what the server
// does, and what the client does once its tunnel is open. all is done once a
// batch is open.
type ending struct {
	name   string
	change func(*Settings)
	server func(net.Conn, *bufio.Reader)
	client func(*net.TCPConn)
	all    func(*testing.T, *stand)
}

var endings = []ending{
	{name: "the client closes", client: func(c *net.TCPConn) { c.Close() }},
	{name: "the client resets", client: func(c *net.TCPConn) { _ = c.SetLinger(0); c.Close() }},
	{name: "the client half-closes", client: func(c *net.TCPConn) { _ = c.CloseWrite(); wait(c) }},
	{name: "the server closes", server: func(net.Conn, *bufio.Reader) {}, client: wait},
	{name: "the server resets", server: func(c net.Conn, r *bufio.Reader) { _, _ = r.ReadByte(); _ = c.(*net.TCPConn).SetLinger(0) },
		client: func(c *net.TCPConn) { _, _ = c.Write([]byte("x")); wait(c) }},
	{name: "the server half-closes", server: func(c net.Conn, r *bufio.Reader) { _ = c.(*net.TCPConn).CloseWrite(); io.Copy(io.Discard, r) }, client: wait},
	{name: "idle", change: func(s *Settings) { s.Door.Tunnel.IdleTimeout = unit.Duration(50 * time.Millisecond) }, client: wait},
	{name: "lifetime", change: func(s *Settings) { s.Door.Tunnel.Lifetime = unit.Duration(50 * time.Millisecond) }, client: wait},
	{name: "another server name", change: func(s *Settings) { s.Door.Tunnel.Peek = s.Door.Tunnel.Ports }, client: func(c *net.TCPConn) {
		_ = tls.Client(c, &tls.Config{ServerName: "other.test"}).Handshake()
	}},
	{name: "a reload", client: wait, all: func(t *testing.T, s *stand) {
		s.settings.Door.Tunnels.Redecide(s.under(t, acl.RuleConfig{To: []string{"b.test"}, Action: "allow"}))
	}},
	{name: "a shutdown", client: wait, all: func(t *testing.T, s *stand) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s.settings.Door.Tunnels.Drain(ctx)
	}},
}

func wait(c *net.TCPConn) { io.Copy(io.Discard, c) }

// FORWARD_TUNNELS is how many tunnels there are in all, for make soak-tunnels.
func TestTunnelsLeaveNoGoroutineAndNoFileHoweverTheyEnd(t *testing.T) {
	const batch = 100
	total, _ := strconv.Atoi(os.Getenv("FORWARD_TUNNELS"))
	batches := max(1, total/batch/len(endings)+1)
	if total == 0 {
		t.Log("FORWARD_TUNNELS is not set: one batch for each ending")
	}
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	opened := 0
	for _, e := range endings {
		t.Run(e.name, func(t *testing.T) {
			for range batches {
				e.play(t, batch)
				opened += batch
			}
		})
	}
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > goroutines || descriptors(t) > files {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, then %d; %d files, then %d", goroutines, runtime.NumGoroutine(), files, descriptors(t))
		}
		runtime.GC() // the pipes that splice(2) keeps go with it
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("%d tunnels; before %d goroutines and %d files, after %d and %d", opened, goroutines, files, runtime.NumGoroutine(), descriptors(t))
}

// play opens n tunnels at once and sees them end.
func (e ending) play(t *testing.T, n int) {
	serve := e.server
	if serve == nil {
		serve = func(c net.Conn, r *bufio.Reader) { io.Copy(c, r) }
	}
	s := newStand(t, never(t), server(t, serve))
	s.settings.Door.Limits.TunnelsPerClient = n
	if e.change != nil {
		e.change(s.settings)
	}
	var open, done sync.WaitGroup
	open.Add(n)
	for range n {
		done.Go(func() {
			c, err := connectTo(s.addr)
			open.Done()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			e.client(c)
		})
	}
	open.Wait()
	if e.all != nil {
		for s.settings.Door.Tunnels.Open() < n && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
		e.all(t, s)
	}
	done.Wait()
	for range n {
		s.record(t)
	}
}

func connectTo(proxy string) (*net.TCPConn, error) {
	c, err := net.Dial("tcp", proxy)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	const head = "HTTP/1.1 200 Connection established\r\n\r\n"
	got := make([]byte, len(head))
	if _, err = io.WriteString(c, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"); err == nil {
		_, err = io.ReadFull(c, got)
	}
	if err == nil && string(got) != head {
		err = fmt.Errorf("%q", got)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

func descriptors(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("this system does not list a process's files")
	}
	return len(files)
}
