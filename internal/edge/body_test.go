package edge

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fwdproxy/acl"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/unit"
)

// smuggled is what a request's body holds when its sender hopes that somebody
// takes the rest of it for a request.
const smuggled = "GET http://origin.test/smuggled HTTP/1.1\r\nHost: origin.test\r\n\r\n"

func TestAnAnswerBeforeTheEndOfTheBodyEndsTheConnection_RFC9112_9_6(t *testing.T) {
	early := func(code int) func(t *testing.T) http.RoundTripper {
		return func(t *testing.T) http.RoundTripper {
			return roundTrip(func(r *http.Request) (*http.Response, error) {
				if strings.Contains(r.URL.Path, "smuggled") {
					t.Error("a request's body was run as a request")
				}
				return answer(code, http.Header{"Content-Length": {"3"}}, "no\n")(&http.Request{Method: r.Method})
			})
		}
	}
	unreached := func(t *testing.T) http.RoundTripper { return never(t) }
	for _, tt := range []struct {
		name   string
		next   func(*testing.T) http.RoundTripper
		change func(*Door)
		method string
		via    string
		status string
		all    bool // with every framing
	}{
		{"refused by a rule", unreached, func(d *Door) { d.ACL = &acl.Engine{} }, "POST", "", "403", true},
		{"declared too large", unreached, func(d *Door) { d.Limits.BodySize = 10 }, "POST", "", "413", false},
		{"a loop", unreached, nil, "POST", "Via: 1.1 fwdproxy\r\n", "508", false},
		{"TRACE", unreached, nil, "TRACE", "", "405", false},
		{"OPTIONS that goes no further", unreached, nil, "OPTIONS", "Max-Forwards: 0\r\n", "200", false},
		{"an early 200", early(200), nil, "POST", "", "200", true},
		{"an early 401", early(401), nil, "POST", "", "401", false},
		{"an early 204", early(204), nil, "PUT", "", "204", false},
		{"a GET that is answered without its body", early(200), nil, "GET", "", "200", false},
	} {
		for framing, body := range map[string]string{
			"Content-Length: 1000": smuggled, "Transfer-Encoding: chunked": fmt.Sprintf("%x\r\n%s", 1000, smuggled),
			"Content-Length: 1001":                                 "", // nothing at all comes, and nobody may wait for it
			"Content-Length: 1002\r\nExpect: 100-continue":         "",
			"Transfer-Encoding: chunked\r\nExpect: 100-continue":   "",
			"Content-Length: 1000000":                              strings.Repeat("x", 1000) + smuggled,
			"Transfer-Encoding: chunked\r\nX-What: malformed size": "zz\r\n" + smuggled,
		} {
			if !tt.all && framing != "Content-Length: 1000" {
				continue
			}
			t.Run(tt.name+" "+framing, func(t *testing.T) {
				t.Parallel()
				s := newStand(t, tt.next(t), tt.change)
				reply := s.talk(t, tt.method+" http://origin.test/up HTTP/1.1\r\nHost: origin.test\r\n"+tt.via+framing+"\r\n\r\n"+body)
				if status(reply) != tt.status || field(reply, "Connection") != "close" {
					t.Errorf("want %s and Connection: close, got:\n%s", tt.status, reply)
				}
				if n := strings.Count(reply, "HTTP/1."); n != 1 {
					t.Errorf("%d answers to one request:\n%s", n, reply)
				}
				if r := s.record(t); fmt.Sprint(r.Status) != tt.status {
					t.Errorf("logged with status %d", r.Status)
				}
			})
		}
	}
}

func TestAnAnswerIsNotLostBehindABodyThatNobodyWants_RFC9112_9_6(t *testing.T) {
	s := newStand(t, never(t), func(d *Door) { d.ACL = &acl.Engine{} })
	for framing, body := range map[string]string{
		"Content-Length: 100000":     strings.Repeat("x", 100_000),
		"Content-Length: 100001":     strings.Repeat("x", 100_000),
		"Content-Length: 2000000":    strings.Repeat("x", 1000),
		"Transfer-Encoding: chunked": fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", 100_000, strings.Repeat("x", 100_000)),
	} {
		c := s.dial(t)
		send(t, c, "POST http://origin.test/ HTTP/1.1\r\nHost: x\r\n"+framing+"\r\n\r\n"+body)
		// A reset could overtake the answer.
		if reply, err := io.ReadAll(c); err != nil || status(string(reply)) != "403" {
			t.Errorf("%s: %v behind:\n%s", framing, err, reply)
		}
	}
}

