package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/header"
	"fwdproxy/internal/hop"
	"fwdproxy/internal/target"
)

// Transport sends requests to their next hops. It is safe for concurrent use.
type Transport struct {
	cfg       Config
	resolver  *resolver
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	roots     *x509.CertPool // nil: the system's
	pools     map[string]*pool
	poolOrder []*pool
	unwatch   func() // ends the checks; nil where Watch was not called
	parents   []*parent
	idle      *idleSet
	open      atomic.Int64 // connections, but for tunnels
}

// New returns a Transport for what Validate and ValidatePools found right. It
// fails when a file that they name cannot be read.
func New(c Config, pools []PoolConfig) (_ *Transport, err error) {
	t := &Transport{
		cfg:      c,
		resolver: newResolver(c),
		dial:     (&net.Dialer{}).DialContext, // with TCP keep-alive
		pools:    map[string]*pool{},
		idle:     newIdleSet(c.MaxIdle, c.MaxIdlePerHost, c.KeepAlive.D()),
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("upstream.ca_file: %w", err)
		}
		if t.roots, err = x509.SystemCertPool(); err != nil {
			t.roots = x509.NewCertPool()
		}
		if !t.roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("upstream.ca_file: there is no certificate in %s", c.CAFile)
		}
	}
	for i, p := range c.Parents {
		parent, err := newParent(i, p)
		if err != nil {
			return nil, fmt.Errorf("upstream.parent[%d].password_file: %w", i, err)
		}
		t.parents = append(t.parents, parent)
	}
	for i, c := range pools {
		if t.pools[c.Name], err = newPool(c); err != nil {
			return nil, fmt.Errorf("pool[%d].%w", i, err)
		}
		t.pools[c.Name].discovery.begin(newSource(c.PeersFrom, t.cfg.Resolver, t.resolver.hosts), t.cfg.ConnectTimeout.D())
		t.poolOrder = append(t.poolOrder, t.pools[c.Name])
	}
	return t, nil
}

// Close ends the checks and closes unused connections, and those in use when
// their request is done; requests in flight go on.
func (t *Transport) Close() {
	if t.unwatch != nil {
		t.unwatch()
	}
	t.idle.close()
}

// Stats returns the number of connections that are kept unused, and of those
// that are in use; tunnels are not counted.
func (t *Transport) Stats() (idle, inUse int) {
	idle = t.idle.size()
	return idle, max(0, int(t.open.Load())-idle)
}

// RoundTrip sends the request to the origin of its URL, or to the pool that
// its Hop names, and returns the answer without hop-by-hop fields. Every error
// is a *fault.Error, but for the caller's own end of the context. A request
// goes out a second time only when it has no body and is idempotent (RFC 9110,
// Section 9.2.2): when a kept connection turned out to be dead before any
// answer, and to another peer of a pool as the pool says.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	h := hop.From(ctx)
	o := outgoings.Get().(*outgoing)
	defer o.release()
	head, err := encodeHead(req, o)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	if h != nil && h.Pool != "" {
		p := t.pools[h.Pool]
		if p == nil {
			closeBody(req)
			return nil, fault.New(fault.ConfigurationError, "the pool of this site does not exist", nil)
		}
		return t.askPool(req, p, h, head)
	}
	for again := false; ; again = true {
		c, err := t.obtain(ctx, req, h, again)
		if err != nil {
			closeBody(req)
			return nil, err
		}
		h.Used(c.addr, c.name)
		out := head
		if c.parent != nil {
			out = c.parent.absolute(head, cmp.Or(req.Host, req.URL.Host))
		}
		res, err := c.exchange(req, out)
		if err == nil {
			if c.parent != nil && res.StatusCode == http.StatusProxyAuthRequired {
				res.Body.Close()
				return nil, refusedBy(res.StatusCode)
			}
			return res, nil
		}
		if again || !c.reused || c.answered || !replayable(req) || !lost(err) {
			return nil, err
		}
	}
}

// Verify makes sure that a connection to the https origin stands, at an address
// that the context's Hop permits, whose certificate was verified, and keeps it
// for the next request. It sends nothing.
func (t *Transport) Verify(ctx context.Context, to target.Target) error {
	to.Scheme = "https"
	req := &http.Request{Method: http.MethodHead, URL: &url.URL{Scheme: to.Scheme, Host: to.Authority()}}
	h := hop.From(ctx)
	c, err := t.obtain(ctx, req, h, false)
	if err != nil {
		return err
	}
	h.Used(c.addr, c.name)
	c.release()
	return nil
}

// lost reports whether the other side ended the connection, rather than time,
// the caller or what it said.
func lost(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) && f.Kind == fault.ConnectionTerminated
}

func hasBody(req *http.Request) bool { return req.Body != nil && req.Body != http.NoBody }

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

func replayable(req *http.Request) bool {
	if hasBody(req) {
		return false
	}
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// obtain returns a connection to the next hop: a kept one, unless fresh, whose
// address this very request may use, or a new one.
func (t *Transport) obtain(ctx context.Context, req *http.Request, h *hop.Hop, fresh bool) (*conn, error) {
	to, err := target.FromURL(req.URL)
	if err != nil {
		return nil, fault.New(fault.RequestError, err.Error(), nil)
	}
	parents, direct := t.route(to.Host, time.Now())
	if len(parents) > 0 {
		var c *conn
		reached, err := t.through(ctx, parents, func(p *parent) (err error) {
			c, err = t.obtainThrough(ctx, p, to, to.Scheme == "https" || header.Upgrade(req.Header) != "", h, fresh)
			return err
		})
		if reached || !direct {
			return c, err
		}
	}
	permit := permitOf(h)
	key := to.Origin()
	if !fresh {
		if c := t.idle.take(key, func(a netip.AddrPort) bool { return permit(a) == nil }); c != nil {
			return c, nil
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, t.cfg.ConnectTimeout.D(), errConnectTimeout)
	defer cancel()
	plain, addr, err := t.connect(ctx, to, permit)
	if err != nil {
		return nil, err
	}
	secure := plain
	if to.Scheme == "https" {
		if secure, err = t.handshake(ctx, plain, to.Host); err != nil {
			return nil, err
		}
	}
	return newConn(t, key, plain, secure, addr, "DIRECT/"+addr.Addr().String()), nil
}

// transportFault turns an error of talking on a connection into a fault; the
// caller's own end of the context stays what it is.
func transportFault(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var f *fault.Error
	if errors.As(err, &f) {
		return f
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fault.New(fault.ResponseTimeout, "the next hop did not answer in time", err)
	}
	if alerted(err) {
		return fault.New(fault.TLSAlertReceived, "the next hop broke the TLS connection off", err)
	}
	var rec tls.RecordHeaderError
	if errors.As(err, &rec) {
		return fault.New(fault.TLSProtocolError, "the next hop broke the TLS connection", err)
	}
	return fault.New(fault.ConnectionTerminated, "the next hop closed the connection before it answered", err)
}

// bodyFault is transportFault for an answer that broke off behind its head.
func bodyFault(ctx context.Context, err error) error {
	err = transportFault(ctx, err)
	var f *fault.Error
	switch {
	case !errors.As(err, &f):
	case f.Kind == fault.ResponseTimeout:
		return fault.New(fault.ConnectionReadTimeout, "the next hop paused for too long in its answer", f.Err)
	case f.Kind == fault.ConnectionTerminated:
		return fault.New(fault.ResponseIncomplete, "the next hop closed the connection in the middle of its answer", f.Err)
	}
	return err
}
