package edge

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"fwdproxy/accesslog"
	"fwdproxy/internal/fault"
)

// switched is the body of a 101: a connection.
type switched struct {
	net.Conn
	early  []byte
	closed chan struct{}
	once   sync.Once
}

func (s *switched) NetConn() (net.Conn, []byte) { return s.Conn, s.early }
func (s *switched) Close() error {
	s.once.Do(func() { close(s.closed) })
	return s.Conn.Close()
}

// socketTo is a next hop that switches to WebSocket on a connection to addr.
func socketTo(t *testing.T, addr string, h http.Header) (roundTrip, *switched) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &switched{Conn: c, early: []byte("early "), closed: make(chan struct{})}
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 101, Header: h, Body: s, Request: r}, nil
	}, s
}

const handshake = "GET http://origin.test/socket HTTP/1.1\r\nHost: origin.test\r\nConnection: x-hop, Upgrade\r\nUpgrade: WebSocket\r\n" +
	"X-Hop: 1\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

func echo(c net.Conn, r *bufio.Reader) { io.Copy(c, r) }

func TestAWebSocketIsRelayedCountedAndLogged_RFC6455_4(t *testing.T) {
	next, body := socketTo(t, origin(t, echo), http.Header{"Upgrade": {"websocket"}, "Sec-Websocket-Accept": {"x"}, "Via": {"1.1 cdn"}})
	var seen http.Header
	s := newStand(t, never(t), func(d *Door) {
		d.Direct = roundTrip(func(r *http.Request) (*http.Response, error) { seen = r.Header; return next(r) })
	})
	c := s.dial(t)
	send(t, c, handshake+"behind the head ")
	r := bufio.NewReader(c)
	head := readHead(t, r)
	if want := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nSec-Websocket-Accept: x\r\nUpgrade: websocket\r\nVia: 1.1 cdn, 1.1 fwdproxy\r\n\r\n"; head != want {
		t.Errorf("the head %q\nwant     %q", head, want)
	}
	if got := sortedFields(seen); !strings.Contains(got, "Connection=Upgrade ") || !strings.Contains(got, "Upgrade=websocket") || strings.Contains(got, "X-Hop") {
		t.Errorf("went out with %s", got)
	}
	send(t, c, "and later")
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := rest(t, r); got != "early behind the head and later" {
		t.Errorf("came back: %q", got)
	}
	rec := s.record(t)
	if rec.Tag != accesslog.TagTunnel || rec.Status != 101 || rec.BytesIn != 25 || rec.BytesOut != 31 || rec.Error != "" {
		t.Errorf("logged: %+v", rec)
	}
	<-body.closed // as whoever counts connections must be told
	if s.door.Tunnels.Open() != 0 {
		t.Error("it is still counted")
	}
}

func TestAnUpgradeThatIsNotTakenIsAnOrdinaryAnswer_RFC9110_7_8(t *testing.T) {
	s := newStand(t, answer(200, http.Header{"Content-Length": {"2"}}, "no"), nil)
	// What follows is a request of its own, not the socket's.
	reply := s.talk(t, handshake+get(""))
	if strings.Count(reply, "HTTP/1.1 200 OK\r\n") != 2 || strings.Contains(reply, "Upgrade") {
		t.Errorf("the reply:\n%s", reply)
	}
	if rec := s.record(t); rec.Tag != accesslog.TagMiss || rec.Status != 200 {
		t.Errorf("logged: %+v", rec)
	}
}

