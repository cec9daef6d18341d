package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"golang.org/x/time/rate"

	"fwdproxy/http2"
)

// secure is what TLS listeners have in common: handshakes, and the way of each
// connection by what was agreed on.
type secure struct {
	config *tls.Config // whose session keys outlive a reload
	http2  *http2.Server
	log    *slog.Logger
	quiet  *rate.Limiter // of failed handshakes in the log
}

func newSecure(current func() *tls.Config, door *http2.Server, log *slog.Logger) *secure {
	return &secure{
		config: &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			if c := current(); c != nil {
				return c, nil
			}
			return nil, errors.New("the policy has no certificate any more")
		}},
		http2: door,
		log:   log,
		quiet: rate.NewLimiter(1, 10),
	}
}

// over returns a listener of those connections of l that speak HTTP/1.1 over
// TLS; those that speak HTTP/2 are served beside it.
func (s *secure) over(l *limitListener) net.Listener {
	t := &readyListener{limitListener: l, ready: make(chan net.Conn), failed: make(chan error, 1)}
	go func() { t.failed <- s.accept(t) }()
	return t
}

// readyListener hands out connections of another listener whose beginning, a
// handshake or a PROXY header, is over.
type readyListener struct {
	*limitListener
	ready  chan net.Conn
	failed chan error
}

func (t *readyListener) Accept() (net.Conn, error) {
	select {
	case c := <-t.ready:
		return c, nil
	case err := <-t.failed:
		return nil, err
	case <-t.closed:
		return nil, net.ErrClosed
	}
}

// accept takes connections, each into a place, until the listener fails.
func (s *secure) accept(t *readyListener) error {
	for {
		c, err := t.Listener.Accept()
		if err != nil {
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				continue
			}
			return err
		}
		select {
		case t.places <- struct{}{}:
		case <-t.closed:
			c.Close()
			return net.ErrClosed
		}
		go s.begin(t, c)
	}
}

// begin shakes hands on a connection that has a place, and hands it to whom it
// is for.
func (s *secure) begin(t *readyListener, plain net.Conn) {
	if t.include(plain) {
		var ok bool
		if plain, ok = t.read(plain, t.framing.Limits().HeaderTimeout.D()); !ok {
			<-t.places
			return
		}
	}
	if !t.clients.begin(plain, t.framing.Limits().ConnectionsPerClient) {
		<-t.places
		plain.Close() // before a handshake nothing can be said
		return
	}
	c := tls.Server(plain, s.config)
	ctx, cancel := context.WithTimeout(context.Background(), t.framing.Limits().HeaderTimeout.D())
	err := c.HandshakeContext(ctx)
	cancel()
	switch {
	case err != nil:
		s.failed(plain, err)
		plain.Close()
	case c.ConnectionState().NegotiatedProtocol == "h2":
		s.http2.Serve(context.Background(), c)
		c.Close()
	default:
		select {
		case t.ready <- t.framing.Wrap(c):
			return // the server's ConnState gives the place back
		case <-t.closed:
			c.Close()
		}
	}
	t.leave(plain)
}

// failed says why a handshake failed, to the client where it speaks plain HTTP,
// and to the log, which scanners shall not fill.
func (s *secure) failed(plain net.Conn, err error) {
	if record, ok := errors.AsType[tls.RecordHeaderError](err); ok && record.Conn != nil && looksLikeHTTP(record.RecordHeader) {
		_ = plain.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(plain, "HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\nThis port speaks TLS: write https:// in place of http://.\n")
	}
	if s.quiet.Allow() {
		s.log.Info("a TLS handshake failed", "client", plain.RemoteAddr().String(), "error", err)
	}
}

func looksLikeHTTP(b [5]byte) bool {
	switch string(b[:]) {
	case "GET /", "GET h", "HEAD ", "POST ", "PUT /", "PUT h", "OPTIO", "CONNE":
		return true
	}
	return false
}
