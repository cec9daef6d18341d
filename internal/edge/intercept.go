package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"fwdproxy/acl"
	"fwdproxy/intercept"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/target"
	"fwdproxy/tunnel"
)

// Interception is what a door intercepts TLS with.
type Interception struct {
	Authority *intercept.Authority
	Rejected  *intercept.Rejected // shared by all doors
	// PassRejected is for how long a client's tunnels to a host stay closed to the
	// proxy after that client rejected the certificate; 0 never.
	PassRejected time.Duration
	// Verify connects to the target, at an address that the context's Hop permits,
	// and verifies its certificate.
	Verify func(context.Context, target.Target) error
	// Serve serves the requests that come out of the tunnel, until the connection
	// is closed or soon after it was given up.
	Serve func(*tls.Conn, *Inside)
	// Tell is called when a host's certificate was rejected for the first time.
	Tell func(host, client, reason string)
}

// Dial opens a connection for a tunnel.
type Dial func(context.Context, target.Target) (conn net.Conn, early []byte, err error)

// Connect opens the tunnel that Decide permitted: to the target as it is, or
// to be intercepted. It returns what the client can still be told.
func (x *Exchange) Connect(ctx context.Context, dial Dial) error {
	v := x.verdict.Load()
	passes := x.passes(x.door)
	if v.Action == acl.Intercept && !v.ActionPending && !v.Pending && !passes {
		return x.intercept(ctx, dial)
	}
	server, early, err := dial(ctx, x.target)
	if err != nil {
		return err
	}
	if v.ActionPending || v.Pending {
		// Of all the addresses that were asked about, this is the one.
		if addr, _ := x.hop.Answered(); addr.IsValid() {
			err = x.hop.Permit(addr)
		}
		v = x.verdict.Load()
		if err != nil || v.Action == acl.Intercept && !passes {
			server.Close()
			if err == nil {
				err = x.intercept(ctx, dial)
			}
			return err
		}
	}
	if passes {
		x.rec.Rule, x.rec.Verdict = "forward.intercept.pass_rejected", acl.Allow.String()
	}
	x.Tunnel(server, early)
	return nil
}

// passes reports whether the tunnel stays closed because its client did not
// take the certificate lately.
func (x *Exchange) passes(d *Door) bool {
	i := d.Intercept
	return i != nil && i.Rejected.Passes(x.rec.Client.Addr(), x.target.Host, i.PassRejected, x.start)
}

// intercept answers the CONNECT and then the client's TLS in the place of the
// target, whose certificate it verifies before.
func (x *Exchange) intercept(ctx context.Context, dial Dial) error {
	i := x.door.Intercept
	if i == nil {
		return fault.New(fault.ConfigurationError, "the tunnel is to be intercepted, and there is no authority for it", nil)
	}
	client, ok := x.openTunnel(opening{http.StatusOK, []byte(established), nil})
	if !ok {
		return nil
	}
	h, read, err := tunnel.ReadHello(client.Conn, client.Early, time.Now().Add(helloTimeout))
	if err != nil {
		client.Conn.Close()
		x.noteBroken(fault.New(clientGone, "", err))
		return nil
	}
	x.rec.SNI, x.hello = h.ServerName, &h
	in := &Inside{Target: x.target, Who: x.who, shown: x.shown}
	in.Target.Scheme = "https"
	name, err := x.judgeHello(x.door, h, x.start, x.who, *x.verdict.Load())
	if err != nil {
		tunnel.Refuse(client.Conn, h)
		x.noteBroken(err)
		return nil
	}
	if !h.TLS {
		x.passOn(ctx, tunnel.Side{Conn: client.Conn, Early: read}, dial)
		return nil
	}
	if name != "" {
		in.Target = target.Target{Scheme: "https", Host: name, Port: x.target.Port}
	}
	in.Failure = x.verifyFirst(ctx, i, in.Target)
	x.serveInside(i, &tlsWire{Conn: client.Conn, early: read, done: make(chan struct{})}, in)
	return nil
}

