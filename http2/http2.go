// Package http2 serves HTTP/2 (RFC 9113) on a connection that is secured
// already: the Go team's server does the protocol, between a watch on the frames,
// which bounds what floods can cost, and a strict reading of each request, so
// that the front door gets nothing that it would not get by HTTP/1.1.
//
// It decides nothing about who may go where.
package http2

//lint:file-ignore SA1019 ServeConn is the one way to lay a watch between TLS and HTTP/2; docs/decisions says more.

import (
	"context"
	"crypto/tls"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"

	h2 "golang.org/x/net/http2"

	"fwdproxy/internal/edge"
	_ "fwdproxy/internal/xconnect" // for SETTINGS_ENABLE_CONNECT_PROTOCOL
)

// Server serves HTTP/2 connections. Its fields are set before the first one and
// not changed.
type Server struct {
	// Limits returns the limits in force; it is asked once for each connection, and
	// once for each request.
	Limits func() *edge.Limits
	// Handler is the front door. A request that is refused has its refusal in its
	// context, see edge.WithRefusal. A CONNECT, and what RFC 8441 makes of one for
	// a WebSocket, has no body; its ResponseWriter is an edge.TunnelOpener.
	Handler http.Handler
	// Absolute says that the front door is a proxy's: requests come to it in
	// absolute-form. Else they come in origin-form, and are about https alone.
	Absolute bool
	ErrorLog *log.Logger

	mu    sync.Mutex
	open  map[*connection]struct{}
	ended bool
}

// Serve serves the connection, whose handshake is done and has agreed on "h2",
// until it is over. ctx gives the requests' values.
func (s *Server) Serve(ctx context.Context, inner net.Conn) {
	l := s.Limits()
	w := &watch{Conn: inner, limits: l, in: frames{left: prefaceLength}}
	if t, ok := inner.(interface{ ConnectionState() tls.ConnectionState }); ok {
		state := t.ConnectionState()
		w.tls = &state
	}
	c := &connection{conn: w, base: s.base(l), over: make(chan struct{})}
	srv := &h2.Server{}
	if err := h2.ConfigureServer(c.base, srv); err != nil || !s.begin(c) {
		inner.Close()
		return
	}
	defer s.end(c)
	srv.ServeConn(w, &h2.ServeConnOpts{Context: ctx, BaseConfig: c.base, Handler: &requests{s: s, conn: w}})
}

// base returns what the server of one connection is configured by.
func (s *Server) base(l *edge.Limits) *http.Server {
	return &http.Server{
		MaxHeaderBytes: int(l.HeaderSize),
		IdleTimeout:    l.IdleTimeout.D(),
		ErrorLog:       s.ErrorLog,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          l.Streams,
			MaxReceiveBufferPerConnection: connectionWindow,
			MaxReceiveBufferPerStream:     streamWindow,
			WriteByteTimeout:              l.WriteTimeout.D(),
		},
	}
}

// connection is one that is being served.
type connection struct {
	conn net.Conn
	base *http.Server
	over chan struct{}
}

// What a client may have sent that nobody has read yet.
const (
	connectionWindow = 4 << 20
	streamWindow     = 512 << 10
)

func (s *Server) begin(c *connection) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	if s.open == nil {
		s.open = map[*connection]struct{}{}
	}
	s.open[c] = struct{}{}
	return true
}

func (s *Server) end(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	close(c.over)
}

// Shutdown lets no stream begin any more (GOAWAY) and waits until the
// connections are over; those that are not when ctx is done it closes, and
// returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.ended = true
	open := slices.Collect(maps.Keys(s.open))
	s.mu.Unlock()
	for _, c := range open {
		_ = c.base.Shutdown(ctx) // which has no connections of its own to wait for
	}
	for _, c := range open {
		select {
		case <-c.over:
		case <-ctx.Done():
			c.conn.Close()
			<-c.over
		}
	}
	return ctx.Err()
}
