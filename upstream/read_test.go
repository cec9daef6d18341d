package upstream

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"fwdproxy/internal/fault"
)

func TestAnswersThatTwoPartiesCouldReadDifferentlyAreRefused_RFC9112_4_5_6(t *testing.T) {
	const more = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
	for name, answer := range map[string]string{
		"no HTTP at all":                  "hello\r\n\r\n",
		"HTTP/2 in an HTTP/1.1 line":      "HTTP/2.0 200 OK\r\n\r\n",
		"HTTP/1.2":                        "HTTP/1.2 200 OK\r\n\r\n",
		"lower-case protocol":             "http/1.1 200 OK\r\n\r\n",
		"no status":                       "HTTP/1.1\r\n\r\n",
		"two digits":                      "HTTP/1.1 20 OK\r\n\r\n",
		"four digits":                     "HTTP/1.1 2000 OK\r\n\r\n",
		"sign":                            "HTTP/1.1 +20 OK\r\n\r\n",
		"status below 100":                "HTTP/1.1 099 OK\r\n\r\n",
		"two spaces":                      "HTTP/1.1  200 OK\r\n\r\n",
		"bare CR in the status line":      "HTTP/1.1 200 O\rK\r\n\r\n",
		"space before the colon":          more + "X : a\r\n\r\n",
		"tab before the colon":            more + "X\t: a\r\n\r\n",
		"folded line":                     more + "X: a\r\n b\r\n\r\n",
		"folded line with a colon":        more + "X: a\r\n b: c\r\n\r\n",
		"space before the first field":    "HTTP/1.1 200 OK\r\n X: a\r\n\r\n",
		"bare CR in a value":              more + "X: a\rb\r\n\r\n",
		"NUL in a value":                  more + "X: a\x00b\r\n\r\n",
		"control character in a value":    more + "X: a\x01b\r\n\r\n",
		"empty name":                      more + ": a\r\n\r\n",
		"no colon":                        more + "X\r\n\r\n",
		"parenthesis in a name":           more + "X(): a\r\n\r\n",
		"high byte in a name":             more + "X\x85: a\r\n\r\n",
		"length and coding":               more + "Transfer-Encoding: chunked\r\n\r\n",
		"lengths that differ":             more + "Content-Length: 1\r\n\r\n",
		"list of lengths":                 "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
		"empty length":                    "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
		"length with a sign":              "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
		"negative length":                 "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"hexadecimal length":              "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n",
		"length of 20 digits":             "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551621\r\n\r\n",
		"length with an underscore":       "HTTP/1.1 200 OK\r\nContent-Length: 5_0\r\n\r\n",
		"coding in HTTP/1.0":              "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"gzip before chunked":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"chunked before gzip":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
		"chunked twice":                   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"identity":                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
		"chunked with a vertical tab":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
		"empty coding":                    "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n",
		"bad length for HEAD's sake":      "HTTP/1.1 304 Not Modified\r\nContent-Length: x\r\n\r\n",
		"switch that nobody asked for":    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"malformed interim answer before": "HTTP/1.1 103 Early Hints\r\nX : a\r\n\r\n" + more + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			o := answering(t, answer)
			tr := newTransport(t, nil)
			wantFault(t, fails(t, tr, request(t, "GET", "http://"+o.addr+"/", nil)), fault.ProtocolError, 502)
			if idle, used := tr.Stats(); idle+used != 0 {
				t.Errorf("%d idle and %d used connections are left", idle, used)
			}
		})
	}
}

func TestHeadsBeyondTheLimitsAreRefused(t *testing.T) {
	limits := func(c *Config) { c.MaxHeader, c.MaxHeaders = 32<<10, 20 }
	for _, tt := range []struct {
		name, answer string
		refused      bool
	}{
		{"one field longer than the reader's buffer", "X: " + strings.Repeat("a", 20<<10) + "\r\n", false},
		{"one field over max_header", "X: " + strings.Repeat("a", 33<<10) + "\r\n", true},
		{"a field without end", "X: " + strings.Repeat("a", 200<<10), true},
		{"many fields over max_header", strings.Repeat("X: "+strings.Repeat("a", 4<<10)+"\r\n", 9), true},
		{"max_headers", strings.Repeat("X: a\r\n", 19), false},
		{"one over max_headers", strings.Repeat("X: a\r\n", 20), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"+tt.answer+"\r\n")
			tr := newTransport(t, limits)
			res, err := tr.RoundTrip(request(t, "GET", "http://"+o.addr+"/", nil))
			if tt.refused {
				wantFault(t, err, fault.ResponseHeaderSize, 502)
			} else if err != nil {
				t.Fatal(err)
			} else {
				res.Body.Close()
			}
		})
	}
}