func TestAConnectionWhoseRequestWasReadToItsEndIsKept_RFC9112_9_3(t *testing.T) {
	s := newStand(t, answer(200, http.Header{"Content-Length": {"3"}}, "ok\n"), nil)
	for _, body := range []string{
		"Content-Length: 5\r\n\r\nhello",
		"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n",
		"Content-Length: 0\r\n\r\n",
		"\r\n",
	} {
		reply := s.talk(t, strings.Repeat("POST http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n"+body, 3)+
			"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\nConnection: close\r\n\r\n")
		if n := strings.Count(reply, "HTTP/1.1 200 OK"); n != 4 {
			t.Errorf("%q: %d answers, want 4:\n%s", body, n, reply)
		}
	}
}

// chunked sends a body in chunks of its own making.
func chunked(w io.Writer, pieces ...string) error {
	c := httputil.NewChunkedWriter(w)
	for _, p := range pieces {
		if _, err := io.WriteString(c, p); err != nil {
			return err
		}
	}
	return nil
}

// requestAt reads one request as an origin does.
func requestAt(t *testing.T, r *bufio.Reader) *http.Request {
	req, err := http.ReadRequest(r)
	if err != nil {
		t.Errorf("the origin got no request: %v", err)
		return nil
	}
	return req
}

func TestABodyIsReadWholeWhileTheAnswerStreams(t *testing.T) {
	const piece, pieces = 100_000, 8
	whole := strings.Repeat("a", piece*pieces)
	for _, framing := range []string{fmt.Sprintf("Content-Length: %d", len(whole)), "Transfer-Encoding: chunked"} {
		t.Run(framing, func(t *testing.T) {
			got := make(chan string, 1)
			addr := origin(t, func(c net.Conn, r *bufio.Reader) {
				req := requestAt(t, r)
				if req == nil {
					return
				}
				// The head and a piece go out before any of the body was read.
				io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
				b, err := io.ReadAll(req.Body)
				if err != nil {
					t.Errorf("the upload broke off: %v", err)
				}
				got <- string(b)
				io.WriteString(c, "6\r\n, last\r\n0\r\n\r\n")
			})
			s := newStand(t, client(t), nil)
			_, port, _ := net.SplitHostPort(addr)
			c := s.dial(t)
			r := bufio.NewReader(c)
			send(t, c, "POST http://origin.test:"+port+"/ HTTP/1.1\r\nHost: x\r\n"+framing+"\r\n\r\n")
			head := readHead(t, r)
			if status(head) != "200" || field(head, "Connection") != "close" {
				t.Errorf("the head, with the body still to come:\n%s", head)
			}
			if b, err := r.Peek(10); err != nil || !bytes.Contains(b, []byte("first")) {
				t.Errorf("the answer does not stream: %q, %v", b, err)
			}
			for range pieces {
				if framing == "Transfer-Encoding: chunked" {
					if err := chunked(c, whole[:piece]); err != nil {
						t.Fatal(err)
					}
				} else {
					send(t, c, whole[:piece])
				}
			}
			if framing == "Transfer-Encoding: chunked" {
				send(t, c, "0\r\n\r\n")
			}
			select {
			case b := <-got:
				if b != whole {
					t.Errorf("%d bytes of %d arrived", len(b), len(whole))
				}
			case <-time.After(patience):
				t.Fatal("the upload does not end")
			}
			if reply := rest(t, r); !strings.HasSuffix(reply, ", last\r\n0\r\n\r\n") {
				t.Errorf("the rest of the answer: %q", reply)
			}
			if rec := s.record(t); rec.BytesIn != int64(len(whole)) || rec.Error != "" {
				t.Errorf("logged %d bytes in, error %q (%s)", rec.BytesIn, rec.Error, rec.ErrorCause)
			}
		})
	}
}

