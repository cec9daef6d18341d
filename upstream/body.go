package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"fwdproxy/internal/header"
)

// response finishes an answer whose head is read and framed: its body gives
// the connection back. Hop-by-hop fields end here.
func (c *conn) response(req *http.Request, res *http.Response, f framing, up *upload, stop func() bool) *http.Response {
	res.Request = req
	keep := keepsAlive(res) && (f.chunked || f.length >= 0)
	b := &responseBody{c: c, keep: keep, up: up, ctx: req.Context(), stop: stop}
	res.ContentLength = f.length
	switch {
	case f.chunked:
		b.src = &chunkedReader{r: c.r, trailer: func(h http.Header) { setTrailer(res, h) }}
		res.Trailer = announced(res.Header)
	case f.length < 0:
		b.src = closeReader{c}
	default:
		b.src = &fixedReader{r: c.r, left: f.length}
	}
	header.RemoveHopByHop(res.Header)
	res.Body = b
	if f.length == 0 {
		// The length of what HEAD is about stays in the header.
		if req.Method == http.MethodHead {
			res.ContentLength = contentLength(res.Header)
		}
		b.mu.Lock()
		b.finish(b.keep)
		b.mu.Unlock()
	}
	return res
}

// switched is a 101: its body is the connection, with what came behind the
// head.
func (c *conn) switched(req *http.Request, res *http.Response, stop func() bool) *http.Response {
	protocol := res.Header.Get("Upgrade")
	header.RemoveHopByHop(res.Header)
	delete(res.Header, "Content-Length") // it has none (RFC 9110, Section 8.6)
	res.Header.Set("Upgrade", protocol)
	if stop() {
		_ = c.net.SetDeadline(time.Time{})
	}
	early, _ := c.r.Peek(c.r.Buffered())
	s := &Switched{conn: c.net, early: append([]byte(nil), early...)}
	s.over = sync.OnceFunc(func() { c.leave(); c.t.open.Add(-1) })
	c.returnReader()
	res.Request, res.Body = req, s
	return res
}

// Switched is the body of a 101: the connection itself. It outlives the
// request's context.
type Switched struct {
	conn  net.Conn
	early []byte
	over  func()
}

// NetConn returns the connection and what was read from it already. Whoever
// takes it closes it, and then the body.
func (s *Switched) NetConn() (net.Conn, []byte) { return s.conn, s.early }

func (s *Switched) Read(p []byte) (int, error) {
	if len(s.early) > 0 {
		n := copy(p, s.early)
		s.early = s.early[n:]
		return n, nil
	}
	return s.conn.Read(p)
}

func (s *Switched) Write(p []byte) (int, error) { return s.conn.Write(p) }

// Close closes the connection.
func (s *Switched) Close() error {
	s.over()
	return s.conn.Close()
}

// responseBody reads an answer's body and gives the connection back at its
// end.
type responseBody struct {
	c    *conn
	src  io.Reader
	keep bool // after a clean end the connection may take another request
	up   *upload
	ctx  context.Context // the request's
	stop func() bool

	mu     sync.Mutex // one reads or closes at a time
	failed error

	state sync.Mutex // guards done, so that Close never disturbs a connection that was given back
	done  bool
}

var errClosed = errors.New("upstream: read from a body that was closed")

func (b *responseBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done {
		if b.failed != nil {
			return 0, b.failed
		}
		return 0, io.EOF
	}
	b.c.readBy(time.Now().Add(b.c.t.cfg.ReadTimeout.D()))
	n, err := b.src.Read(p)
	switch {
	case err == io.EOF:
		b.finish(b.keep)
	case err != nil:
		if cause := b.up.failure(); cause != nil {
			err = cause // what broke the request's own body says more
		}
		b.failed = bodyFault(b.ctx, err)
		b.finish(false)
		err = b.failed
	}
	return n, err
}

// Close ends the body; before its end that closes the connection.
func (b *responseBody) Close() error {
	b.state.Lock()
	if !b.done {
		b.c.interrupt() // a Read that waits
	}
	b.state.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.done {
		b.failed = errClosed
		b.finish(false)
	}
	return nil
}

// finish lets the connection go, once: kept when all of both bodies passed and
// nothing is left over.
func (b *responseBody) finish(keep bool) {
	b.state.Lock()
	b.done = true
	b.state.Unlock()
	running := b.stop()
	// A Close that came while the last Read was under way interrupted it.
	if b.up.settle() && keep && running && !b.c.interrupted() && b.c.r.Buffered() == 0 {
		b.c.release()
		return
	}
	b.c.close()
}

// closeReader reads a body that ends with the connection. Over TLS only a
// closure alert is its end; without, somebody may have cut it (RFC 9112,
// Section 9.8).
type closeReader struct{ c *conn }

func (r closeReader) Read(p []byte) (int, error) {
	n, err := r.c.r.Read(p)
	if err == io.EOF && r.c.cutOff() {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// endSeen is a TCP connection under TLS that remembers whether it was read to
// its end, which TLS itself reports no differently from a closure alert.
type endSeen struct {
	net.Conn
	end atomic.Bool
}

func (e *endSeen) Read(p []byte) (int, error) {
	n, err := e.Conn.Read(p)
	if err == io.EOF {
		e.end.Store(true)
	}
	return n, err
}

// fixedReader reads a body of known length; an early end is an error (RFC
// 9112, Section 8).
type fixedReader struct {
	r    io.Reader
	left int64
}

func (f *fixedReader) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	n, err := f.r.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	switch {
	case f.left == 0:
		return n, io.EOF
	case err == io.EOF:
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}