func TestTheHeadIsReadAsItWasMeant(t *testing.T) {
	o := answering(t, "HTTP/1.1 200 All \xe4 is well\nContent-Length: 2\r\ncontent-length: 2\r\nx-empty:\r\nX-Tabs:\t a b \t\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n"+
		"Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\n\r\nhi")
	tr := newTransport(t, nil)
	res, body := get(t, tr, o)
	want := http.Header{"Content-Length": {"2"}, "X-Empty": {""}, "X-Tabs": {"a b"}, "Set-Cookie": {"a=1", "b=2"}}
	if res.StatusCode != 200 || res.Status != "200 OK" || res.Proto != "HTTP/1.1" || body != "hi" || res.ContentLength != 2 {
		t.Errorf("%s %q %d %q", res.Proto, res.Status, res.ContentLength, body)
	}
	if len(res.Header) != len(want) {
		t.Errorf("fields %v, want %v", res.Header, want)
	}
	for name, values := range want {
		if !slices.Equal(res.Header[name], values) {
			t.Errorf("%s is %q, want %q", name, res.Header[name], values)
		}
	}
	if get(t, tr, o); o.conns.Load() != 1 {
		t.Errorf("%d connections", o.conns.Load())
	}
}

func TestInterimAnswersArePassedOnButFor100_RFC9110_15_2(t *testing.T) {
	const early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
	o := answering(t, "HTTP/1.1 100 Continue\r\n\r\n"+early+"HTTP/1.1 102 Processing\r\n\r\n"+ok("done"))
	tr := newTransport(t, nil)
	req := request(t, "GET", "http://"+o.addr+"/", nil)
	var codes []int
	var link string
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			codes, link = append(codes, code), link+h.Get("Link")
			return nil
		},
	}))
	if _, body := do(t, tr, req); body != "done" || !slices.Equal(codes, []int{103, 102}) || link != "</a>" {
		t.Errorf("body %q, interim %v, Link %q", body, codes, link)
	}

	flood := answering(t, strings.Repeat(early, maxInterim)+ok("done"))
	if _, body := get(t, tr, flood); body != "done" {
		t.Errorf("%d interim answers: %q", maxInterim, body)
	}
	flood = answering(t, strings.Repeat(early, maxInterim+1)+ok("done"))
	wantFault(t, fails(t, tr, request(t, "GET", "http://"+flood.addr+"/", nil)), fault.ProtocolError, 502)
}

func TestAConnectionIsKeptAsTheAnswerSays_RFC9112_9_3(t *testing.T) {
	for _, tt := range []struct {
		head string
		kept bool
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 0", true},
		{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close", false},
		{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, CLOSE", false},
		{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\nConnection: close", false},
		{"HTTP/1.0 200 OK\r\nContent-Length: 0", false},
		{"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive", true},
		{"HTTP/1.1 204 No Content", true},
		{"HTTP/1.1 304 Not Modified\r\nContent-Length: 100", true},
	} {
		o := answering(t, tt.head+"\r\n\r\n")
		tr := newTransport(t, nil)
		get(t, tr, o)
		if idle, _ := tr.Stats(); (idle == 1) != tt.kept {
			t.Errorf("%q: %d connections are kept", tt.head, idle)
		}
	}
}

// FuzzResponseHead holds the reader against net/http's: what this one takes,
// that one takes as well, and both find the same status, fields and framing.
func FuzzResponseHead(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: a\r\n\r\nhello", "HTTP/1.0 404\nA:b\n\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	cfg := DefaultConfig()
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bufio.NewReader(bytes.NewReader(in))
		var answered bool
		res, err := readHead(r, cfg, &answered)
		if err != nil {
			return
		}
		fr, err := frame("GET", res)
		if err != nil {
			return
		}
		theirs, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(in)), &http.Request{Method: "GET"})
		if err != nil {
			t.Fatalf("net/http refuses %q: %v", in, err)
		}
		if theirs.StatusCode != res.StatusCode {
			t.Fatalf("status %d, net/http reads %d", res.StatusCode, theirs.StatusCode)
		}
		if res.StatusCode >= 200 && res.StatusCode != 204 && res.StatusCode != 304 {
			if fr.length != theirs.ContentLength || fr.chunked != (len(theirs.TransferEncoding) > 0) {
				t.Fatalf("framing %+v, net/http reads %d %v: %q", fr, theirs.ContentLength, theirs.TransferEncoding, in)
			}
		}
		for name, values := range theirs.Header {
			if name != "Content-Length" && !slices.Equal(res.Header[name], values) {
				t.Fatalf("%s is %q, net/http reads %q", name, res.Header[name], values)
			}
		}
		rest, _ := io.ReadAll(r)
		if !bytes.HasSuffix(in, rest) || bytes.ContainsAny(in[:len(in)-len(rest)], "\x00") {
			t.Fatal("the head ends elsewhere, or holds a NUL")
		}
	})
}

func TestAnAnswerThatNeverCameIsToldFromOneThatBrokeOff(t *testing.T) {
	for name, sent := range map[string]string{"nothing": "", "half a status line": "HTTP/1.1 2", "half a head": "HTTP/1.1 200 OK\r\nX: a\r\n"} {
		o := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
			readRequestHead(r)
			io.WriteString(c, sent)
		})
		err := fails(t, newTransport(t, nil), request(t, "GET", "http://"+o.addr+"/", nil))
		t.Run(name, func(t *testing.T) { wantFault(t, err, fault.ConnectionTerminated, 502) })
	}
}
