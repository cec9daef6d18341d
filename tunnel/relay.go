// Package tunnel relays bytes between a client and a server: what a CONNECT or
// a WebSocket asks for.
//
// It reads none of them, dials nothing and decides nothing.
package tunnel

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// ErrIdle means that no byte passed either way for the idle time.
var ErrIdle = errors.New("no byte passed for the idle time")

// Side is one end of a tunnel.
type Side struct {
	Conn  net.Conn
	Early []byte // what was read from it already, which goes first
}

// Result is what passed through a tunnel.
type Result struct {
	Up, Down int64 // bytes from the client, and to it
	Err      error // why it ended; nil when both sides had sent all
}

// piece bounds one copy, so that a busy tunnel is seen to be alive.
const piece = 1 << 20

// Relay passes bytes both ways, each half-close too, until both sides are
// done, one breaks off, ctx is done, or no byte passes for idle to twice idle.
// Both connections are closed when it returns. Between plain TCP connections
// the bytes do not leave the kernel (splice(2)).
func Relay(ctx context.Context, client, server Side, idle time.Duration) Result {
	stop := context.AfterFunc(ctx, func() { client.Conn.Close(); server.Conn.Close() })
	defer stop()
	defer client.Conn.Close()
	defer server.Conn.Close()

	up := &flow{from: client, to: server.Conn, idle: idle}
	down := &flow{from: server, to: client.Conn, idle: idle}
	up.other, down.other = down, up
	var wg sync.WaitGroup
	wg.Go(up.run)
	down.run()
	wg.Wait()

	res := Result{Up: up.bytes, Down: down.bytes}
	switch {
	case ctx.Err() != nil:
		res.Err = context.Cause(ctx)
	case up.failed != nil && (down.failed == nil || errors.Is(down.failed, net.ErrClosed)):
		res.Err = up.failed
	default:
		res.Err = down.failed
	}
	return res
}
