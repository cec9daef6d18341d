package upstream

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fwdproxy/internal/fault"
)

// recording is an origin that answers each request when its framing says that
// it is over, and sends the raw bytes of it to the returned channel.
func recording(t *testing.T) (*origin, <-chan string) {
	got := make(chan string, 10)
	o := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			head := readRequestHead(r)
			var body strings.Builder
			switch {
			case head == "":
				return
			case strings.Contains(head, "Transfer-Encoding: chunked"):
				for !strings.HasSuffix(body.String(), "0\r\n\r\n") {
					b, err := r.ReadByte()
					if err != nil {
						return
					}
					body.WriteByte(b)
				}
			case strings.Contains(head, "Content-Length: 5"):
				io.CopyN(&body, r, 5)
			}
			got <- head + body.String()
			io.WriteString(c, ok("good"))
		}
	})
	return o, got
}

func TestTheRequestIsGeneratedNotEchoed_RFC9112_3(t *testing.T) {
	o, got := recording(t)
	tr := newTransport(t, nil)
	unknown := func(s string) io.Reader { return io.MultiReader(strings.NewReader(s)) }
	for _, tt := range []struct {
		name, method, path string
		header             http.Header
		body               io.Reader
		length             int64
		want               string
	}{
		{name: "plain", method: "GET", path: "/a%2fb;c?d=%20e&f", want: "GET /a%2fb;c?d=%20e&f HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		{name: "no path", method: "GET", path: "", want: "GET / HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		{name: "no path but a query", method: "GET", path: "?q", want: "GET /?q HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		{name: "empty query", method: "GET", path: "/?", want: "GET /? HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		{name: "two slashes", method: "GET", path: "//a/../b", want: "GET //a/../b HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		{name: "asterisk", method: "OPTIONS", path: "*", want: "OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		{name: "empty POST", method: "POST", path: "/", want: "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n"},
		{name: "known length", method: "POST", path: "/", body: unknown("hello"), length: 5,
			want: "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "GET with a body", method: "GET", path: "/", body: unknown("hello"), length: 5,
			want: "GET / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "unknown length", method: "PUT", path: "/", body: unknown("hello, twenty bytes!!"), length: -1,
			want: "PUT / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n15\r\nhello, twenty bytes!!\r\n0\r\n\r\n"},
		{name: "unknown length, and none", method: "PUT", path: "/", body: unknown(""), length: -1,
			want: "PUT / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{name: "fields", method: "GET", path: "/", header: http.Header{"B": {"1", "2"}, "A": {"x\ty"}},
			want: "GET / HTTP/1.1\r\nHost: HOST\r\nA: x\ty\r\nB: 1\r\nB: 2\r\n\r\n"},
		{name: "what is ours or hop-by-hop", method: "GET", path: "/",
			header: http.Header{"Host": {"evil"}, "Content-Length": {"9"}, "content-length": {"9"}, "Transfer-Encoding": {"chunked"}, "transfer-encoding": {"chunked"},
				"Connection": {"close, X-Hop"}, "X-Hop": {"1"}, "Keep-Alive": {"1"}, "Te": {"trailers"}, "Trailer": {"A"}, "Proxy-Authorization": {"Basic x"},
				"Upgrade": {"h2c"}, "Http2-Settings": {"x"}, "Expect": {"100-continue"}},
			want: "GET / HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		{name: "upgrade", method: "GET", path: "/", header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Key": {"k"}},
			want: "GET / HTTP/1.1\r\nHost: HOST\r\nSec-Websocket-Key: k\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := "http://" + o.addr + tt.path
			if tt.path == "*" {
				url = "http://" + o.addr
			}
			req := request(t, tt.method, url, tt.body)
			if tt.path == "*" {
				req.URL.Path = "*"
			}
			req.ContentLength = tt.length
			if tt.header != nil {
				req.Header = tt.header
			}
			do(t, tr, req)
			if got, want := <-got, strings.ReplaceAll(tt.want, "HOST", o.addr); got != want {
				t.Errorf("sent\n%q, want\n%q", got, want)
			}
		})
	}
	if o.conns.Load() != 1 {
		t.Errorf("%d connections, want 1", o.conns.Load())
	}
}

func TestAMalformedRequestSendsNoByte(t *testing.T) {
	o := answering(t, ok(""))
	tr := newTransport(t, nil)
	for name, spoil := range map[string]func(*http.Request){
		"method":             func(r *http.Request) { r.Method = "GET / HTTP/1.1\r\nX:" },
		"empty method":       func(r *http.Request) { r.Method = "" },
		"CONNECT":            func(r *http.Request) { r.Method = "CONNECT" },
		"space in the query": func(r *http.Request) { r.URL.RawQuery = "a b" },
		"CRLF in the query":  func(r *http.Request) { r.URL.RawQuery = "a\r\nX: y" },
		"CRLF in Host":       func(r *http.Request) { r.Host = "a\r\nX: y" },
		"space in a name":    func(r *http.Request) { r.Header["X y"] = []string{"a"} },
		"colon in a name":    func(r *http.Request) { r.Header["X:"] = []string{"a"} },
		"empty name":         func(r *http.Request) { r.Header[""] = []string{"a"} },
		"CRLF in a value":    func(r *http.Request) { r.Header["X"] = []string{"a\r\nY: b"} },
		"LF in a value":      func(r *http.Request) { r.Header["X"] = []string{"a\nY: b"} },
		"NUL in a value":     func(r *http.Request) { r.Header["X"] = []string{"a\x00"} },
		"CRLF in Upgrade": func(r *http.Request) {
			r.Header["Connection"] = []string{"upgrade"}
			r.Header["Upgrade"] = []string{"a\r\nY: b"}
		},
		"user name in the URL": func(r *http.Request) { r.URL.User = nil; r.URL.Host = "u@" + r.URL.Host },
	} {
		t.Run(name, func(t *testing.T) {
			req := request(t, "GET", "http://"+o.addr+"/", nil)
			spoil(req)
			wantFault(t, fails(t, tr, req), fault.RequestError, 400)
		})
	}
	if o.conns.Load() != 0 {
		t.Errorf("%d connections reached the origin", o.conns.Load())
	}
}

// pipeBody is a request body that a test writes; closed tells when the
// transport closed it.
type pipeBody struct {
	*io.PipeReader
	closed chan struct{}
}

func newPipeBody() (*pipeBody, *io.PipeWriter) {
	r, w := io.Pipe()
	return &pipeBody{r, make(chan struct{})}, w
}

func (b *pipeBody) Close() error { close(b.closed); return b.PipeReader.Close() }

func TestAnEarlyAnswerIsSeenWhileTheBodyGoesOut(t *testing.T) {
	o := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readRequestHead(r)
		io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
		r.ReadByte()
		r.ReadByte() // until the proxy leaves
	})
	tr := newTransport(t, nil)
	body, _ := newPipeBody() // nothing is ever written to it
	req := request(t, "POST", "http://"+o.addr+"/", body)
	req.ContentLength = 1 << 30
	res, text := do(t, tr, req)
	if res.StatusCode != 413 || text != "big" {
		t.Errorf("%d %q", res.StatusCode, text)
	}
	<-body.closed
	if idle, used := tr.Stats(); idle+used != 0 {
		t.Error("a connection with half a request on it is kept")
	}
}

