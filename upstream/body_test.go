package upstream

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"fwdproxy/internal/fault"
)

func TestABodyEndsWhereItsFramingSays_RFC9112_6_3(t *testing.T) {
	for _, tt := range []struct {
		name, method, answer, body string
		length                     int64
		header                     string // Content-Length that is passed on
		kept                       bool
	}{
		{"known length", "GET", ok("hello"), "hello", 5, "5", true},
		{"chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello", -1, "", true},
		{"HEAD with a length", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "", 5, "5", true},
		{"HEAD with chunks", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "", -1, "", true},
		{"HEAD with neither", "HEAD", "HTTP/1.1 200 OK\r\n\r\n", "", -1, "", true},
		{"204 with a length", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "", 0, "", true},
		{"304 with a length", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "", 0, "5", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, tr := answering(t, tt.answer), newTransport(t, nil)
			for range 2 {
				res, body := do(t, tr, request(t, tt.method, "http://"+o.addr+"/", nil))
				if body != tt.body || res.ContentLength != tt.length || res.Header.Get("Content-Length") != tt.header {
					t.Errorf("%q, length %d, field %q", body, res.ContentLength, res.Header.Get("Content-Length"))
				}
				if res.Uncompressed || len(res.TransferEncoding) > 0 {
					t.Error("the answer is not as it came")
				}
			}
			if kept := o.conns.Load() == 1; kept != tt.kept {
				t.Errorf("%d connections", o.conns.Load())
			}
		})
	}
	o := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readRequestHead(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nuntil the end")
	})
	tr := newTransport(t, nil)
	if res, body := get(t, tr, o); body != "until the end" || res.ContentLength != -1 {
		t.Errorf("%q, length %d", body, res.ContentLength)
	}
	if idle, used := tr.Stats(); idle+used != 0 {
		t.Error("a connection that ended is kept")
	}
}

func TestATruncatedBodyIsAnError_RFC9112_8(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
	} {
		o := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
			readRequestHead(r)
			io.WriteString(c, answer)
		})
		tr := newTransport(t, nil)
		res, err := tr.RoundTrip(request(t, "GET", "http://"+o.addr+"/", nil))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(res.Body)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %v", answer, err)
		}
		wantFault(t, err, fault.ResponseIncomplete, 502)
		if _, again := res.Body.Read(make([]byte, 1)); again != err {
			t.Errorf("%q: the error does not stay: %v", answer, again)
		}
		if idle, used := tr.Stats(); idle+used != 0 {
			t.Errorf("%q: a broken connection is kept", answer)
		}
	}
}

func TestCloseBeforeTheEndClosesTheConnection(t *testing.T) {
	closed := make(chan bool, 1)
	o := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readRequestHead(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
		r.ReadByte()
		closed <- true
	})
	for name, waits := range map[string]bool{"between reads": false, "while a read waits": true} {
		tr := newTransport(t, nil)
		res, err := tr.RoundTrip(request(t, "GET", "http://"+o.addr+"/", nil))
		if err != nil {
			t.Fatal(err)
		}
		io.ReadFull(res.Body, make([]byte, 4))
		over := make(chan error, 1)
		if waits {
			go func() {
				_, err := res.Body.Read(make([]byte, 1))
				over <- err
			}()
			time.Sleep(20 * time.Millisecond)
		}
		res.Body.Close()
		<-closed
		if waits && <-over == nil {
			t.Errorf("%s: the read got something", name)
		}
		res.Body.Close()
		if _, err := res.Body.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("%s: a read after Close returns %v", name, err)
		}
		if idle, used := tr.Stats(); idle+used != 0 {
			t.Errorf("%s: a connection in the middle of an answer is kept", name)
		}
	}
}

func TestAConnectionThatCloseInterruptedIsNotKept(t *testing.T) {
	tr := newTransport(t, nil)
	c, origin := piped(tr)
	go func() {
		readRequestHead(bufio.NewReader(origin))
		io.WriteString(origin, ok("good"))
	}()
	res, err := exchange(c, request(t, "GET", "http://a/", nil))
	if err != nil {
		t.Fatal(err)
	}
	c.interrupt() // what Close does while a Read is under way
	if body, err := io.ReadAll(res.Body); string(body) != "good" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
	if idle, used := tr.Stats(); idle+used != 0 {
		t.Error("a connection is kept whose deadlines can be set no more")
	}
}

func upgrade(t *testing.T, tr *Transport, o *origin) (*http.Response, error) {
	req := request(t, "GET", "http://"+o.addr+"/", nil)
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
	return tr.RoundTrip(req)
}

func TestA101HandsTheConnectionOver_RFC9110_7_8(t *testing.T) {
	o := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if head := readRequestHead(r); !strings.Contains(head, "Connection: Upgrade\r\nUpgrade: websocket\r\n") {
			t.Errorf("sent %q", head)
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: a\r\nContent-Length: 3\r\n\r\nearly")
		io.Copy(c, r)
	})
	tr := newTransport(t, nil)
	res, err := upgrade(t, tr, o)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 101 || res.Header.Get("Upgrade") != "WebSocket" || len(res.Header) != 2 {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	raw := res.Body.(interface{ NetConn() (net.Conn, []byte) })
	conn, early := raw.NetConn()
	if _, plain := conn.(*net.TCPConn); !plain || string(early) != "early" {
		t.Errorf("%T, %q", conn, early)
	}
	rw := res.Body.(io.ReadWriteCloser)
	io.WriteString(rw, " and late")
	b := make([]byte, len("early and late"))
	if _, err := io.ReadFull(rw, b); err != nil || string(b) != "early and late" {
		t.Errorf("%q, %v", b, err)
	}
	if idle, used := tr.Stats(); idle != 0 || used != 1 {
		t.Errorf("%d idle, %d used", idle, used)
	}
	rw.Close()
	rw.Close()
	if idle, used := tr.Stats(); idle+used != 0 {
		t.Errorf("%d idle, %d used after Close", idle, used)
	}
}

func TestA101ToSomethingElseIsRefused_RFC9110_7_8(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\n\r\n",
	} {
		tr := newTransport(t, nil)
		_, err := upgrade(t, tr, answering(t, answer))
		wantFault(t, err, fault.UpgradeFailed, 502)
		if idle, used := tr.Stats(); idle+used != 0 {
			t.Errorf("%d idle, %d used", idle, used)
		}
	}
	o, tr := answering(t, ok("no")), newTransport(t, nil)
	res, err := upgrade(t, tr, o)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(res.Body); res.StatusCode != 200 || string(body) != "no" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}

func TestA101BeforeTheRequestIsOverIsRefused_RFC9110_7_8(t *testing.T) {
	o := answering(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	body, _ := newPipeBody()
	req := request(t, "POST", "http://"+o.addr+"/", body)
	req.ContentLength = -1
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
	wantFault(t, fails(t, newTransport(t, nil), req), fault.UpgradeFailed, 502)
	<-body.closed
}
