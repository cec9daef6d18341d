package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
	"fwdproxy/internal/target"
)

const (
	// attemptDelay is how long one address has before the next is tried beside
	// it (RFC 8305, Section 5).
	attemptDelay = 250 * time.Millisecond
	// maxAttempts bounds the addresses that one request makes us knock at:
	// whoever owns a name can give it thousands.
	maxAttempts = 8
)

// Dial opens a connection to the target for a tunnel, to an address that the
// context's Hop permits, directly or through a parent proxy. It is a plain
// *net.TCPConn, save for a parent that speaks TLS. What the other end sent
// while the tunnel was opened is early.
func (t *Transport) Dial(ctx context.Context, to target.Target) (conn net.Conn, early []byte, err error) {
	h := hop.From(ctx)
	parents, direct := t.route(to.Host, time.Now())
	if len(parents) > 0 {
		reached, err := t.through(ctx, parents, func(p *parent) error {
			dest, err := t.destination(ctx, p, to, permitOf(h))
			if err != nil {
				return err
			}
			if _, conn, early, err = t.tunnel(ctx, p, to, h); err != nil {
				return err
			}
			h.Used(dest, "FIRSTUP_PARENT/"+p.name)
			return nil
		})
		if reached || !direct {
			return conn, early, err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, t.cfg.ConnectTimeout.D(), errConnectTimeout)
	defer cancel()
	conn, addr, err := t.connect(ctx, to, permitOf(h))
	if err != nil {
		return nil, nil, err
	}
	h.Used(addr, "DIRECT/"+addr.Addr().String())
	return conn, nil, nil
}

var errConnectTimeout = fault.New(fault.ConnectionTimeout, "the connection to the next hop took too long", nil)

// permitOf returns what says whether an address may be used: nobody's word is
// a refusal.
func permitOf(h *hop.Hop) func(netip.AddrPort) error {
	if h == nil || h.Permit == nil {
		return func(netip.AddrPort) error {
			return fault.New(fault.InternalError, "the request has no permission to use any address", nil)
		}
	}
	return h.Permit
}

// Resolve returns the addresses of the target with its port, in the order in
// which they would be tried.
func (t *Transport) Resolve(ctx context.Context, to target.Target) ([]netip.AddrPort, error) {
	addrs, err := t.resolver.resolve(ctx, to)
	if err != nil {
		return nil, err
	}
	out := make([]netip.AddrPort, 0, len(addrs))
	for _, a := range interleave(addrs) {
		out = append(out, netip.AddrPortFrom(a, to.Port))
	}
	return out, nil
}

// interleave alternates the address families, beginning with that of the
// resolver's first (RFC 8305, Section 4).
func interleave(addrs []netip.Addr) []netip.Addr {
	var first, second, out []netip.Addr
	for _, a := range addrs {
		if a.Is4() == addrs[0].Is4() {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			out = append(out, first[i])
		}
		if i < len(second) {
			out = append(out, second[i])
		}
	}
	return out
}

// connect resolves, asks about each address, and dials those that are
// permitted. Where none is, the refusal of the first is the error.
func (t *Transport) connect(ctx context.Context, to target.Target, permit func(netip.AddrPort) error) (net.Conn, netip.AddrPort, error) {
	addrs, err := t.Resolve(ctx, to)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	var allowed []netip.AddrPort
	var refusal error
	for _, a := range addrs {
		if err := permit(a); err != nil {
			if refusal == nil {
				refusal = err
			}
			continue
		}
		if allowed = append(allowed, a); len(allowed) == maxAttempts {
			break
		}
	}
	if len(allowed) == 0 {
		return nil, netip.AddrPort{}, refusal
	}
	conn, addr, err := t.race(ctx, allowed)
	if err != nil {
		return nil, netip.AddrPort{}, dialFault(ctx, err, fault.DestinationIPUnroutable, "the next hop's address could not be connected to")
	}
	return conn, addr, nil
}

// dialFault turns an error into a fault, of the given kind where none fits
// better, and into why the context ended where it did.
func dialFault(ctx context.Context, err error, kind fault.Kind, details string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if f := fault.From(err); f.Kind != fault.InternalError {
		return f
	}
	return fault.New(kind, details, err)
}

type attempt struct {
	conn net.Conn
	addr netip.AddrPort
	err  error
}

// race tries the addresses in turn, the next when one fails or takes longer
// than the delay; the first connection wins and the others are closed.
func (t *Transport) race(ctx context.Context, addrs []netip.AddrPort) (net.Conn, netip.AddrPort, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan attempt)
	next, running := 0, 0
	start := func() {
		a := addrs[next]
		next++
		running++
		go func() {
			conn, err := t.dial(ctx, "tcp", a.String())
			select {
			case results <- attempt{conn, a, err}:
			case <-ctx.Done():
				// Either somebody won or the caller left.
				if conn != nil {
					conn.Close()
				}
			}
		}()
	}
	timer := time.NewTimer(attemptDelay)
	defer timer.Stop()
	start()
	var failure error
	for {
		select {
		case r := <-results:
			if r.err == nil {
				return r.conn, r.addr, nil
			}
			running--
			if failure == nil {
				failure = r.err
			}
			if next < len(addrs) {
				timer.Reset(attemptDelay)
				start()
			} else if running == 0 {
				return nil, netip.AddrPort{}, failure
			}
		case <-timer.C:
			if next < len(addrs) {
				timer.Reset(attemptDelay)
				start()
			}
		case <-ctx.Done():
			return nil, netip.AddrPort{}, context.Cause(ctx)
		}
	}
}

// handshake makes conn a verified TLS connection to host.
func (t *Transport) handshake(ctx context.Context, conn net.Conn, host string) (net.Conn, error) {
	return t.secure(ctx, conn, &tls.Config{
		ServerName: host,
		RootCAs:    t.roots,
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
	})
}

// secure makes conn a TLS connection. It closes conn when that fails.
func (t *Transport) secure(ctx context.Context, conn net.Conn, config *tls.Config) (net.Conn, error) {
	c := tls.Client(&endSeen{Conn: conn}, config)
	if err := c.HandshakeContext(ctx); err != nil {
		conn.Close()
		if alerted(err) {
			return nil, dialFault(ctx, err, fault.TLSAlertReceived, "the next hop refused the TLS handshake")
		}
		return nil, dialFault(ctx, err, fault.TLSProtocolError, "the TLS handshake with the next hop failed")
	}
	return c, nil
}

// alerted reports whether the other side ended TLS with an alert.
func alerted(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}
