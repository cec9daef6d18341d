package http1

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fwdproxy/internal/edge"
	"fwdproxy/internal/proxytest"
	"fwdproxy/internal/unit"
)

func TestPipelinedRequestsAreAnsweredInOrderAndTheNextBeginsAtTheRightByte(t *testing.T) {
	s := serve(t, echo, nil)
	raw := "\r\nPOST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /" +
		"\r\nGET /2 HTTP/1.1\r\nHost: b\r\n\r\n" +
		"POST /3 HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=\"y\"\r\nGET\r\n00A\r\n /x HTTP/1\r\n0\r\nX: y\r\nContent-Length: 7\r\n\r\n" +
		"HEAD /4 HTTP/1.1\r\nHost: d\r\n\r\n" +
		"GET /5 HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r"
	// In one write: what came to a connection that is closed already would reset it.
	last := "\nGET /6 HTTP/1.1\r\nHost: f\r\n\r\n"
	for _, piece := range []int{len(raw), 1, 7, 100} {
		c := proxytest.Dial(t, s.addr)
		for rest := raw; rest != ""; {
			n := min(piece, len(rest))
			proxytest.Send(t, c, rest[:n])
			rest = rest[n:]
		}
		proxytest.Send(t, c, last)
		got := proxytest.Rest(t, c)
		want := []string{`[POST /1 a "GET /"]`, `[GET /2 b ""]`, `[POST /3 c "GET /x HTTP/1"]`, `[GET /5 e ""]`}
		at := 0
		for _, w := range want {
			i := strings.Index(got[at:], w)
			if i < 0 {
				t.Fatalf("in pieces of %d: no %s in order in\n%s", piece, w, got)
			}
			at += i
		}
		if strings.Contains(got, "/6") || strings.Contains(got, "/4") || strings.Count(got, "HTTP/1.1 200") != 5 || s.count() > 0 {
			t.Errorf("in pieces of %d: %d refused\n%s", piece, s.count(), got)
		}
	}
}

func TestAHeadLargerThanTheBufferComesThroughWhole(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, len(r.Header.Get("X"))) }, nil)
	for _, n := range []int{8000, 8192, 9000, 30000, 65000} {
		reply := proxytest.Talk(t, s.addr, "GET / HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", n)+"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if !strings.Contains(reply, fmt.Sprintf("\r\n\r\n%d", n)) || strings.Count(reply, "200 OK") != 2 {
			t.Errorf("%d: %s", n, reply)
		}
	}
}

func TestAClientThatLeavesCancelsItsRequest(t *testing.T) {
	for name, leave := range map[string]func(net.Conn){
		"with a reset": func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) },
		"with an end":  func(net.Conn) {},
		"with a reset behind a part of a request": func(c net.Conn) {
			io.WriteString(c, "GET ")
			c.(*net.TCPConn).SetLinger(0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			began, gone := make(chan struct{}), make(chan struct{})
			s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
				io.ReadAll(r.Body)
				close(began)
				<-r.Context().Done()
				close(gone)
			}, func(s *stand, _ *Server) { s.limits.HalfCloseTimeout = unit.Duration(10 * time.Millisecond) })
			c := proxytest.Dial(t, s.addr)
			proxytest.Send(t, c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok")
			<-began
			leave(c)
			c.Close()
			select {
			case <-gone:
			case <-time.After(proxytest.Patience):
				t.Fatal("the handler still waits")
			}
		})
	}
}

func TestAClientThatHalfClosesGetsItsAnswers(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(50 * time.Millisecond):
			io.WriteString(w, "late but here")
		}
	}, nil)
	c := proxytest.Dial(t, s.addr)
	proxytest.Send(t, c, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := proxytest.Rest(t, c); strings.Count(got, "late but here") != 2 {
		t.Errorf("got %s", got)
	}
}

func TestAfterHijackAllBytesAndThePlainConnectionComeOut(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		c, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		plain, early := c.(interface{ Unwrap() (net.Conn, []byte) }).Unwrap()
		defer plain.Close()
		if _, ok := plain.(*net.TCPConn); !ok || buf.Reader.Buffered() != 0 {
			t.Errorf("%T, %d bytes in net/http", plain, buf.Reader.Buffered())
		}
		rest, _ := io.ReadAll(plain)
		fmt.Fprintf(plain, "early %q, later %q", early, rest)
	}, nil)
	for _, pause := range []bool{false, true} {
		c := proxytest.Dial(t, s.addr)
		proxytest.Send(t, c, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n\x16\x03\x01 early")
		if pause {
			time.Sleep(10 * time.Millisecond)
		}
		proxytest.Send(t, c, " and late")
		c.(*net.TCPConn).CloseWrite()
		got := proxytest.Rest(t, c)
		got = strings.ReplaceAll(got, `", later "`, "")
		if got != `early "\x16\x03\x01 early and late"` {
			t.Errorf("got %s", got)
		}
	}
}

