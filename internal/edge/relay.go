package edge

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"fwdproxy/accesslog"
	"fwdproxy/internal/fault"
	"fwdproxy/tunnel"
)

// established is the whole answer to a CONNECT that succeeds: neither
// Content-Length nor Transfer-Encoding (RFC 9110, Section 9.3.6).
const established = "HTTP/1.1 200 Connection established\r\n\r\n"

// BeginTunnel takes a place for a tunnel, which end gives back, or returns the
// refusal where the limits leave none.
func (x *Exchange) BeginTunnel() (end func(), err error) {
	client := x.rec.Client.Addr()
	if err := x.door.Tunnels.Begin(client, x.door.Limits); err != nil {
		return nil, err
	}
	return func() { x.door.Tunnels.End(client) }, nil
}

// Tunnel answers a CONNECT with success and relays bytes until both sides are
// done. What the server sent already is early.
func (x *Exchange) Tunnel(server net.Conn, early []byte) {
	x.relay(server, early, http.StatusOK, []byte(established))
}

// relay takes the client's connection over, writes head, which has the status,
// to it and relays. What either side sent early goes first.
func (x *Exchange) relay(server net.Conn, early []byte, status int, head []byte) {
	client, buffered, err := x.w.Hijack()
	if err != nil {
		server.Close()
		x.Fail(fault.New(fault.InternalError, "the connection cannot carry a tunnel", err))
		return
	}
	x.rec.Tag, x.rec.Status = accesslog.TagTunnel, status
	sent, err := peekAll(buffered.Reader)
	if err == nil {
		_ = client.SetWriteDeadline(time.Now().Add(x.door.Limits.WriteTimeout.D()))
		_, err = client.Write(head)
		_ = client.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		client.Close()
		server.Close()
		x.rec.Error, x.rec.ErrorCause = clientGone, err.Error()
		return
	}
	ctx, cancel := context.WithTimeoutCause(x.door.Tunnels.Context(), x.door.Lifetime, errLifetime)
	defer cancel()
	res := tunnel.Relay(ctx,
		tunnel.Side{Conn: client, Early: sent}, tunnel.Side{Conn: server, Early: early}, x.door.Idle)
	x.rec.BytesIn, x.rec.BytesOut = res.Up, res.Down
	if res.Err != nil {
		x.rec.Error, x.rec.ErrorCause = string(fault.ConnectionTerminated), res.Err.Error()
	}
}

var errLifetime = errors.New("the tunnel was open for as long as forward.tunnel.lifetime allows")

// peekAll returns what the reader holds already, reading nothing further.
func peekAll(r interface {
	Buffered() int
	Peek(int) ([]byte, error)
}) ([]byte, error) {
	b, err := r.Peek(r.Buffered())
	return append([]byte(nil), b...), err
}
