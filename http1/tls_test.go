package http1

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"fwdproxy/internal/edge"
	"fwdproxy/internal/proxytest"
)

func TestOverTLSRequestsAreFramedAndKnownAsTLS(t *testing.T) {
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	defer certificate.Close()
	limits := edge.DefaultLimits()
	s := &stand{}
	framing := &Server{Limits: func() *edge.Limits { return &limits }, Refuse: s.refuse}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ConnState: ConnState, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "[%s %v]", r.URL, r.TLS != nil && r.TLS.HandshakeComplete)
	})}
	defer srv.Close()
	go srv.Serve(wrapping{l, func(c net.Conn) net.Conn {
		secure := tls.Server(c, &tls.Config{Certificates: certificate.TLS.Certificates})
		if err := secure.Handshake(); err != nil {
			t.Error(err)
		}
		return framing.Wrap(secure)
	}})
	c := tls.Client(proxytest.Dial(t, l.Addr().String()), &tls.Config{InsecureSkipVerify: true}) // the test's own certificate
	defer c.Close()
	proxytest.Send(t, c, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n")
	if got := proxytest.Rest(t, c); !strings.Contains(got, "[/1 true]") || !strings.Contains(got, "[/2 true]") || !strings.HasPrefix(got[strings.LastIndex(got, "HTTP/1.1"):], "HTTP/1.1 400") || s.count() != 1 {
		t.Errorf("got %s", got)
	}
}
