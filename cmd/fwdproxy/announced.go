package main

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"fwdproxy/internal/proxyproto"
)

// announcers is who begins connections with a PROXY header, under the policy in
// force.
type announcers struct {
	current func() []netip.Prefix
	log     *slog.Logger
	quiet   *rate.Limiter // of failures in the log
}

func newAnnouncers(current func() []netip.Prefix, log *slog.Logger) *announcers {
	return &announcers{current: current, log: log, quiet: rate.NewLimiter(1, 10)}
}

// include reports whether the connection comes from one of them.
func (a *announcers) include(c net.Conn) bool {
	from := a.current()
	if len(from) == 0 {
		return false
	}
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return false
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	return slices.ContainsFunc(from, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// read reads the header, within the time for a request's head, and returns the
// connection as that of the client. On an error, which is logged, it closes it.
func (a *announcers) read(c net.Conn, within time.Duration) (net.Conn, bool) {
	_ = c.SetReadDeadline(time.Now().Add(within))
	client, err := proxyproto.Read(c)
	_ = c.SetReadDeadline(time.Time{})
	if err != nil {
		c.Close()
		if a.quiet.Allow() {
			a.log.Warn("a connection from proxy_protocol was closed", "from", c.RemoteAddr().String(), "error", err)
		}
		return nil, false
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok || !client.IsValid() {
		return c, true // the sender's own
	}
	return &announcedConn{TCPConn: tcp, client: net.TCPAddrFromAddrPort(client)}, true
}

// announcedConn is a connection of the client that a PROXY header named.
type announcedConn struct {
	*net.TCPConn
	client *net.TCPAddr
}

// RemoteAddr returns the client's address, not the load balancer's.
func (c *announcedConn) RemoteAddr() net.Addr { return c.client }

// Plain returns the connection itself.
func (c *announcedConn) Plain() net.Conn { return c.TCPConn }
