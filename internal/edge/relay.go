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
	x.relay(tunnel.Side{Conn: server, Early: early}, opening{http.StatusOK, []byte(established), nil}, check)
}

// TunnelOpener is the ResponseWriter of a stream, which has no connection to
// take over. OpenTunnel sends the head of a 200, for a WebSocket with the fields
// of the server's answer, and returns the stream as a connection; on an error
// nothing was sent.
type TunnelOpener interface {
	OpenTunnel(h http.Header) (net.Conn, error)
}

// opening is the answer with which a tunnel begins: the head as HTTP/1.1 has
// it, with the status, and the fields of a WebSocket's.
type opening struct {
	status int
	head   []byte
	fields http.Header
}

// open takes the client's side over. The head is not written yet where it is
// returned.
func (x *Exchange) open(o opening) (client tunnel.Side, head []byte, err error) {
	if stream, ok := x.w.ResponseWriter.(TunnelOpener); ok {
		client.Conn, err = stream.OpenTunnel(o.fields)
		x.rec.Status = http.StatusOK
	} else {
		client.Conn, client.Early, err = x.w.takeOver()
		x.rec.Status, head = o.status, o.head
	}
	if err != nil {
		x.rec.Status = 0
	}
	return client, head, err
}

// relay takes the client's side over, sends the answer and relays, if check,
// which may be nil, has nothing against it. What either side sent early goes
// first.
func (x *Exchange) relay(server tunnel.Side, o opening, check func(client net.Conn, early []byte) ([]byte, error)) {
	client, ok := x.openTunnel(o)
	if !ok {
		server.Conn.Close()
		return
	}
	if check != nil {
		read, err := check(client.Conn, client.Early)
		if err != nil {
			client.Conn.Close()
			server.Conn.Close()
			x.noteBroken(err)
			return
		}
		client.Early = read
	}
	x.pump(client, server)
}

// openTunnel takes the client's side over and sends the answer. Where that
// fails it has done all that is left to do.
func (x *Exchange) openTunnel(o opening) (client tunnel.Side, ok bool) {
	client, head, err := x.open(o)
	if err != nil {
		if !errors.As(err, new(*fault.Error)) {
			err = fault.New(fault.InternalError, "the connection cannot carry a tunnel", err)
		}
		x.Fail(err)
		return client, false
	}
	x.rec.Tag = accesslog.TagTunnel
	conn := client.Conn
	if len(head) > 0 {
		_ = conn.SetWriteDeadline(time.Now().Add(x.door.Limits.WriteTimeout.D()))
		_, err = conn.Write(head)
		_ = conn.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		conn.Close()
		x.noteBroken(fault.New(clientGone, "", err))
		return client, false
	}
	return client, true
}

// pump relays until both sides are done.
func (x *Exchange) pump(client, server tunnel.Side) {
	open, cut := context.WithCancelCause(x.door.Tunnels.Context())
	defer cut(nil)
	defer x.door.Tunnels.enter(x, cut)()
	ctx, cancel := context.WithTimeoutCause(open, x.door.Tunnel.Lifetime.D(), errLifetime)
	defer cancel()
	res := tunnel.Relay(ctx, client, server, x.door.Tunnel.IdleTimeout.D(), x.tunnelPace())
	x.rec.BytesIn, x.rec.BytesOut = res.Up, res.Down
	if res.Err != nil {
		x.noteSpent(res.Err)
		x.noteCut(res.Err)
	}
}

// noteCut logs why an open tunnel was cut.
func (x *Exchange) noteCut(err error) {
	if reload, ok := errors.AsType[cutByReload](err); ok {
		x.rec.Error, x.rec.ErrorCause = string(reload.why.Kind), reload.Error()
		x.rec.Verdict, x.rec.Rule = acl.Deny.String(), reload.why.Rule
		return
	}
	x.noteBroken(fault.New(fault.ConnectionTerminated, "", err))
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
