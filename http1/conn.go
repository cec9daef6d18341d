package http1

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"fwdproxy/internal/edge"
)

// What a connection is at.
const (
	between = iota // requests: the next head is not complete
	inHead         // of a request, as far as net/http has read
	inBody         // whose length is known
	inChunks
	handled // net/http has all of the request, and has not ended it
)

// Conn is a connection as net/http gets it. One goroutine reads at a time;
// deadlines and Close may come from any.
type Conn struct {
	net.Conn
	s    *Server
	over bool // the client has one connection too many

	buf    []byte // nil while nothing is buffered; buf[r:w] is unread
	r, w   int
	pooled *buffer // what buf is made of, if that

	phase    int
	requests int    // that came
	last     bool   // no other may follow the request that is read
	head     parser // of the request that is read, or was last
	give     int    // bytes of the head, or of a chunk's line and end, that come next
	own      []byte // bytes of ours that come next
	ownRoom  [32]byte
	left     int64 // of the body, or of the chunk
	chunk    chunkState
	rate     edge.Rate
	ended    bool  // the client sends no more
	failed   error // sticky

	mu       sync.Mutex
	deadline time.Time     // for reading, as net/http set it
	moved    chan struct{} // closed when deadline moves; nil while nobody waits
	closed   bool
	// A request is being answered before net/http: who closes leaves it to whoever
	// answers.
	answering bool
	broken    atomic.Bool // a request broke off in its body
}

// buffer holds a whole ordinary head.
type buffer [8 << 10]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

func (c *Conn) base() *Conn { return c }

// idle is called when net/http has ended a request and is ready for another.
func (c *Conn) idle() {
	if c.phase != handled && c.failed == nil {
		c.failed = errDisagreement // the next byte would be read as what it is not
	}
	c.phase = between
}

// Read gives net/http the bytes of one request. Behind its end it gives
// nothing until the request is over, but tells when the client is gone.
func (c *Conn) Read(p []byte) (int, error) {
	if c.phase == handled {
		return 0, c.readAhead(p)
	}
	if c.phase == between && c.failed == nil && len(p) > 0 {
		c.failed = c.nextHead(p)
	}
	n := 0
	for n < len(p) && c.failed == nil && c.phase != handled {
		m, err := c.piece(p[n:], n == 0)
		n += m
		if err == errWouldWait {
			break
		}
		c.failed = err
	}
	if n > 0 {
		return n, nil
	}
	if c.phase == inBody || c.phase == inChunks {
		c.broken.Store(true)
	}
	return 0, c.failed
}

// errWouldWait means that no more is there without waiting for the client.
var errWouldWait = errors.New("http1: nothing to read without waiting")

// piece gives the next bytes of the request. It waits for the client only when
// it may.
func (c *Conn) piece(p []byte, wait bool) (int, error) {
	switch {
	case len(c.own) > 0:
		n := copy(p, c.own)
		c.own = c.own[n:]
		c.settle()
		return n, nil
	case c.phase == inHead:
		n := copy(p, c.buf[c.r:c.r+c.give])
		c.consume(n)
		c.give -= n
		if c.give == 0 {
			c.headRead()
		}
		return n, nil
	case c.phase == inChunks && c.left == 0:
		return 0, c.chunkLine(wait)
	}
	return c.content(p, wait)
}

// headRead goes on to what follows the head (RFC 9112, Section 6.3).
func (c *Conn) headRead() {
	switch {
	case c.head.coding > 0:
		c.phase, c.left, c.chunk = inChunks, 0, chunkState{}
	case c.head.length > 0:
		c.phase, c.left = inBody, c.head.length
	default:
		c.phase = handled
	}
	c.rate = edge.Rate{}
	if c.last {
		// net/http tells the client and closes, as if that had asked for it.
		c.consume(len("\r\n"))
		c.own = append(c.ownRoom[:0], "Connection: close\r\n\r\n"...)
		if c.phase == handled {
			c.phase, c.left = inBody, 0
		}
	}
}

// settle ends a body of which nothing is left.
func (c *Conn) settle() {
	if len(c.own) == 0 && c.left == 0 && (c.phase == inBody || c.chunk.last) {
		c.phase = handled
	}
}

// content gives bytes of the body.
func (c *Conn) content(p []byte, wait bool) (n int, err error) {
	p = p[:min(int64(len(p)), c.left)]
	switch {
	case c.r < c.w:
		n = copy(p, c.buf[c.r:c.w])
		c.consume(n)
	case !wait:
		return 0, errWouldWait
	default:
		if n, err = c.receive(p); n > 0 {
			err = nil
		}
	}
	c.left -= int64(n)
	if c.left == 0 && c.phase == inChunks {
		c.chunk.closing = true
	}
	c.settle()
	return n, err
}

// receive reads from the client, of a body in the time that the rate allows.
func (c *Conn) receive(p []byte) (int, error) {
	if c.ended {
		return 0, io.EOF
	}
	if c.phase == between {
		n, err := c.Conn.Read(p)
		c.ended = err == io.EOF
		return n, err
	}
	begun := time.Now()
	n, err := c.Conn.Read(p)
	c.ended = err == io.EOF
	if l := c.s.Limits(); c.rate.Slow(n, time.Since(begun), int64(l.BodyRate), l.BodyRateWindow.D()) {
		return 0, errBodyRate
	}
	return n, err
}

// fill reads more into the buffer, which keeps at most most bytes.
func (c *Conn) fill(most int) error {
	c.room(most)
	n, err := c.receive(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	c.consume(0)
	return err
}

// room makes the buffer take at least one more byte, unless it holds most.
func (c *Conn) room(most int) {
	switch {
	case c.buf == nil:
		c.pooled = buffers.Get().(*buffer)
		c.buf = c.pooled[:]
	case c.w < len(c.buf):
	case c.r > 0:
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	default:
		larger := make([]byte, min(2*len(c.buf), max(most, len(c.buf)+1)))
		copy(larger, c.buf)
		c.giveBack()
		c.buf = larger
	}
}

// keep takes bytes over that were read elsewhere, into an empty buffer.
func (c *Conn) keep(p []byte) {
	c.room(0)
	c.w += copy(c.buf[c.w:], p)
}

// consume drops n bytes from the front; an empty buffer goes back.
func (c *Conn) consume(n int) {
	if c.r += n; c.r == c.w {
		c.drop()
	}
}

func (c *Conn) drop() {
	c.giveBack()
	c.buf, c.r, c.w = nil, 0, 0
}

func (c *Conn) giveBack() {
	if c.pooled != nil {
		buffers.Put(c.pooled)
		c.pooled = nil
	}
}

// Unwrap ends the framing, for a connection that net/http has handed over: it
// returns the plain connection and what was read from it beyond the request.
func (c *Conn) Unwrap() (net.Conn, []byte) {
	early := append([]byte(nil), c.buf[c.r:c.w]...)
	c.drop()
	c.failed = net.ErrClosed
	if announced, ok := c.Conn.(interface{ Plain() net.Conn }); ok {
		return announced.Plain(), early // which splice(2) takes
	}
	return c.Conn, early
}

// ReadFrom lets the plain connection copy by itself, with sendfile(2) or
// splice(2) where it can.
func (c *Conn) ReadFrom(src io.Reader) (int64, error) {
	if to, ok := c.Conn.(io.ReaderFrom); ok {
		return to.ReadFrom(src)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, src)
}

// CloseWrite ends the sending, where the plain connection can.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
