package upstream

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
	"fwdproxy/internal/target"
)

// parent is a proxy that requests go through instead of to their origin.
type parent struct {
	peer
	key       string // of its connections: two tables with one URL have credentials of their own
	secure    bool   // TLS to the parent itself
	auth      string // the value of Proxy-Authorization; "" for none
	all       bool   // serves every host but notTo
	to, notTo target.Hosts
	resolves  bool
}

// newParent returns the parent of the table number i, which Validate found
// right.
func newParent(i int, c ParentConfig) (*parent, error) {
	to, secure, err := c.target()
	if err != nil {
		return nil, err
	}
	p := &parent{peer: peer{name: to.HostPort(), target: to, health: &health{}}, key: "parent " + strconv.Itoa(i), secure: secure, resolves: c.Resolves, all: len(c.To) == 0}
	for _, set := range []struct {
		hosts   *target.Hosts
		entries []string
	}{{&p.to, c.To}, {&p.notTo, c.NotTo}} {
		for _, e := range set.entries {
			if err := set.hosts.Add(e); err != nil {
				return nil, err
			}
		}
	}
	if c.User == "" {
		return p, nil
	}
	password, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return nil, err
	}
	p.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(c.User+":"+strings.TrimRight(string(password), "\r\n")))
	return p, nil
}

func (p *parent) serves(host string) bool {
	return (p.all || p.to.Contain(host)) && !p.notTo.Contain(host)
}

// route returns the parents for the host in the order in which they are to be
// tried, those at rest last, and whether it is reached directly after them.
func (t *Transport) route(host string, now time.Time) (parents []*parent, direct bool) {
	for _, p := range t.parents {
		if p.serves(host) {
			parents = append(parents, p)
		}
	}
	slices.SortStableFunc(parents, func(a, b *parent) int { return cmp.Compare(a.rest(now), b.rest(now)) })
	return parents, len(parents) == 0 || t.cfg.DirectFallback
}

// Route describes the way to the target to people, best first: "direct", or
// "parent HOST:PORT". Resolves says that the first way looks no name up here.
func (t *Transport) Route(to target.Target) (ways []string, resolves bool) {
	parents, direct := t.route(to.Host, time.Now())
	for _, p := range parents {
		ways = append(ways, "parent "+p.name)
	}
	if direct {
		ways = append(ways, "direct")
	}
	return ways, len(parents) > 0 && parents[0].resolves && !to.Addr.IsValid()
}

// ParentState is a parent as it stands now.
type ParentState struct {
	Name  string // host:port
	Rests bool   // it could not be reached lately, and comes last
}

// Parents returns the parents in the order of the policy.
func (t *Transport) Parents() []ParentState {
	now := time.Now()
	out := make([]ParentState, len(t.parents))
	for i, p := range t.parents {
		out[i] = ParentState{Name: p.name, Rests: p.rest(now) > 0}
	}
	return out
}

// destination decides about the destination before the parent hears of it. It
// returns an address that is permitted for what comes from there: of a name
// that is looked up here every address has to be, since the parent chooses
// among them by itself.
func (t *Transport) destination(ctx context.Context, p *parent, to target.Target, permit func(netip.AddrPort) error) (netip.AddrPort, error) {
	if p.resolves && !to.Addr.IsValid() {
		return hop.Unknown, permit(hop.Unknown)
	}
	addrs, err := t.Resolve(ctx, to)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, a := range addrs {
		if err := permit(a); err != nil {
			return netip.AddrPort{}, err
		}
	}
	return addrs[0], nil
}

// through tries the parents in turn until use succeeds with one, or fails with
// what is no matter of reaching it: what a parent answers, or what the policy
// says, is the last word. It reports false, with the last failure, when none
// could be reached.
func (t *Transport) through(ctx context.Context, parents []*parent, use func(*parent) error) (reached bool, failure error) {
	for _, p := range parents {
		err := use(p)
		if err == nil {
			p.up()
			return true, nil
		}
		if ctx.Err() != nil {
			return true, context.Cause(ctx)
		}
		var gone *unreachable
		if !errors.As(err, &gone) {
			return true, err
		}
		p.down(time.Now())
		failure = gone.fault
	}
	return false, failure
}

// unreachable is the failure to reach a parent, after which the next is tried.
type unreachable struct{ fault error }

func (u *unreachable) Error() string { return u.fault.Error() }

// reach opens a connection to the parent itself; raw is the TCP connection.
func (t *Transport) reach(ctx context.Context, p *parent) (raw, secure net.Conn, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, t.cfg.ConnectTimeout.D(), errConnectTimeout)
	defer cancel()
	// Who runs the proxy chose the parent's address.
	raw, _, err = t.connect(ctx, p.target, func(netip.AddrPort) error { return nil })
	if err != nil {
		return nil, nil, &unreachable{err}
	}
	secure = raw
	if p.secure {
		if secure, err = t.handshake(ctx, raw, p.target.Host); err != nil {
			return nil, nil, &unreachable{err}
		}
	}
	return raw, secure, nil
}

