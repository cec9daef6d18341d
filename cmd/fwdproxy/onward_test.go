package main

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"fwdproxy/internal/proxytest"
)

func TestWhatGoesOnIsMadeHereAndNotEchoed(t *testing.T) {
	bothModes(t, func(t *testing.T, mode string) {
		w := startWire(t, mode, "", fine)
		host := w.expand("{H}")
		for name, c := range map[string]struct {
			raw    string
			fields map[string]string // in the request that goes on; "" is none
			body   string
		}{
			"one Host, that of the target (9112 3.2.2)": {"GET {B}/x HTTP/1.1\r\nhOsT: {H}\r\n", map[string]string{"host": host}, ""},
			"values without blanks around them (9110 5.5)": {"GET {B}/x HTTP/1.1\r\nHost:\t {H} \t\r\nX-A:   a b\t c  \r\nX-B:\r\n",
				map[string]string{"x-a": "a b\t c", "x-b": ""}, ""},
			"one framing, for a length (9112 6.2)": {"POST {B}/x HTTP/1.1\r\nHost: {H}\r\nContent-length:5 \r\n",
				map[string]string{"content-length": "5", "transfer-encoding": ""}, "hello"},
			"one framing, for chunks, without extensions and trailers (9110 6.5.1)": {"POST {B}/x HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding:CHUNKED\r\nTrailer: X-T, Host\r\n",
				map[string]string{"content-length": "", "transfer-encoding": "chunked", "trailer": "", "x-t": "", "authorization": ""},
				"5;e=\"f\"\r\nhello\r\n0\r\nX-T: a\r\nHost: b\r\nContent-Length: 3\r\nAuthorization: c\r\n\r\n"},
			"no hop-by-hop fields (9110 7.6.1)": {"GET {B}/x HTTP/1.1\r\nHost: {H}\r\nConnection: X-Hop, keep-alive\r\nX-Hop: a\r\nKeep-Alive: 1\r\nProxy-Connection: a\r\nTE: trailers\r\nProxy-Authorization: Basic eDp5\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n",
				map[string]string{"x-hop": "", "keep-alive": "", "proxy-connection": "", "te": "", "proxy-authorization": "", "upgrade": "", "http2-settings": "", "connection": ""}, ""},
			"Connection strips nothing that decides (9110 7.6.1)": {"POST {B}/x HTTP/1.1\r\nHost: {H}\r\nConnection: Host, Content-Length, Cache-Control, Via\r\nCache-Control: no-store\r\nContent-Length: 5\r\n",
				map[string]string{"host": host, "content-length": "5", "cache-control": "no-store"}, "hello"},
			"a body that looks like a request (9112 6)": {"POST {B}/x HTTP/1.1\r\nHost: {H}\r\nContent-Length: 5\r\n",
				map[string]string{"content-length": "5"}, "GET /"},
		} {
			c.raw += "\r\n" + c.body
			reply := proxytest.Talk(t, w.addr, w.expand(c.raw+"GET {B}/next HTTP/1.1\r\nHost: {H}\r\nConnection: close\r\n\r\n"))
			raw, seen := w.origin.take()
			if statuses(reply) != "200 200" || len(seen) != 2 || seen[1].Target != "/next" || seen[0].Target != "/x" {
				t.Errorf("%s: %q\nthe origin got %q", name, statuses(reply), raw)
				continue
			}
			for field, want := range c.fields {
				if got := seen[0].field(field); got != want {
					t.Errorf("%s: %s is %q, want %q", name, field, got, want)
				}
			}
			if c.body != "" && seen[0].Body != "hello" && seen[0].Body != "GET /" || len(seen[0].Trailers) > 0 {
				t.Errorf("%s: the body is %q, trailers %q", name, seen[0].Body, seen[0].Trailers)
			}
		}
		if len(w.origin.bad) > 0 {
			t.Errorf("the origin could not read %q", w.origin.bad)
		}
	})
}

func TestTheTargetWinsOverHost(t *testing.T) { // RFC 9112, Section 3.2.2
	w := startWire(t, modeForward, "", fine)
	proxytest.Talk(t, w.addr, w.expand("GET {B}/x HTTP/1.1\r\nHost: elsewhere.test\r\nConnection: close\r\n\r\n"))
	if _, seen := w.origin.take(); len(seen) != 1 || seen[0].Host != w.origin.addr {
		t.Errorf("the origin saw %+v", seen)
	}
}