func TestWhatIsNoWebSocketHandshakeIsAnsweredWithoutUpgrade_RFC9110_7_8(t *testing.T) {
	for name, head := range map[string]string{
		"h2c":                 "GET http://origin.test/ HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n",
		"several":             "GET http://origin.test/ HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade\r\nUpgrade: h2c, websocket\r\n\r\n",
		"not nominated":       "GET http://origin.test/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUpgrade: websocket\r\n\r\n",
		"with a body":         "GET http://origin.test/ HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi",
		"not a GET":           "POST http://origin.test/ HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.0 knows none": "GET http://origin.test/ HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var fields string
			s := newStand(t, roundTrip(func(r *http.Request) (*http.Response, error) {
				delete(r.Header, "Content-Length")
				fields = sortedFields(r.Header)
				return answer(200, nil, "ok")(r)
			}), func(d *Door) { d.Direct = never(t) })
			if reply := s.talk(t, head); status(reply) != "200" {
				t.Errorf("the reply:\n%s", reply)
			}
			s.record(t)
			if fields != "Via="+map[bool]string{true: "1.0", false: "1.1"}[strings.Contains(head, "HTTP/1.0")]+" fwdproxy" {
				t.Errorf("went out with %s", fields)
			}
		})
	}
}

func TestASwitchToWhatNobodyAskedForIsRefused(t *testing.T) {
	other, body := socketTo(t, origin(t, echo), http.Header{"Upgrade": {"h2c"}})
	s := newStand(t, other, nil)
	c := s.dial(t)
	send(t, c, handshake)
	head := readHead(t, bufio.NewReader(c))
	if status(head) != "502" || !strings.Contains(head, "error=http_upgrade_failed") {
		t.Errorf("the answer:\n%s", head)
	}
	<-body.closed
	if rec := s.record(t); rec.Error != string(fault.UpgradeFailed) || rec.Status != 502 {
		t.Errorf("logged: %+v", rec)
	}

	notAConnection := newStand(t, answer(101, http.Header{"Upgrade": {"websocket"}}, ""), nil)
	c = notAConnection.dial(t)
	send(t, c, handshake)
	if head := readHead(t, bufio.NewReader(c)); status(head) != "502" {
		t.Errorf("a 101 without a connection:\n%s", head)
	}
}

func TestTunnelsAboveTheLimitGet503AndTheirPlaceIsGivenBack(t *testing.T) {
	next, _ := socketTo(t, origin(t, echo), http.Header{"Upgrade": {"websocket"}})
	s := newStand(t, next, func(d *Door) { d.Limits.Tunnels = 1 })
	first := s.dial(t)
	send(t, first, handshake)
	readHead(t, bufio.NewReader(first))
	second := s.dial(t)
	send(t, second, handshake)
	if head := readHead(t, bufio.NewReader(second)); status(head) != "503" || !strings.Contains(head, "error=connection_limit_reached") {
		t.Errorf("the answer:\n%s", head)
	}
	s.record(t)
	first.Close()
	s.record(t)
	for end := time.Now().Add(patience); s.door.Tunnels.Open() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the place is not given back")
		}
	}
}

func TestADrainCutsAWebSocketThatStaysAndLogsIt(t *testing.T) {
	next, body := socketTo(t, origin(t, echo), http.Header{"Upgrade": {"websocket"}})
	s := newStand(t, next, nil)
	c := s.dial(t)
	send(t, c, handshake+"x")
	r := bufio.NewReader(c)
	readHead(t, r)
	for _, want := range "early x" {
		if b, err := r.ReadByte(); err != nil || rune(b) != want {
			t.Fatalf("%q, %v", b, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n := s.door.Tunnels.Drain(ctx); n != 1 {
		t.Errorf("%d cut", n)
	}
	if got := rest(t, r); got != "" {
		t.Errorf("behind the cut: %q", got)
	}
	<-body.closed
	if rec := s.record(t); rec.Error != string(fault.ConnectionTerminated) || rec.Status != 101 || rec.BytesIn != 1 {
		t.Errorf("logged: %+v", rec)
	}
}

func TestAConnectionThatCannotBeTakenOverIsAFault(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	s := newStand(t, never(t), nil)
	x := s.door.Begin(nilWriter{}, &http.Request{Method: "CONNECT", RequestURI: "a.test:443"})
	x.Tunnel(near, nil)
	x.End()
	if _, err := near.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the server's side stays open: %v", err)
	}
	if rec := s.record(t); rec.Status != 500 || rec.Error != string(fault.InternalError) {
		t.Errorf("logged: %+v", rec)
	}
}