// tunnel opens a tunnel through the parent (RFC 9110, Section 9.3.6), and
// returns what the other end sent early.
func (t *Transport) tunnel(ctx context.Context, p *parent, to target.Target, h *hop.Hop) (raw, secure net.Conn, early []byte, err error) {
	raw, secure, err = t.reach(ctx, p)
	if err != nil {
		return nil, nil, nil, err
	}
	// The parent has as long for its connection as it would take from here.
	limited, cancel := context.WithTimeoutCause(ctx, t.cfg.ConnectTimeout.D(), errConnectTimeout)
	defer cancel()
	stop := context.AfterFunc(limited, func() { _ = secure.SetDeadline(time.Unix(1, 0)) })
	early, err = t.ask(secure, p, to, h)
	if !stop() {
		err = context.Cause(limited)
	}
	if err != nil {
		secure.Close()
		return nil, nil, nil, err
	}
	return raw, secure, early, nil
}

// ask sends the CONNECT and reads its answer.
func (t *Transport) ask(conn net.Conn, p *parent, to target.Target, h *hop.Hop) (early []byte, err error) {
	var b []byte
	b = append(b, "CONNECT "+to.HostPort()+" HTTP/1.1\r\n"...)
	b = appendField(b, "Host", to.HostPort())
	if h != nil && h.Via != "" {
		b = appendField(b, "Via", h.Via)
	}
	if p.auth != "" {
		b = appendField(b, "Proxy-Authorization", p.auth)
	}
	if _, err := conn.Write(append(b, "\r\n"...)); err != nil {
		return nil, &unreachable{fault.New(fault.ConnectionTerminated, "the parent proxy closed the connection", err)}
	}
	r := readers.Get().(*bufio.Reader)
	r.Reset(conn)
	defer func() { r.Reset(nil); readers.Put(r) }()
	for range maxInterim + 1 {
		var answered bool
		res, err := readHead(r, t.cfg, &answered)
		switch {
		case err != nil && !answered:
			return nil, &unreachable{fault.New(fault.ConnectionTerminated, "the parent proxy closed the connection before it answered", err)}
		case err != nil:
			return nil, transportFault(context.Background(), err)
		case res.StatusCode >= 300:
			return nil, refusedBy(res.StatusCode)
		case res.StatusCode >= 200:
			early, err = r.Peek(r.Buffered())
			return slices.Clone(early), err
		}
	}
	return nil, fault.New(fault.ProtocolError, "the parent proxy sent too many interim answers", nil)
}

// refusedBy is what the client gets where the parent refuses. A 407 is between
// this proxy and the parent, and none of the client's business.
func refusedBy(status int) error {
	e := &fault.Error{Kind: fault.DestinationUnavailable, Status: http.StatusBadGateway,
		Details: "the parent proxy answered " + strconv.Itoa(status)}
	switch status {
	case http.StatusProxyAuthRequired:
		e.Kind, e.Details = fault.ConfigurationError, "the parent proxy does not accept this proxy's credentials"
	case http.StatusForbidden:
		e.Kind, e.Status, e.Details = fault.RequestDenied, status, "the parent proxy does not allow it"
	case http.StatusLoopDetected:
		e.Kind, e.Status, e.Details = fault.LoopDetected, status, "the parent proxy found a loop"
	case http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.Status = status
	}
	return e
}

// absolute returns a request's head in absolute-form (RFC 9112, Section 3.2.2),
// with the credentials for the parent; what is for a whole server has no path
// then (Section 3.2.4).
func (p *parent) absolute(head []byte, host string) []byte {
	method, rest, _ := bytes.Cut(head, []byte(" "))
	b := make([]byte, 0, len(head)+len(host)+len(p.auth)+64)
	b = append(append(append(b, method...), " http://"...), host...)
	b = append(b, bytes.TrimPrefix(rest, []byte("*"))...)
	if p.auth != "" {
		b = appendField(b[:len(b)-len("\r\n")], "Proxy-Authorization", p.auth)
		b = append(b, "\r\n"...)
	}
	return b
}

// obtainThrough returns a connection on which the request reaches its origin
// through the parent: the parent's own for plain http, a tunnel for anything
// else (RFC 6455, Section 4.1, for what switches protocols).
func (t *Transport) obtainThrough(ctx context.Context, p *parent, to target.Target, tunnelled bool, h *hop.Hop, fresh bool) (*conn, error) {
	dest, err := t.destination(ctx, p, to, permitOf(h))
	if err != nil {
		return nil, err
	}
	key := p.key
	if tunnelled {
		key += " " + to.Origin()
	}
	var c *conn
	if !fresh {
		c = t.idle.take(key, func(netip.AddrPort) bool { return true })
	}
	if c == nil {
		if c, err = t.dialThrough(ctx, p, to, key, tunnelled, h); err != nil {
			return nil, err
		}
	}
	c.addr = dest
	return c, nil
}

func (t *Transport) dialThrough(ctx context.Context, p *parent, to target.Target, key string, tunnelled bool, h *hop.Hop) (*conn, error) {
	name := "FIRSTUP_PARENT/" + p.name
	if !tunnelled {
		raw, secure, err := t.reach(ctx, p)
		if err != nil {
			return nil, err
		}
		c := newConn(t, key, raw, secure, netip.AddrPort{}, name)
		c.parent = p
		return c, nil
	}
	raw, secure, early, err := t.tunnel(ctx, p, to, h)
	if err != nil {
		return nil, err
	}
	if len(early) > 0 {
		secure.Close()
		return nil, malformed("the server spoke before it was asked")
	}
	if to.Scheme == "https" {
		ctx, cancel := context.WithTimeoutCause(ctx, t.cfg.ConnectTimeout.D(), errConnectTimeout)
		defer cancel()
		if secure, err = t.handshake(ctx, secure, to.Host); err != nil {
			return nil, err
		}
	}
	return newConn(t, key, raw, secure, netip.AddrPort{}, name), nil
}