func TestACutUploadNeverLooksComplete_RFC9112_8(t *testing.T) {
	for name, tt := range map[string]struct {
		request string
		early   bool // the origin answers before the cut
		status  string
	}{
		"Content-Length":              {"Content-Length: 100\r\n\r\nhalf of it", false, "400"},
		"chunks":                      {"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false, "400"},
		"in a chunk":                  {"Transfer-Encoding: chunked\r\n\r\n50\r\nhello", false, "400"},
		"in the trailer":              {"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y", false, "400"},
		"malformed chunk":             {"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n-1\r\n\r\n0\r\n\r\n", false, "400"},
		"Content-Length, early":       {"Content-Length: 100\r\n\r\nhalf of it", true, "200"},
		"chunks, early":               {"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", true, "200"},
		"malformed chunk, and early":  {"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxx\r\n\r\n0\r\n\r\n", true, "200"},
		"chunks, early, nothing came": {"Transfer-Encoding: chunked\r\n\r\n", true, "200"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result := make(chan error, 1)
			addr := origin(t, func(c net.Conn, r *bufio.Reader) {
				req := requestAt(t, r)
				if req == nil {
					return
				}
				if tt.early {
					io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
				}
				_, err := io.ReadAll(req.Body)
				result <- err
			})
			s := newStand(t, client(t), nil)
			_, port, _ := net.SplitHostPort(addr)
			c := s.dial(t)
			r := bufio.NewReader(c)
			fields, body, _ := strings.Cut(tt.request, "\r\n\r\n")
			send(t, c, "POST http://origin.test:"+port+"/ HTTP/1.1\r\nHost: x\r\n"+fields+"\r\n\r\n")
			var head string
			if tt.early {
				head = readHead(t, r)
			}
			send(t, c, body)
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if err := <-result; err == nil {
				t.Error("the origin takes what was cut for whole")
			}
			reply := head + rest(t, r)
			if status(reply) != tt.status || strings.HasSuffix(reply, "0\r\n\r\n") {
				t.Errorf("the answer:\n%s", reply)
			}
			if rec := s.record(t); rec.Error == "" {
				t.Errorf("logged as if nothing were wrong: %+v", rec)
			}
		})
	}
}

func TestABodyAboveTheLimitIsCutWhereTheLimitIs_RFC9110_15_5_14(t *testing.T) {
	result := make(chan error, 1)
	addr := origin(t, func(c net.Conn, r *bufio.Reader) {
		if req := requestAt(t, r); req != nil {
			_, err := io.ReadAll(req.Body)
			result <- err
		}
	})
	s := newStand(t, client(t), func(d *Door) { d.Limits.BodySize = 100 })
	_, port, _ := net.SplitHostPort(addr)
	var body bytes.Buffer
	if err := chunked(&body, strings.Repeat("a", 90), strings.Repeat("b", 90)); err != nil {
		t.Fatal(err)
	}
	reply := s.talk(t, "POST http://origin.test:"+port+"/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"+body.String()+"0\r\n\r\n"+smuggled)
	if status(reply) != "413" || field(reply, "Connection") != "close" || strings.Count(reply, "HTTP/1.1 ") != 1 {
		t.Errorf("the answer:\n%s", reply)
	}
	if err := <-result; err == nil {
		t.Error("the origin takes what was cut for whole")
	}
	if rec := s.record(t); rec.Error != string(fault.RequestError) || rec.Status != 413 {
		t.Errorf("logged: %+v", rec)
	}
}