func TestWhatOrdinaryClientsSendPasses(t *testing.T) {
	slow := strings.Repeat("x", 10000)
	for name, c := range map[string]struct {
		pieces []string
		fin    bool
		want   string
	}{
		"an empty line before a request (9112 2.2)": {[]string{"\r\nGET {B}/ HTTP/1.1\r\nHost: {H}\r\nConnection: close\r\n\r\n"}, false, "200"},
		"HTTP/1.0":                                         {[]string{"GET {B}/ HTTP/1.0\r\nHost: {H}\r\n\r\n"}, false, "200"},
		"HTTP/1.0 that asks for more (9112 9.3)":           {[]string{"GET {B}/ HTTP/1.0\r\nHost: {H}\r\nConnection: keep-alive\r\n\r\n"}, false, "200"},
		"HEAD":                                             {[]string{"HEAD {B}/ HTTP/1.1\r\nHost: {H}\r\nConnection: close\r\n\r\n"}, false, "200"},
		"ten pipelined requests":                           {[]string{strings.Repeat("GET {B}/ HTTP/1.1\r\nHost: {H}\r\n\r\n", 10)}, true, strings.TrimSpace(strings.Repeat("200 ", 10))},
		"a half-close behind the request":                  {[]string{"GET {B}/ HTTP/1.1\r\nHost: {H}\r\n\r\n"}, true, "200"},
		"a half-close behind a body":                       {[]string{"POST {B}/ HTTP/1.1\r\nHost: {H}\r\nContent-Length: 2\r\n\r\nok"}, true, "200"},
		"a head in pieces":                                 {[]string{"GE", "T {B}/ HT", "TP/1.1\r", "\nHost: {H}\r\n", "Connection: close\r\n\r", "\n"}, false, "200"},
		"a body in pieces":                                 {[]string{"POST {B}/ HTTP/1.1\r\nHost: {H}\r\nContent-Length: 10000\r\nConnection: close\r\n\r\n", slow[:3], slow[3:5000], slow[5000:]}, false, "200"},
		"chunks in pieces":                                 {[]string{"POST {B}/ HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n", "2", "\r", "\nab", "\r\n", "0", "\r\n", "X: y\r", "\n\r\n"}, false, "200"},
		"what browsers send in a query (URL standard)":     {[]string{"GET {B}/a|b[1]?x={1}&y=^`\\%zz HTTP/1.1\r\nHost: {H}\r\nConnection: close\r\n\r\n"}, false, "200"},
		"UTF-8 in a value (9110 5.5)":                      {[]string{"GET {B}/ HTTP/1.1\r\nHost: {H}\r\nX: äöü\r\nConnection: close\r\n\r\n"}, false, "200"},
		"Expect: 100-continue with the body (9110 10.1.1)": {[]string{"POST {B}/ HTTP/1.1\r\nHost: {H}\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"}, false, "100 200"},
	} {
		bothModes(t, func(t *testing.T, mode string) {
			w := startWire(t, mode, "", func(q strictRequest) string {
				if q.Method == "HEAD" {
					return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
				}
				return fine(q)
			})
			conn := proxytest.Dial(t, w.addr)
			for i, p := range c.pieces {
				if i > 0 {
					time.Sleep(2 * time.Millisecond)
				}
				proxytest.Send(t, conn, w.expand(p))
			}
			if c.fin {
				conn.(*net.TCPConn).CloseWrite()
			}
			if got := proxytest.Rest(t, conn); statuses(got) != c.want {
				t.Errorf("%s: %q, want %q\n%s", name, statuses(got), c.want, got)
			}
			if len(w.origin.bad) > 0 {
				t.Errorf("%s: the origin could not read %q", name, w.origin.bad)
			}
		})
	}
}

func TestAClientWithTooManyConnectionsIsToldSo(t *testing.T) {
	w := startWire(t, modeForward, "connections_per_client = 2\n", fine)
	var open []net.Conn
	for range 2 {
		c := proxytest.Dial(t, w.addr)
		proxytest.Send(t, c, w.expand("GET {B}/ HTTP/1.1\r\nHost: {H}\r\n\r\n"))
		proxytest.ReadHead(t, bufio.NewReader(c))
		open = append(open, c)
	}
	reply := proxytest.Rest(t, proxytest.Dial(t, w.addr))
	if proxytest.Status(reply) != "429" {
		t.Fatalf("got %s", reply)
	}
	if text := w.logText(t, 3); !strings.Contains(text, `"status":429`) {
		t.Errorf("the log has %s", text)
	}
	for _, c := range open {
		c.Close()
	}
	for range 100 { // until the proxy has seen that they are closed
		if reply = proxytest.Talk(t, w.addr, w.expand("GET {B}/ HTTP/1.1\r\nHost: {H}\r\nConnection: close\r\n\r\n")); proxytest.Status(reply) == "200" {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("got %s", reply)
}

// FuzzOnward sends bytes to the whole proxy: whatever it sends on, an
// independent strict reader can read, and the proxy answers or closes.
func FuzzOnward(f *testing.F) {
	for _, s := range []string{
		"GET {B}/ HTTP/1.1\r\nHost: {H}\r\nX: y\r\n\r\n",
		"POST {B}/ HTTP/1.1\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\nGET {B}/2?q HTTP/1.1\r\nHost: {H}\r\n\r\n",
		"POST {B}/ HTTP/1.1\r\nHost: {H}\r\nContent-Length: 3\r\nConnection: content-length, x\r\n\r\nabc",
		"GET {B}/%41/ä?ä HTTP/1.1\r\nHost: {H}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
	} {
		f.Add(s)
	}
	w := startWire(f, modeReverse, "", fine)
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Skip(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, w.expand(raw))
		_ = c.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Fatalf("no end comes behind %q", raw)
		}
		w.origin.mu.Lock()
		defer w.origin.mu.Unlock()
		if len(w.origin.bad) > 0 {
			t.Fatalf("of %q the origin could not read %q", raw, w.origin.bad)
		}
	})
}
