package http1

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"

	"fwdproxy/internal/edge"
)

// stand is an http.Server behind the framing.
type stand struct {
	addr    string
	limits  edge.Limits
	mu      sync.Mutex
	refused []edge.Refused
	netHTTP lines // what net/http itself complains of
}

type lines struct {
	mu   sync.Mutex
	text []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, string(p))
	return len(p), nil
}

func (s *stand) refuse(q edge.Refused) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = append(s.refused, q)
	return fmt.Appendf(nil, "HTTP/1.1 %d Refused\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", q.Err.HTTPStatus())
}

func (s *stand) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.refused)
}

// wrapping hands out framed connections.
type wrapping struct {
	net.Listener
	wrap func(net.Conn) net.Conn
}

func (l wrapping) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.wrap(c), nil
}

// serve runs a handler behind the framing. change may be nil.
func serve(t testing.TB, h http.HandlerFunc, change func(*stand, *Server)) *stand {
	t.Helper()
	s := &stand{limits: edge.DefaultLimits()}
	framing := &Server{Limits: func() *edge.Limits { return &s.limits }, Refuse: s.refuse}
	if change != nil {
		change(s, framing)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	srv := &http.Server{Handler: h, ConnState: ConnState, MaxHeaderBytes: 2 << 20, DisableGeneralOptionsHandler: true, ErrorLog: log.New(&s.netHTTP, "", 0)}
	go srv.Serve(wrapping{l, framing.Wrap})
	t.Cleanup(func() { srv.Close() })
	return s
}

// echo answers with method, target, Host and body.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.Header().Set("Connection", "close")
		http.Error(w, "body", http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "[%s %s %s %q]", r.Method, r.RequestURI, r.Host, body)
}
