package tunnel

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// flow is one direction.
type flow struct {
	from  Side
	to    net.Conn
	idle  time.Duration
	other *flow

	still  atomic.Bool // nothing came in its latest time of waiting
	done   atomic.Bool
	bytes  int64
	failed error
}

// run copies until the end, then passes the half-close on. When it breaks off
// it closes both, so that the other direction ends too.
func (f *flow) run() {
	err := f.copy()
	f.done.Store(true)
	if err == nil {
		err = closeWrite(f.to)
	}
	if err != nil {
		f.failed = err
		f.from.Conn.Close()
		f.to.Close()
	}
}

func (f *flow) copy() error {
	if len(f.from.Early) > 0 {
		_ = f.to.SetWriteDeadline(time.Now().Add(f.idle))
		n, err := f.to.Write(f.from.Early)
		f.bytes += int64(n)
		if err != nil {
			return err
		}
	}
	for {
		// A deadline on a connection that is closed fails; so does the copy then.
		now := time.Now()
		_ = f.from.Conn.SetReadDeadline(now.Add(f.idle))
		_ = f.to.SetWriteDeadline(now.Add(2 * f.idle))
		n, err := io.CopyN(f.to, f.from.Conn, piece)
		f.bytes += n
		f.still.Store(n == 0)
		switch {
		case err == nil:
		case err == io.EOF:
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case n == 0 && (f.other.still.Load() || f.other.done.Load()):
			return ErrIdle
		}
	}
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