func TestAnEarlyAnswerDoesNotWaitForANextHopThatReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, nil)
		c, origin := piped(tr)
		go func() {
			readRequestHead(bufio.NewReaderSize(origin, 16)) // and nothing of the body
			io.WriteString(origin, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
		}()
		begun := time.Now()
		res, err := exchange(c, request(t, "POST", "http://a/", strings.NewReader(strings.Repeat("hello", 10))))
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); string(body) != "big" || err != nil || time.Since(begun) != 0 {
			t.Errorf("%q, %v after %s", body, err, time.Since(begun))
		}
		if idle, used := tr.Stats(); idle+used != 0 {
			t.Error("a connection with half a request on it is kept")
		}
	})
}

// stuckBody is a body whose Close waits for its Read, as net/http's server has
// them.
type stuckBody struct{ reading chan struct{} }

func (b stuckBody) Read([]byte) (int, error) { <-b.reading; return 0, io.EOF }
func (b stuckBody) Close() error             { <-b.reading; return nil }

func TestAnEarlyAnswerDoesNotWaitForAClientThatSendsNothing(t *testing.T) {
	o := answering(t, "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n")
	body := stuckBody{make(chan struct{})}
	defer close(body.reading)
	req := request(t, "POST", "http://"+o.addr+"/", body)
	req.ContentLength = 5
	if res, text := do(t, newTransport(t, nil), req); res.StatusCode != 403 || text != "no" {
		t.Errorf("%d %q", res.StatusCode, text)
	}
}

