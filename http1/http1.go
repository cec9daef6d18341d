// Package http1 stands between a client's connection and net/http: it frames
// each HTTP/1.1 request strictly (RFC 9112) and hands on exactly the bytes of
// one, head as received, chunks without extensions and trailers. What is
// malformed, or what two parsers could read differently, it answers itself and
// closes.
//
// It decides nothing about who may go where, and it never changes what a
// request means.
package http1

import (
	"crypto/tls"
	"net"
	"net/http"

	"fwdproxy/internal/edge"
)

// Server wraps the connections of one http.Server. Its fields are set before
// the first connection and not changed.
type Server struct {
	// Limits returns the limits in force; it is asked once for each request.
	Limits func() *edge.Limits
	// Refuse returns the whole answer to what is refused, and logs it. After it
	// the connection closes.
	Refuse func(edge.Refused) []byte
	// Answer, unless nil, is offered each GET and HEAD without a body before
	// net/http sees it. It may answer: then it writes one whole response to w and
	// returns true; on an error, where that may be cut short, the connection ends.
	// head is valid until it returns.
	Answer func(w net.Conn, head Head) (bool, error)
}

// Wrap returns the connection as net/http shall get it. A TLS connection must
// have shaken hands. The http.Server must report its ConnState to ConnState,
// and set neither ReadTimeout nor IdleTimeout nor ReadHeaderTimeout, which are
// Limits' to give.
func (s *Server) Wrap(inner net.Conn) net.Conn {
	c := &Conn{Conn: inner, s: s}
	if t, ok := inner.(*tls.Conn); ok {
		return &tlsConn{Conn: c, state: t.ConnectionState}
	}
	return c
}

// WrapOverLimit is Wrap for a connection that its client has one too many of:
// it is told so with 429 and closed.
func (s *Server) WrapOverLimit(inner net.Conn) net.Conn {
	return &Conn{Conn: inner, s: s, over: true}
}

// OverLimit reports whether WrapOverLimit made the connection.
func (c *Conn) OverLimit() bool { return c.over }

// ConnState must be called with every state that net/http reports.
func ConnState(c net.Conn, state http.ConnState) {
	if w, ok := c.(interface{ base() *Conn }); ok && state == http.StateIdle {
		w.base().idle()
	}
}

// tlsConn tells net/http that it is TLS, where http.Request.TLS comes from.
type tlsConn struct {
	*Conn
	state func() tls.ConnectionState
}

// ConnectionState returns what the handshake agreed on.
func (c *tlsConn) ConnectionState() tls.ConnectionState { return c.state() }