func TestAClientThatPausesInItsBodyGets408_RFC9110_15_5_9(t *testing.T) {
	addr := origin(t, func(c net.Conn, r *bufio.Reader) {
		if req := requestAt(t, r); req != nil {
			if _, err := io.ReadAll(req.Body); err == nil {
				t.Error("the origin takes what never came for whole")
			}
		}
	})
	s := newStand(t, client(t), func(d *Door) { d.Limits.BodyTimeout = unit.Duration(50 * time.Millisecond) })
	_, port, _ := net.SplitHostPort(addr)
	reply := s.talk(t, "POST http://origin.test:"+port+"/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
	if status(reply) != "408" || field(reply, "Connection") != "close" {
		t.Errorf("the answer:\n%s", reply)
	}
	if rec := s.record(t); rec.Status != 408 || rec.Error != string(fault.RequestError) || rec.BytesIn != 4 {
		t.Errorf("logged: %+v", rec)
	}
}

// wire is a connection as far as a ResponseController sees it.
type wire struct {
	http.ResponseWriter
	conn      net.Conn
	deadlines atomic.Int32
}

func (w *wire) SetReadDeadline(d time.Time) error {
	w.deadlines.Add(1)
	return w.conn.SetReadDeadline(d)
}

func testBody(src func(net.Conn) io.Reader) (*requestBody, *wire, net.Conn) {
	near, far := net.Pipe()
	w := &wire{conn: near}
	r := &http.Request{Body: io.NopCloser(src(near))}
	l := DefaultLimits()
	l.BodyTimeout = unit.Duration(time.Hour)
	return newRequestBody(r, http.NewResponseController(w), l), w, far
}

func TestFinishEndsAReadThatWaitsAndLeavesTheConnectionAlone(t *testing.T) {
	b, w, far := testBody(func(c net.Conn) io.Reader { return c })
	defer far.Close()
	failed := make(chan error)
	started := make(chan struct{})
	go func() {
		close(started)
		_, err := b.Read(make([]byte, 10))
		failed <- err
	}()
	<-started
	done := make(chan struct{})
	go func() { b.finish(drainTime); close(done) }()
	select {
	case err := <-failed:
		if err == nil {
			t.Error("the Read that waited succeeds")
		}
	case <-time.After(patience):
		t.Fatal("the Read still waits")
	}
	<-done
	before := w.deadlines.Load()
	if _, err := b.Read(make([]byte, 10)); err == nil {
		t.Error("a finished body can be read")
	}
	if b.Close(); w.deadlines.Load() != before {
		t.Error("whoever still holds the body moves the connection's deadline")
	}
}

func TestABodyReadToItsEndNeverTouchesTheConnectionAgain(t *testing.T) {
	b, w, far := testBody(func(net.Conn) io.Reader { return strings.NewReader("hello") })
	defer far.Close()
	if got, err := io.ReadAll(b); string(got) != "hello" || err != nil || !b.ended.Load() {
		t.Fatalf("%q, %v, ended %v", got, err, b.ended.Load())
	}
	before := w.deadlines.Load()
	b.Close()
	b.finish(drainTime)
	if _, err := b.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a second read of the end: %v", err)
	}
	if w.deadlines.Load() != before {
		t.Error("the deadline was moved, which is net/http's now")
	}
}

func TestClosingABodyDoesNotDisturbWhoeverReadsIt(t *testing.T) {
	b, w, far := testBody(func(c net.Conn) io.Reader { return c })
	defer far.Close()
	got := make(chan string)
	go func() {
		p := make([]byte, 10)
		n, err := b.Read(p)
		if err != nil {
			t.Error(err)
		}
		got <- string(p[:n])
	}()
	for w.deadlines.Load() == 0 {
		time.Sleep(time.Millisecond) // until the Read waits
	}
	b.Close()
	if _, err := io.WriteString(far, "late"); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != "late" {
		t.Errorf("read %q", s)
	}
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, errBodyClosed) || w.deadlines.Load() != 1 {
		t.Errorf("a read behind Close: %v, and the deadline was moved %d times", err, w.deadlines.Load())
	}
	if err := b.failure(); err != nil {
		t.Errorf("Close counts as a fault of the client's: %v", err)
	}
}

func TestAResponseBodyRemembersHowItBroke(t *testing.T) {
	b := &responseBody{ReadCloser: io.NopCloser(io.MultiReader(strings.NewReader("x"), errReader{}))}
	if _, err := io.ReadAll(b); !errors.Is(err, os.ErrClosed) || !errors.Is(b.err, os.ErrClosed) {
		t.Errorf("%v, remembered %v", err, b.err)
	}
	whole := &responseBody{ReadCloser: io.NopCloser(strings.NewReader("x"))}
	if _, err := io.ReadAll(whole); err != nil || whole.err != nil {
		t.Errorf("%v, remembered %v", err, whole.err)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, os.ErrClosed }

func TestNothingBehindAnHTTP10RequestIsReadAsOne_RFC9112_6_1(t *testing.T) {
	s := newStand(t, answer(http.StatusOK, nil, "ok"), nil)
	got := s.talk(t, "POST http://a.test/ HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"+
		"GET http://a.test/smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n")
	if n := strings.Count(got, "HTTP/1."); n != 1 || field(got, "Connection") != "close" {
		t.Errorf("%d answers came:\n%s", n, got)
	}
}