// passOn relays what is not TLS, where forward.tunnel.not_tls allows it.
func (x *Exchange) passOn(ctx context.Context, client tunnel.Side, dial Dial) {
	server, early, err := dial(ctx, x.target)
	if err != nil {
		client.Conn.Close()
		x.noteBroken(err)
		return
	}
	x.pump(client, tunnel.Side{Conn: server, Early: early})
}

// verifyFirst returns why nothing in the tunnel can be served: the target's
// certificate is bad, or the rules refuse its address. Where it cannot be
// reached, what is stored may still be served, and each request finds out for
// itself.
func (x *Exchange) verifyFirst(ctx context.Context, i *Interception, t target.Target) error {
	err := i.Verify(ctx, t)
	if err == nil {
		return nil
	}
	switch f := fault.From(err); f.Kind {
	case fault.TLSCertificateError, fault.RequestDenied, fault.DestinationIPProhibited:
		x.rec.Error = string(f.Kind)
		if f.Err != nil {
			x.rec.ErrorCause = f.Err.Error()
		}
		return f
	}
	return nil
}

// serveInside shakes hands with the client and serves what comes out of the
// tunnel until it is closed.
func (x *Exchange) serveInside(i *Interception, w *tlsWire, in *Inside) {
	defer func() {
		w.Close()
		x.rec.BytesIn, x.rec.BytesOut = w.in.Load(), w.out.Load()
	}()
	x.looks = true
	// Each request inside takes what it takes.
	x.quota.Release()
	x.quota = nil
	open, cut := context.WithCancelCause(x.door.Tunnels.Context())
	defer cut(nil)
	defer x.door.Tunnels.enter(x, cut)()
	ctx, cancel := context.WithTimeoutCause(open, x.door.Tunnel.Lifetime.D(), errLifetime)
	defer cancel()
	shake, done := context.WithTimeout(ctx, helloTimeout)
	defer done()
	secure, err := i.Authority.Handshake(shake, w, in.Target.Host, time.Now())
	if err != nil {
		x.noteHandshake(i, in.Target.Host, err)
		return
	}
	stop := context.AfterFunc(ctx, func() { w.Close() })
	defer stop()
	i.Serve(secure, in)
	<-w.done
	if cause := context.Cause(ctx); cause != nil {
		x.noteCut(cause)
	}
}

// noteHandshake logs why the client could not be answered.
func (x *Exchange) noteHandshake(i *Interception, host string, err error) {
	var no *intercept.Rejection
	switch {
	case errors.As(err, &no):
		if i.Rejected.Note(x.rec.Client.Addr(), host, no.Reason, x.start) {
			i.Tell(host, x.rec.Client.Addr().String(), no.Reason)
		}
		x.noteBroken(fault.New(fault.TLSAlertReceived, "", err))
	case errors.Is(err, intercept.ErrAuthority):
		x.noteBroken(fault.New(fault.ConfigurationError, "", err))
	default:
		x.noteBroken(fault.New(fault.TLSProtocolError, "", err))
	}
}

// tlsWire is the client's connection under its TLS: what was read of it goes
// first, bytes are counted, and done is closed when it is.
type tlsWire struct {
	net.Conn
	early   []byte
	in, out atomic.Int64
	once    sync.Once
	done    chan struct{}
}

func (w *tlsWire) Read(p []byte) (n int, err error) {
	if len(w.early) > 0 {
		n = copy(p, w.early)
		w.early = w.early[n:]
	} else {
		n, err = w.Conn.Read(p)
	}
	w.in.Add(int64(n))
	return n, err
}

func (w *tlsWire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.out.Add(int64(n))
	return n, err
}

func (w *tlsWire) Close() error {
	err := w.Conn.Close()
	w.once.Do(func() { close(w.done) })
	return err
}