func TestReadWakesWhenTheDeadlineMovesIntoThePast(t *testing.T) {
	// Every request below ends a read-ahead; one that does not wake hangs.
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "x") }, nil)
	full := strings.Repeat("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 2000) // more than is read ahead
	c := proxytest.Dial(t, s.addr)
	go io.WriteString(c, full+"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	if got := proxytest.Rest(t, c); strings.Count(got, "200 OK") != 2001 {
		t.Errorf("%d answers", strings.Count(got, "200 OK"))
	}
}

func TestWhatIsOverALimitIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		limit     func(*edge.Limits)
		raw, want string
	}{
		"a head that drips in":  {func(l *edge.Limits) { l.HeaderTimeout = unit.Duration(30 * time.Millisecond) }, "GET / HTTP/1.1\r\n", "408"},
		"a body that drips in":  {func(l *edge.Limits) { l.BodyRateWindow = unit.Duration(30 * time.Millisecond); l.BodyRate = 1 << 20 }, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", "400"},
		"two fields of one":     {func(l *edge.Limits) { l.HeaderCount = 1 }, "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n", "431"},
		"a request line of 101": {func(l *edge.Limits) { l.RequestLine = 100 }, "GET /" + strings.Repeat("a", 87) + " HTTP/1.1\r\nHost: a\r\n\r\n", "414"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, echo, func(s *stand, _ *Server) { c.limit(&s.limits) })
			conn := proxytest.Dial(t, s.addr)
			proxytest.Send(t, conn, c.raw)
			if name == "a body that drips in" {
				time.Sleep(40 * time.Millisecond)
				proxytest.Send(t, conn, "x")
			}
			if got := proxytest.Rest(t, conn); proxytest.Status(got) != c.want {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestTheLastRequestOfAConnectionSaysSo(t *testing.T) {
	s := serve(t, echo, func(s *stand, _ *Server) { s.limits.RequestsPerConnection = 3 })
	for _, last := range []string{
		"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok",
		"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	} {
		got := proxytest.Talk(t, s.addr, strings.Repeat("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n", 2)+last+"GET /4 HTTP/1.1\r\nHost: a\r\n\r\n")
		if strings.Count(got, "200 OK") != 3 || strings.Count(got, "Connection: close") != 1 || strings.Contains(got, "/4") {
			t.Errorf("got %s", got)
		}
	}
}

func TestABodyThatNobodyReadIsDrainedOrTheConnectionCloses(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RequestURI) }, nil)
	next := "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	for _, c := range []struct {
		size int
		next bool
	}{{10, true}, {100 << 10, true}, {1 << 20, false}} {
		body := strings.Repeat("GET /in HTTP/1.1\r\nHost: b\r\n\r\n", c.size/20+1)[:c.size]
		conn := proxytest.Dial(t, s.addr)
		go io.WriteString(conn, fmt.Sprintf("POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", c.size)+body+next)
		got := proxytest.Rest(t, conn)
		if strings.Contains(got, "/in") || strings.Contains(got, "/next") != c.next {
			t.Errorf("%d bytes: %s", c.size, got)
		}
	}
}

func TestAnExpectationIsMetBeforeTheBodyComes(t *testing.T) {
	s := serve(t, echo, nil)
	c := proxytest.Dial(t, s.addr)
	r := bufio.NewReader(c)
	proxytest.Send(t, c, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n")
	if head := proxytest.ReadHead(t, r); !strings.HasPrefix(head, "HTTP/1.1 100") {
		t.Fatalf("got %s", head)
	}
	proxytest.Send(t, c, "ok")
	if head := proxytest.ReadHead(t, r); !strings.HasPrefix(head, "HTTP/1.1 200") {
		t.Fatalf("got %s", head)
	}
}

func TestAConnectionAtRestHoldsNoBuffer(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	limits := edge.DefaultLimits()
	conn := (&Server{Limits: func() *edge.Limits { return &limits }}).Wrap(server).(*Conn)
	go io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if n, err := conn.Read(make([]byte, 4096)); n == 0 || err != nil || conn.buf != nil || conn.pooled != nil {
		t.Errorf("%d, %v, %d bytes held", n, err, len(conn.buf))
	}
}

func TestWhoAnswersBeforeNetHTTPIsAskedInOrder(t *testing.T) {
	var asked atomic.Int32
	s := serve(t, echo, func(_ *stand, f *Server) {
		f.Answer = func(w net.Conn, h Head) (bool, error) {
			asked.Add(1)
			if string(h.Target) != "/hit" || string(h.Host) != "a" || h.Minor != 1 || string(h.Method) != "GET" {
				return false, nil
			}
			_, err := io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[hit]")
			return true, err
		}
	})
	got := proxytest.Talk(t, s.addr, "GET /hit HTTP/1.1\r\nHost: a\r\n\r\nGET /miss HTTP/1.1\r\nHost: a\r\n\r\nGET /hit HTTP/1.1\r\nHost: a\r\n\r\n"+
		"POST /hit HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nxGET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	var order []string
	for _, part := range strings.Split(got, "[")[1:] {
		order = append(order, part[:strings.IndexByte(part, ']')])
	}
	if strings.Join(order, ",") != `hit,GET /miss a "",hit,POST /hit a "x",GET /last a ""` || asked.Load() != 4 {
		t.Errorf("%d asked, %q", asked.Load(), order)
	}
}
