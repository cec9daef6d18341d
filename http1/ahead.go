package http1

import (
	"io"
	"net"
	"os"
	"time"
)

// aheadMost bounds what a client may send before its request is answered; what
// is beyond waits in its kernel and ours.
const aheadMost = len(buffer{})

// readAhead is what net/http does while a handler runs, to notice a client that
// is gone. What comes is kept for later, and it returns only with an error: the
// deadline, a broken connection, or io.EOF when the client ended its sending
// and half_close_timeout passed. TCP tells no difference between a client that
// left and one that only has no more to say, and net/http takes the end for the
// first; so that the second gets its answer, the end is told late.
func (c *Conn) readAhead(p []byte) error {
	for !c.ended && c.w-c.r < aheadMost {
		if c.buf == nil {
			n, err := c.Conn.Read(p[:1])
			if n > 0 {
				c.keep(p[:n])
				continue
			}
			if err == io.EOF {
				c.ended = true
				break
			}
			return err
		}
		c.room(aheadMost)
		n, err := c.Conn.Read(c.buf[c.w:])
		c.w += n
		if err == io.EOF {
			c.ended = true
		} else if err != nil {
			return err
		}
	}
	if !c.ended || c.r < c.w {
		// With requests waiting the client is no less there than without.
		return c.waitForDeadline(time.Time{})
	}
	return c.waitForDeadline(time.Now().Add(c.s.Limits().HalfCloseTimeout.D()))
}

// waitForDeadline returns os.ErrDeadlineExceeded when the read deadline has
// passed, io.EOF at until, unless that is zero, and net.ErrClosed.
func (c *Conn) waitForDeadline(until time.Time) error {
	for {
		c.mu.Lock()
		deadline, closed := c.deadline, c.closed
		moved := make(chan struct{})
		c.moved = moved
		c.mu.Unlock()
		now := time.Now()
		switch {
		case closed:
			return net.ErrClosed
		case !deadline.IsZero() && !now.Before(deadline):
			return os.ErrDeadlineExceeded
		case !until.IsZero() && !now.Before(until):
			return io.EOF
		}
		first := until
		if first.IsZero() || !deadline.IsZero() && deadline.Before(first) {
			first = deadline
		}
		if first.IsZero() {
			<-moved
			continue
		}
		timer := time.NewTimer(first.Sub(now))
		select {
		case <-moved:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// SetReadDeadline also wakes a Read that waits for nothing else.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.move(t)
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	c.move(t)
	return c.Conn.SetDeadline(t)
}

func (c *Conn) move(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	c.wake()
}

func (c *Conn) wake() {
	if c.moved != nil {
		close(c.moved)
		c.moved = nil
	}
}

// Close closes the connection. Where a request broke off, its client may still
// be sending and not have read the answer: then the end is drawn out, in the
// background.
func (c *Conn) Close() error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	answering := c.answering
	c.wake()
	c.mu.Unlock()
	if answering {
		return nil
	}
	if first && c.broken.Load() {
		go func() {
			c.linger()
			c.Conn.Close()
		}()
		return nil
	}
	return c.Conn.Close()
}
