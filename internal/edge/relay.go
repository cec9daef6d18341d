package edge

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"fwdproxy/accesslog"
	"fwdproxy/acl"
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
// done. What the server sent already is early. Where the policy says so, the
// client's ClientHello is looked at first.
func (x *Exchange) Tunnel(server net.Conn, early []byte) {
	var check func(net.Conn, []byte) ([]byte, error)
	if x.door.Tunnel.Peeks(x.target.Port) {
		check = x.checkHello
	}
	x.relay(tunnel.Side{Conn: server, Early: early}, http.StatusOK, []byte(established), check)
}

// relay takes the client's connection over, writes head, which has the status,
// to it and relays, if check, which may be nil, has nothing against it. What
// either side sent early goes first.
func (x *Exchange) relay(server tunnel.Side, status int, head []byte, check func(client net.Conn, early []byte) ([]byte, error)) {
	conn, early, err := x.w.takeOver()
	if err != nil {
		server.Conn.Close()
		x.Fail(fault.New(fault.InternalError, "the connection cannot carry a tunnel", err))
		return
	}
	x.rec.Tag, x.rec.Status = accesslog.TagTunnel, status
	client := tunnel.Side{Conn: conn, Early: early}
	_ = conn.SetWriteDeadline(time.Now().Add(x.door.Limits.WriteTimeout.D()))
	_, err = conn.Write(head)
	_ = conn.SetWriteDeadline(time.Time{})
	if err != nil {
		err = fault.New(clientGone, "", err)
	} else if check != nil {
		client.Early, err = check(conn, client.Early)
	}
	if err != nil {
		conn.Close()
		server.Conn.Close()
		x.noteBroken(err)
		return
	}
	ctx, cancel := context.WithTimeoutCause(x.door.Tunnels.Context(), x.door.Tunnel.Lifetime.D(), errLifetime)
	defer cancel()
	res := tunnel.Relay(ctx, client, server, x.door.Tunnel.IdleTimeout.D(), x.tunnelPace())
	x.rec.BytesIn, x.rec.BytesOut = res.Up, res.Down
	if res.Err != nil {
		x.noteSpent(res.Err)
		x.noteBroken(fault.New(fault.ConnectionTerminated, "", res.Err))
	}
}

// noteBroken logs why a tunnel ended before its time; nobody can be told.
func (x *Exchange) noteBroken(err error) {
	f := fault.From(err)
	x.rec.Error = string(f.Kind)
	if f.Err != nil {
		x.rec.ErrorCause = f.Err.Error()
	}
	if f.Kind == fault.RequestDenied || f.Kind == fault.DestinationIPProhibited {
		x.rec.Tag, x.rec.Verdict, x.rec.Rule, x.rec.ErrorCause = accesslog.TagDenied, acl.Deny.String(), f.Rule, f.Details
	}
}

var errLifetime = errors.New("the tunnel was open for as long as forward.tunnel.lifetime allows")
