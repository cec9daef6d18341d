package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"fwdproxy/internal/edge"
)

// nextHead waits until a head is whole and right, and makes it what is read
// next. It reads into p while nothing is there, so that a connection at rest
// holds no buffer.
func (c *Conn) nextHead(p []byte) error {
	if c.over {
		return c.refuse(errTooMany, time.Now())
	}
	for {
		l := c.s.Limits()
		n, err := c.readHead(p, l)
		if err != nil {
			return err
		}
		c.requests++
		c.last = l.RequestsPerConnection > 0 && c.requests >= l.RequestsPerConnection
		if c.s.Answer != nil && !c.last {
			done, err := c.answered(n)
			if err != nil {
				return err
			}
			if done {
				c.consume(n)
				continue
			}
		}
		c.phase, c.give = inHead, n
		if c.last {
			c.give -= len("\r\n")
		}
		return nil
	}
}

// answered offers a request without a body to whoever may answer it here. A
// Close meanwhile, as net/http closes what it takes for idle, waits for the end.
func (c *Conn) answered(n int) (done bool, err error) {
	h := &c.head
	if h.coding > 0 || h.length > 0 {
		return false, nil
	}
	b := c.buf[c.r : c.r+n]
	head := Head{Raw: b, Method: h.method.of(b), Target: h.target.of(b), Host: h.host.of(b), Minor: h.minor}
	if string(head.Method) != "GET" && string(head.Method) != "HEAD" {
		return false, nil
	}
	c.mu.Lock()
	closed := c.closed
	c.answering = !closed
	c.mu.Unlock()
	if closed {
		return false, net.ErrClosed
	}
	done, err = c.s.Answer(c.Conn, head)
	c.mu.Lock()
	c.answering, closed = false, c.closed
	c.mu.Unlock()
	if closed {
		c.Conn.Close()
		return done, net.ErrClosed
	}
	return done, err
}

// readHead returns the length of the head that the buffer begins with.
func (c *Conn) readHead(p []byte, l *edge.Limits) (int, error) {
	c.head = parser{}
	begun, skipped := time.Time{}, false
	c.restTime(l)
	for {
		// One empty line may stand before a request (RFC 9112, Section 2.2).
		if b := c.buf[c.r:c.w]; !skipped && len(b) > 1 && b[0] == '\r' && b[1] == '\n' {
			skipped = true
			c.consume(2)
		}
		if b := c.buf[c.r:c.w]; len(b) > 1 || len(b) == 1 && (skipped || b[0] != '\r') {
			n, f := c.head.advance(b, l)
			if f != nil {
				return 0, c.refuse(f, orNow(begun))
			}
			if n > 0 {
				return n, nil
			}
		}
		if c.r == c.w {
			n, err := c.receive(p[:min(len(p), len(buffer{}))])
			if n == 0 && err != nil {
				return 0, err
			}
			c.keep(p[:n])
			continue
		}
		if begun.IsZero() {
			begun = time.Now()
			_ = c.Conn.SetReadDeadline(begun.Add(l.HeaderTimeout.D()))
		}
		if err := c.fill(int(l.HeaderSize) + 1); err != nil {
			return 0, c.cutHead(err, begun)
		}
	}
}

func orNow(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t
}

// restTime gives the client its time to begin a request.
func (c *Conn) restTime(l *edge.Limits) {
	if c.r < c.w {
		return
	}
	d := l.IdleTimeout.D()
	if c.requests == 0 {
		d = l.HeaderTimeout.D()
	}
	_ = c.Conn.SetReadDeadline(time.Now().Add(d))
}

// cutHead ends a connection whose head did not come whole.
func (c *Conn) cutHead(err error, begun time.Time) error {
	switch {
	case err == io.EOF:
		return c.refuse(errHeadCut, begun)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return c.refuse(errHeadTime, begun)
	}
	return err
}
