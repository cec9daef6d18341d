package main

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"fwdproxy/internal/proxytest"
)

func TestAHostileAnswerIsA502AndNothingOfItIsKept(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\n"
	for name, answer := range map[string]string{
		"Content-Length beside Transfer-Encoding (9112 6.3)": ok + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"lengths that differ (9112 6.3)":                     ok + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
		"a list of lengths (9112 6.3)":                       ok + "Content-Length: 3, 3\r\n\r\nabc",
		"a length with a sign (9112 6.3)":                    ok + "Content-Length: +3\r\n\r\nabc",
		"a negative length (9112 6.3)":                       ok + "Content-Length: -3\r\n\r\nabc",
		"a coding below chunked (9112 6.1)":                  ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"identity (9112 6.1)":                                ok + "Transfer-Encoding: identity\r\n\r\nabc",
		"chunked in HTTP/1.0 (9112 6.1)":                     "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a blank before a colon (9112 5.1)":                  ok + "X : a\r\nContent-Length: 0\r\n\r\n",
		"a folded line (9112 5.2)":                           ok + "X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
		"a bare CR (9112 2.2)":                               ok + "X: a\rSet-Cookie: b=c\r\nContent-Length: 0\r\n\r\n",
		"NUL in a value (9110 5.5)":                          ok + "X: a\x00\r\nContent-Length: 0\r\n\r\n",
		"no colon (9112 5)":                                  ok + "X\r\nContent-Length: 0\r\n\r\n",
		"an empty name (9110 5.1)":                           ok + ": a\r\nContent-Length: 0\r\n\r\n",
		"101 that nobody asked for (9110 15.2.2)":            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"a flood of interim answers (9110 15.2)":             strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 50) + ok + "Content-Length: 0\r\n\r\n",
		"a flood of 100 (9110 15.2)":                         strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 50) + ok + "Content-Length: 0\r\n\r\n",
		"304 to a request without a condition (9110 15.4.5)": "HTTP/1.1 304 Not Modified\r\nEtag: \"x\"\r\nCache-Control: max-age=3600\r\n\r\n",
		"a field beyond the limit":                           ok + "X: " + strings.Repeat("a", 2<<20) + "\r\n\r\n",
		"too many fields":                                    ok + strings.Repeat("X: a\r\n", 20000) + "\r\n",
		"no HTTP":                                            "hello there\r\n\r\n",
		"HTTP/2":                                             "HTTP/2.0 200 OK\r\n\r\n",
		"four digits (9112 4)":                               "HTTP/1.1 2000 OK\r\n\r\n",
		"an end in the middle of the head (9112 8)":          ok + "X: a",
		"an end before the head (9112 8)":                    "",
	} {
		t.Run(name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, mode string) {
				var asked atomic.Int32
				w := startWireBefore(t, mode, proxytest.Server(t, func(c net.Conn, r *bufio.Reader) {
					if _, err := readStrict(r); err != nil {
						return
					}
					asked.Add(1)
					io.WriteString(c, answer)
				}))
				for n := range 2 {
					before := asked.Load()
					reply := proxytest.Talk(t, w.addr, w.expand("GET {B}/x HTTP/1.1\r\nHost: {H}\r\nConnection: close\r\n\r\n"))
					got := strings.TrimSpace(strings.ReplaceAll(statuses(reply), "103", ""))
					if got != "502" || !strings.Contains(proxytest.Field(lastHead(reply), "Proxy-Status"), "error=") {
						t.Errorf("request %d: %q\n%.2000s", n, got, reply)
					}
					if asked.Load() == before {
						t.Errorf("request %d did not reach the origin", n)
					}
				}
			})
		})
	}
}

// lastHead returns a reply without its interim answers.
func lastHead(reply string) string {
	return reply[max(0, strings.LastIndex(reply, "HTTP/1.1 ")):]
}

func TestAnAnswerThatBreaksOffNeverLooksCompleteAndIsNotKept(t *testing.T) { // RFC 9112, Section 8
	const ok = "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\n"
	for name, answer := range map[string]string{
		"a body shorter than its length":    ok + "Content-Length: 10\r\n\r\nabc",
		"chunks without the last":           ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
		"a malformed size":                  ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0x3\r\nabc\r\n0\r\n\r\n",
		"no CRLF behind a chunk":            ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
		"a size that ends in LF alone":      ok + "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
		"an endless extension":              ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3;" + strings.Repeat("a", 10000) + "\r\nabc\r\n0\r\n\r\n",
		"a trailer section that never ends": ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n" + strings.Repeat("X: a\r\n", 20000),
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			w := startWireBefore(t, modeForward, proxytest.Server(t, func(c net.Conn, r *bufio.Reader) {
				if _, err := readStrict(r); err != nil {
					return
				}
				asked.Add(1)
				io.WriteString(c, answer)
			}))
			for range 2 {
				reply := proxytest.Talk(t, w.addr, w.expand("GET {B}/x HTTP/1.1\r\nHost: {H}\r\n\r\n"))
				_, body, _ := strings.Cut(reply, "\r\n\r\n")
				whole := strings.HasSuffix(body, "\r\n0\r\n\r\n") || proxytest.Field(reply, "Content-Length") == "3"
				if proxytest.Status(reply) == "200" && whole {
					t.Errorf("it looks complete:\n%s", reply)
				}
			}
			if asked.Load() != 2 {
				t.Errorf("the origin was asked %d times", asked.Load())
			}
		})
	}
}

func TestDataBehindAnAnswerIsNoAnswerToTheNextRequest(t *testing.T) { // RFC 9112, Section 11.2
	var conns atomic.Int32
	w := startWireBefore(t, modeForward, proxytest.Server(t, func(c net.Conn, r *bufio.Reader) {
		conns.Add(1)
		for {
			if _, err := readStrict(r); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmineHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
		}
	}))
	for range 3 {
		reply := proxytest.Talk(t, w.addr, w.expand("GET {B}/x HTTP/1.1\r\nHost: {H}\r\nConnection: close\r\n\r\n"))
		if !strings.HasSuffix(reply, "\r\n\r\nmine") {
			t.Errorf("got %s", reply)
		}
	}
	if conns.Load() != 3 {
		t.Errorf("%d connections for 3 requests", conns.Load())
	}
}
