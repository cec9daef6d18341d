package http2

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"

	"fwdproxy/internal/edge"
	"fwdproxy/internal/proxytest"
	"fwdproxy/tunnel"
)

// relay is a front door that opens a tunnel to addr for everybody, and tells
// how it ended.
func relay(t *testing.T, addr string, idle time.Duration, ended chan<- error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		server, err := net.Dial("tcp", addr)
		if err != nil {
			t.Error(err)
			return
		}
		var h http.Header
		if r.Method == http.MethodGet {
			fmt.Fprintf(server, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: %s\r\nUpgrade: %s\r\nSec-WebSocket-Key: %s\r\n\r\n",
				r.RequestURI, r.Host, r.Header.Get("Connection"), r.Header.Get("Upgrade"), r.Header.Get("Sec-Websocket-Key"))
			res, err := http.ReadResponse(bufio.NewReaderSize(server, 16), r) // all that comes is the head
			if err != nil {
				t.Error(err)
				return
			}
			h = res.Header
		}
		client, err := w.(edge.TunnelOpener).OpenTunnel(h)
		if err != nil {
			server.Close()
			http.Error(w, err.Error(), http.StatusBadGateway)
			ended <- err
			return
		}
		ended <- tunnel.Relay(context.Background(), tunnel.Side{Conn: client}, tunnel.Side{Conn: server}, idle, nil).Err
	}
}

var connect = []string{":method", "CONNECT", ":authority", "a.example:443"}

// TestAnHTTP2TunnelPassesTheClientsHalfCloseOn is RFC 9113, Section 8.5.
func TestAnHTTP2TunnelPassesTheClientsHalfCloseOn(t *testing.T) {
	addr := proxytest.Server(t, func(c net.Conn, r *bufio.Reader) {
		all, _ := io.ReadAll(r)
		fmt.Fprintf(c, "%d %s", len(all), strings.ToUpper(string(all[len(all)-3:])))
		c.Close()
	})
	ended := make(chan error, 1)
	s := serve(t, relay(t, addr, patience, ended), nil)
	c := dialRaw(t, s)
	c.ask(1, false, connect...)
	for range 10 {
		c.must(c.WriteData(1, false, []byte(strings.Repeat("x", 4000))))
	}
	c.must(c.WriteData(1, true, []byte("end")))
	if got := c.answer(1); got != "200 40003 END" {
		t.Errorf("%q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestWhereTheServerEndsFirstTheTunnelEnds holds the way in which HTTP/2
// tunnels differ from those of HTTP/1.1: what the client sent before arrives.
func TestWhereTheServerEndsFirstTheTunnelEnds(t *testing.T) {
	got := make(chan string, 1)
	addr := proxytest.Server(t, func(c net.Conn, r *bufio.Reader) {
		io.WriteString(c, "bye")
		c.(*net.TCPConn).CloseWrite()
		all, _ := io.ReadAll(r)
		got <- string(all)
	})
	ended := make(chan error, 1)
	s := serve(t, relay(t, addr, patience, ended), nil)
	c := dialRaw(t, s)
	c.ask(1, false, connect...)
	c.must(c.WriteData(1, false, []byte("hello")))
	if got := c.answer(1); got != "200 bye" {
		t.Errorf("%q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if s := <-got; s != "hello" && s != "" { // the end may come first
		t.Errorf("%q", s)
	}
}

func TestATunnelThatBreaksOffResetsItsStream(t *testing.T) {
	addr := proxytest.Server(t, func(c net.Conn, r *bufio.Reader) {
		r.ReadByte()
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	})
	ended := make(chan error, 1)
	s := serve(t, relay(t, addr, patience, ended), nil)
	c := dialRaw(t, s)
	c.ask(1, false, connect...)
	c.must(c.WriteData(1, false, []byte("hello")))
	if got := c.answer(1); !strings.HasPrefix(got, "RST") {
		t.Errorf("%q", got)
	}
	if err := <-ended; err == nil {
		t.Error("the tunnel ended in order")
	}
}

func TestATunnelWhoseClientResetsTheStreamEnds(t *testing.T) {
	gone := make(chan struct{})
	addr := proxytest.Server(t, func(c net.Conn, r *bufio.Reader) {
		io.Copy(io.Discard, r)
		close(gone)
	})
	ended := make(chan error, 1)
	s := serve(t, relay(t, addr, patience, ended), nil)
	c := dialRaw(t, s)
	c.ask(1, false, connect...)
	c.must(c.WriteData(1, false, []byte("hello")))
	c.must(c.WriteRSTStream(1, h2.ErrCodeCancel))
	<-gone
	if err := <-ended; err == nil {
		t.Error("the tunnel ended in order")
	}
}

func TestAnHTTP2TunnelThatRestsIsReset(t *testing.T) {
	addr := proxytest.Server(t, func(c net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) })
	ended := make(chan error, 1)
	s := serve(t, relay(t, addr, 100*time.Millisecond, ended), nil)
	c := dialRaw(t, s)
	c.ask(1, false, connect...)
	if got := c.answer(1); !strings.HasPrefix(got, "RST") {
		t.Errorf("%q", got)
	}
	if err := <-ended; err != tunnel.ErrIdle {
		t.Error(err)
	}
}

// TestAWebSocketByHTTP2IsAnUpgradeToTheServer is RFC 8441, Section 5.
func TestAWebSocketByHTTP2IsAnUpgradeToTheServer(t *testing.T) {
	for _, row := range []struct {
		answer func(key string) string
		want   string
	}{
		{accept, "200 echo: hello"},
		{func(string) string { return "nonsense" }, "502"},
	} {
		addr := proxytest.Server(t, func(c net.Conn, r *bufio.Reader) {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n", row.answer(req.Header.Get("Sec-Websocket-Key")))
			all, _ := io.ReadAll(r)
			fmt.Fprintf(c, "echo: %s", all)
			c.Close()
		})
		ended := make(chan error, 1)
		s := serve(t, relay(t, addr, patience, ended), nil)
		c := dialRaw(t, s)
		c.ask(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "a.example", ":path", "/chat", "sec-websocket-version", "13")
		c.must(c.WriteData(1, true, []byte("hello")))
		if got := c.answer(1); !strings.HasPrefix(got, row.want) {
			t.Errorf("%q, want %q", got, row.want)
		}
		<-ended
	}
}

func TestTheServerSaysThatItKnowsWebSockets(t *testing.T) {
	c := dialRaw(t, serve(t, echo, nil))
	f, err := c.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	settings, ok := f.(*h2.SettingsFrame)
	if !ok {
		t.Fatal(f)
	}
	if v, ok := settings.Value(h2.SettingEnableConnectProtocol); !ok || v != 1 {
		t.Error("SETTINGS_ENABLE_CONNECT_PROTOCOL is not 1 (RFC 8441, Section 3)")
	}
}