func TestABodyWaitsFor100Continue_RFC9110_10_1_1(t *testing.T) {
	send := func(t *testing.T, first string, wait time.Duration) (status int, seen string, took time.Duration, read bool) {
		tr := newTransport(t, nil)
		c, origin := piped(tr)
		got := make(chan string, 1)
		begun := time.Now()
		go func() {
			defer origin.Close()
			r := bufio.NewReader(origin)
			if head := readRequestHead(r); !strings.Contains(head, "Expect: 100-continue\r\n") {
				t.Errorf("no expectation in %q", head)
			}
			time.Sleep(wait)
			io.WriteString(origin, first)
			b := make([]byte, 5)
			n, _ := io.ReadFull(r, b)
			took = time.Since(begun)
			if n == 5 {
				io.WriteString(origin, ok("good"))
			}
			got <- string(b[:n])
		}()
		src := &countingBody{Reader: strings.NewReader("hello")}
		req := request(t, "POST", "http://a/", src)
		req.ContentLength = 5
		req.Header.Set("Expect", "100-continue")
		res, err := exchange(c, req)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second) // long past the wait for 100
		io.ReadAll(res.Body)
		res.Body.Close()
		return res.StatusCode, <-got, took, src.reads > 0
	}
	synctest.Test(t, func(t *testing.T) {
		if status, seen, took, _ := send(t, "HTTP/1.1 100 Continue\r\n\r\n", 400*time.Millisecond); status != 200 || seen != "hello" || took != 400*time.Millisecond {
			t.Errorf("after 100: %d, %q after %s", status, seen, took)
		}
		if status, seen, took, _ := send(t, "", 0); status != 200 || seen != "hello" || took != time.Second {
			t.Errorf("without an answer: %d, %q after %s", status, seen, took)
		}
		for _, answer := range []string{
			"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nauth",
			ok("fine without"),
		} {
			if _, seen, _, read := send(t, answer, 100*time.Millisecond); seen != "" || read {
				t.Errorf("after %.20q the body was sent (%q) or read (%v)", answer, seen, read)
			}
		}
	})
}

type countingBody struct {
	io.Reader
	reads int
}

func (b *countingBody) Read(p []byte) (int, error) { b.reads++; return b.Reader.Read(p) }
func (b *countingBody) Close() error               { return nil }

func TestWhatBreaksTheRequestsBodyIsTheError(t *testing.T) {
	large := &fault.Error{Kind: fault.RequestError, Status: 413}
	for _, tt := range []struct {
		name   string
		body   io.Reader
		length int64
		status int
	}{
		{"shorter than its length", strings.NewReader("hell"), 5, 400},
		{"longer than its length", strings.NewReader("hello!"), 5, 400},
		{"cut", io.MultiReader(strings.NewReader("hell"), errReader{io.ErrUnexpectedEOF}), -1, 400},
		{"refused by the front door", io.MultiReader(strings.NewReader("hell"), errReader{large}), -1, 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			complete := make(chan bool, 1)
			o := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
				readRequestHead(r)
				rest, _ := io.ReadAll(r)
				complete <- strings.HasSuffix(string(rest), "0\r\n\r\n") || len(rest) == 5
			})
			tr := newTransport(t, nil)
			req := request(t, "POST", "http://"+o.addr+"/", tt.body)
			req.ContentLength = tt.length
			wantFault(t, fails(t, tr, req), fault.RequestError, tt.status)
			if <-complete {
				t.Error("the broken body looks complete to the origin")
			}
		})
	}
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

func TestConnectionsAreKeptAfterUploads(t *testing.T) {
	o, got := recording(t)
	tr := newTransport(t, nil)
	for i := range 200 {
		req := request(t, "POST", "http://"+o.addr+"/", io.MultiReader(strings.NewReader("hello")))
		if req.ContentLength = 5; i%2 == 0 {
			req.ContentLength = -1
		}
		do(t, tr, req)
		<-got
	}
	if o.conns.Load() != 1 {
		t.Errorf("%d connections", o.conns.Load())
	}
}

func TestBothBodiesMayFlowAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, func(c *Config) { c.ResponseTimeout, c.ReadTimeout = short(time.Second), short(time.Minute) })
		c, origin := piped(tr)
		go func() { // an echo
			r := bufio.NewReader(origin)
			readRequestHead(r)
			io.WriteString(origin, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
			in := &chunkedReader{r: r, trailer: func(http.Header) {}}
			io.Copy(origin, in)
			time.Sleep(30 * time.Second) // between response_timeout and read_timeout
			io.WriteString(origin, "end")
			origin.Close()
		}()
		body, w := newPipeBody()
		req := request(t, "POST", "http://a/", body)
		req.ContentLength = -1
		res, err := exchange(c, req)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 5)
		for _, word := range []string{"hello", "world"} {
			io.WriteString(w, word)
			if _, err := io.ReadFull(res.Body, b); err != nil || string(b) != word {
				t.Fatalf("%q, %v", b, err)
			}
		}
		w.Close()
		if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "end" {
			t.Errorf("%q, %v", rest, err)
		}
	})
}

func TestAResetWhileTheBodyGoesOutIsA502(t *testing.T) {
	o := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readRequestHead(r)
		c.(*net.TCPConn).SetLinger(0)
	})
	req := request(t, "POST", "http://"+o.addr+"/", io.LimitReader(zeros{}, 1<<30))
	req.ContentLength = 1 << 30
	err := fails(t, newTransport(t, nil), req)
	wantFault(t, err, fault.ConnectionTerminated, 502)
	var f *fault.Error
	if errors.As(err, &f) && f.Err == nil {
		t.Error("the log gets no cause")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
