package tunnel

import (
	"cmp"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// flow is one direction. What it knows of its own silence it shares with the
// other, in time since the tunnel began.
type flow struct {
	from  Side
	to    net.Conn
	idle  time.Duration
	begun time.Time
	other *flow
	piece int64
	pace  func(n int64) error // nil: as fast as it goes

	moved  atomic.Int64 // when bytes passed last, or later
	seen   atomic.Int64 // up to when moved is known
	bytes  int64
	failed chan<- error // gets why it broke off, if it does
}

// run copies until the end, then passes the half-close on.
func (f *flow) run() {
	err := f.copy()
	f.seen.Store(math.MaxInt64)
	if err == nil {
		err = closeWrite(f.to)
	}
	if err == nil {
		return
	}
	f.failed <- err
	if errors.Is(err, ErrIdle) || errors.As(err, new(paceError)) {
		f.from.Conn.Close()
		f.to.Close()
		return
	}
	// The other direction delivers what came already, and then sees the end (RFC
	// 9110, Section 9.3.6).
	closeRead(f.to)
}

func (f *flow) copy() error {
	if err := f.copyEarly(); err != nil {
		return err
	}
	for {
		now := time.Now()
		stuck := now.Add(2 * f.idle)
		// A deadline on a connection that is closed fails; so does the copy then.
		_ = f.from.Conn.SetReadDeadline(now.Add(f.idle / 4))
		_ = f.to.SetWriteDeadline(stuck)
		n, err := io.CopyN(f.to, f.from.Conn, f.piece)
		f.note(n)
		if err := f.wait(n); err != nil {
			return err
		}
		switch {
		case err == nil:
		case err == io.EOF:
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		// A write that ran out of time has lost bytes: nothing may follow them.
		case !time.Now().Before(stuck), f.silence() >= f.idle:
			return ErrIdle
		}
	}
}

func (f *flow) copyEarly() error {
	if len(f.from.Early) == 0 {
		return nil
	}
	_ = f.to.SetWriteDeadline(time.Now().Add(2 * f.idle))
	n, err := f.to.Write(f.from.Early)
	f.note(int64(n))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ErrIdle
	}
	return cmp.Or(err, f.wait(int64(n)))
}

// paceError is what a pace ended the tunnel with.
type paceError struct{ error }

func (e paceError) Unwrap() error { return e.error }

// wait keeps the pace after n bytes. The wait is not silence.
func (f *flow) wait(n int64) error {
	if f.pace == nil || n == 0 {
		return nil
	}
	if err := f.pace(n); err != nil {
		return paceError{err}
	}
	f.note(0)
	f.moved.Store(f.seen.Load())
	return nil
}

// note counts bytes that passed up to now.
func (f *flow) note(n int64) {
	now := int64(time.Since(f.begun))
	f.bytes += n
	if n > 0 {
		f.moved.Store(now)
	}
	f.seen.Store(now)
}

// silence returns for how long no byte passed either way, as far as both
// directions know. seen is read first: moved is at least as new.
func (f *flow) silence() time.Duration {
	until := min(f.seen.Load(), f.other.seen.Load())
	return time.Duration(until - max(f.moved.Load(), f.other.moved.Load()))
}

// closeWrite passes a half-close on; what cannot be closed by half is closed.
func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		err := half.CloseWrite()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		return err
	}
	return c.Close()
}

// closeRead ends reading behind what came already; what cannot be closed by
// half is closed.
func closeRead(c net.Conn) {
	if half, ok := c.(interface{ CloseRead() error }); ok {
		_ = half.CloseRead() // fails where the other side is gone, and so is the reading
		return
	}
	c.Close()
}
