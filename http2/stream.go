package http2

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// stream is a CONNECT's stream as a connection. What it cannot do is be closed
// by half towards the client: net/http ends a stream with its handler. So where
// the server ends its sending first, what the client sent up to then is still
// delivered, and the tunnel ends.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	body    io.ReadCloser
	conn    net.Conn

	pieces chan []byte // what came, one at a time; closed behind the last
	taken  chan struct{}
	closed chan struct{}
	pumped sync.WaitGroup
	rest   []byte
	failed error // why pieces is closed

	reading time.Time   // deadline; the reader's own
	ended   atomic.Bool // CloseWrite was called

	mu   sync.Mutex
	done bool // closed
	over bool // the handler has ended
}

// streamBuffer is what one read of a stream brings at most.
const streamBuffer = 32 << 10

func newStream(w http.ResponseWriter, body io.ReadCloser, conn net.Conn) *stream {
	s := &stream{w: w, control: http.NewResponseController(w), body: body, conn: conn,
		pieces: make(chan []byte), taken: make(chan struct{}, 1), closed: make(chan struct{})}
	s.pumped.Go(s.pump)
	return s
}

// pump reads ahead by one piece, since a stream's own deadline, once passed,
// ends its reading for good.
func (s *stream) pump() {
	defer close(s.pieces)
	buf := make([]byte, streamBuffer)
	for {
		n, err := s.body.Read(buf)
		if n > 0 {
			select {
			case s.pieces <- buf[:n]:
			case <-s.closed:
				return
			}
			select {
			case <-s.taken:
			case <-s.closed:
				return
			}
		}
		if err != nil {
			s.failed = err
			return
		}
	}
}

func (s *stream) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.rest)
	if s.rest = s.rest[n:]; len(s.rest) == 0 {
		s.taken <- struct{}{}
	}
	return n, nil
}

// next waits for a piece.
func (s *stream) next() error {
	var late <-chan time.Time
	if !s.reading.IsZero() {
		timer := time.NewTimer(time.Until(s.reading))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case piece, ok := <-s.pieces:
		if ok {
			s.rest = piece
			return nil
		}
		if s.ended.Load() && errors.Is(s.failed, os.ErrDeadlineExceeded) {
			return io.EOF
		}
		if s.failed == nil {
			return net.ErrClosed
		}
		return s.failed
	case <-late:
		return os.ErrDeadlineExceeded
	case <-s.closed:
		return net.ErrClosed
	}
}

func (s *stream) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err == nil {
		err = s.control.Flush()
	}
	return n, err
}

// CloseWrite ends the tunnel behind what both sides have sent.
func (s *stream) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.ended.Store(true)
		_ = s.control.SetReadDeadline(longAgo) // what came already can still be read
	}
	return nil
}

// Close ends the stream: in order, if CloseWrite came before, and else by
// RST_STREAM, so that it never looks complete.
func (s *stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return nil
	}
	s.done = true
	close(s.closed)
	if !s.over && !s.ended.Load() {
		_ = s.control.SetWriteDeadline(longAgo) // net/http resets the stream at once
	}
	return nil
}

var longAgo = time.Unix(1, 0)

// finish is called when the handler ends.
func (s *stream) finish() {
	s.Close()
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.body.Close()
	s.pumped.Wait()
}

func (s *stream) SetReadDeadline(t time.Time) error {
	s.reading = t
	return nil
}

func (s *stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.done {
		return net.ErrClosed
	}
	return s.control.SetWriteDeadline(t)
}

func (s *stream) SetDeadline(t time.Time) error {
	s.reading = t
	return s.SetWriteDeadline(t)
}

func (s *stream) LocalAddr() net.Addr  { return s.conn.LocalAddr() }
func (s *stream) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }
