// Package tunnel relays bytes between a client and a server: what a CONNECT or
// a WebSocket asks for.
//
// Of what it relays it reads a ClientHello at most, and sends it on as it came.
// It dials nothing and decides nothing.
package tunnel

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// ErrIdle means that no byte passed either way for the idle time, or that one
// side took nothing for twice as long.
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

// piece bounds one copy: what a side must take within twice the idle time.
const piece = 256 << 10

// PacedPiece is the largest number of bytes that passes before its pace is
// asked for.
const PacedPiece = 16 << 10

// Relay passes bytes both ways, each half-close too, until both sides are
// done, one breaks off, ctx is done, no byte passes for idle to twice idle, or
// a side takes nothing for twice idle. What a side sent before it broke off is
// delivered (RFC 9110, Section 9.3.6). Both connections are closed when it
// returns. Between plain TCP connections the bytes do not leave the kernel
// (splice(2)).
//
// Where pace is not nil, each direction calls it after each piece of at most
// PacedPiece bytes and waits for it; its error ends the tunnel.
func Relay(ctx context.Context, client, server Side, idle time.Duration, pace func(ctx context.Context, n int) error) Result {
	defer client.Conn.Close()
	defer server.Conn.Close()
	if ctx.Err() != nil {
		return Result{Err: context.Cause(ctx)}
	}
	stop := context.AfterFunc(ctx, func() { client.Conn.Close(); server.Conn.Close() })

	begun, failed := time.Now(), make(chan error, 2)
	up := &flow{from: client, to: server.Conn, idle: idle, begun: begun, failed: failed, piece: piece}
	down := &flow{from: server, to: client.Conn, idle: idle, begun: begun, failed: failed, piece: piece}
	if pace != nil {
		for _, f := range []*flow{up, down} {
			f.piece, f.pace = PacedPiece, func(n int64) error { return pace(ctx, int(n)) }
		}
	}
	up.other, down.other = down, up
	var wg sync.WaitGroup
	wg.Go(up.run)
	down.run()
	wg.Wait()

	res := Result{Up: up.bytes, Down: down.bytes}
	if !stop() { // ctx closed them
		res.Err = context.Cause(ctx)
		return res
	}
	select {
	case res.Err = <-failed: // the first, which the second may follow from
	default:
	}
	return res
}
