package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"fwdproxy/internal/proxytest"
)

func TestAnOriginThatStallsInTheHandshakeIsToldInTheTunnel(t *testing.T) {
	silent := proxytest.Server(t, func(c net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) })
	ca, err := proxytest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	in := &inside{log: &syncBuffer{}}
	_, in.port, _ = net.SplitHostPort(silent)
	in.begin(t, ca, allowAll, "")
	reply := in.ask(t, "GET / HTTP/1.1\r\nHost: secure.test:"+in.port+"\r\nConnection: close\r\n\r\n")
	if statuses(reply) != "504" || !strings.Contains(reply, "error=connection_timeout") {
		t.Error(reply)
	}
}

func TestOneThousandTunnelsLeaveNothingBehind(t *testing.T) {
	in := startInside(t, allowAll, "")
	get := "GET / HTTP/1.1\r\nHost: secure.test:" + in.port + "\r\n"
	raw := func(after string) func() {
		return func() {
			c, _ := in.connect(t, "secure.test:"+in.port, "")
			io.WriteString(c, after)
			c.Close()
		}
	}
	entered := func(use func(c *tls.Conn)) func() {
		return func() {
			c, err := in.enter(t, "secure.test", "secure.test")
			if err != nil {
				t.Error(err)
				return
			}
			use(c)
		}
	}
	ways := []func(){
		raw(""),
		raw("GET / HTTP/1.1\r\n\r\n"),
		raw("\x16\x03\x01\x02\x00\x01\x00\x01\xfc"),
		func() {
			c, _ := in.connect(t, "secure.test:"+in.port, "")
			_ = tls.Client(c, &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "secure.test"}).Handshake()
			c.Close()
		},
		entered(func(c *tls.Conn) { c.Close() }),
		entered(func(c *tls.Conn) { _ = c.NetConn().(*net.TCPConn).SetLinger(0); c.NetConn().Close() }),
		entered(func(c *tls.Conn) { io.WriteString(c, get+"Connection: close\r\n\r\n"); _, _ = io.ReadAll(c); c.Close() }),
		entered(func(c *tls.Conn) { io.WriteString(c, get+"\r\n"); c.NetConn().Close() }),
		entered(func(c *tls.Conn) { io.WriteString(c, get); _ = c.CloseWrite(); _, _ = io.ReadAll(c); c.Close() }),
		entered(func(c *tls.Conn) { io.WriteString(c, "bad\r\n\r\n"); _, _ = io.ReadAll(c); c.Close() }),
	}
	for _, after := range []string{"", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", "bad"} {
		ways = append(ways, func() {
			c, _ := in.connect(t, "secure.test:"+in.port, "")
			secure := tls.Client(c, &tls.Config{RootCAs: in.roots, ServerName: "secure.test", NextProtos: []string{"h2"}})
			if err := secure.Handshake(); err != nil {
				t.Error(err)
			}
			io.WriteString(secure, after)
			secure.Close()
		})
	}
	run := func(n int) {
		var wg sync.WaitGroup
		places := make(chan struct{}, 16)
		for i := range n {
			places <- struct{}{}
			wg.Go(func() {
				defer func() { <-places }()
				ways[i%len(ways)]()
			})
		}
		wg.Wait()
	}
	files := func() int {
		names, _ := os.ReadDir("/proc/self/fd")
		return len(names)
	}
	// idle counts what is left when nothing is open but what is kept on purpose.
	idle := func() (goroutines, descriptors int) {
		waitUntil(t, func() bool { return in.tunnels.Open() == 0 })
		waitUntil(t, func() bool {
			g, d := runtime.NumGoroutine(), files()
			time.Sleep(50 * time.Millisecond)
			same := g == runtime.NumGoroutine() && d == files()
			goroutines, descriptors = g, d
			return same
		})
		return goroutines, descriptors
	}
	run(50)
	g, d := idle()
	run(1000)
	for range 100 { // the kernel may take a moment
		g2, d2 := idle()
		if g2 <= g+2 && d2 <= d+2 {
			t.Logf("goroutines %d then %d, descriptors %d then %d", g, g2, d, d2)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	g2, d2 := idle()
	t.Errorf("goroutines %d then %d, descriptors %d then %d", g, g2, d, d2)
}

// A drain waits for what is being answered, not for tunnels at rest.
func TestADrainEndsTunnelsThatRest(t *testing.T) {
	in := startInside(t, allowAll, "")
	c, err := in.enter(t, "secure.test", "secure.test")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: secure.test:%s\r\n\r\n", in.port)
	res, err := http.ReadResponse(bufio.NewReader(c), httptest.NewRequest("GET", "/", nil))
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	begun := time.Now()
	in.shutdown(make(chan os.Signal))
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestAReloadCutsATunnelThatIsToBeInterceptedAndIsNotOrTheOtherWayRound(t *testing.T) {
	in := startInside(t, allowAll, "")
	file := in.current.Load().policy.File
	reload := func(old, new string) {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, bytes.Replace(text, []byte(old), []byte(new), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := in.reloadNow(); err != nil {
			t.Fatal(err)
		}
	}
	answers := func(c net.Conn) error {
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: secure.test:"+in.port+"\r\n\r\n"); err != nil {
			return err
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
		}
		return err
	}
	open := func() *tls.Conn {
		t.Helper()
		c, err := in.enter(t, "secure.test", "secure.test")
		if err == nil {
			err = answers(c)
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	}

	c := open()
	reload(`name = "all"`, `name = "everything"`)
	if err := answers(c); err != nil {
		t.Errorf("a reload that says nothing of it cut the tunnel: %v", err)
	}
	// A word may pass before the connections are closed.
	stays := func(c net.Conn) bool {
		for range 500 {
			if answers(c) != nil {
				return false
			}
			time.Sleep(10 * time.Millisecond)
		}
		return true
	}
	reload(`action = "intercept"`, `action = "tunnel"`)
	if stays(c) {
		t.Error("a tunnel that nobody may look into any more is still intercepted")
	}
	in.roots = in.origins // whose certificate comes through now
	c = open()
	reload(`action = "tunnel"`, `action = "intercept"`)
	if stays(c) {
		t.Error("a tunnel that is to be intercepted goes on as it was")
	}
}
