package forward

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fwdproxy/accesslog"
	"fwdproxy/acl"
	"fwdproxy/internal/edge"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
	"fwdproxy/internal/proxytest"
	"fwdproxy/internal/target"
	"fwdproxy/tunnel"
	"fwdproxy/upstream"
)

const patience = proxytest.Patience

type roundTrip = proxytest.RoundTrip

// What speaks on the wire, under short names.
var (
	send     = proxytest.Send
	rest     = proxytest.Rest
	readHead = proxytest.ReadHead
	status   = proxytest.Status
	field    = proxytest.Field
	server   = proxytest.Server
	never    = proxytest.Never
)

// stand is the front door on a loopback port, served as the command serves it.
type stand struct {
	addr     string
	settings *Settings
	records  chan accesslog.Record
	dialled  atomic.Int32
}

// newStand serves with next behind the door, every dial going to the address
// behind, until the test ends.
func newStand(t *testing.T, next http.RoundTripper, behind string, list ...acl.RuleConfig) *stand {
	t.Helper()
	if len(list) == 0 {
		list = []acl.RuleConfig{{Name: "all", Action: "allow"}}
	}
	engine, problems := acl.Compile(acl.Config{Default: "deny", PrivateDestinations: "deny", Rules: list}, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	s := &stand{records: make(chan accesslog.Record, 64)}
	s.settings = &Settings{
		Door: &edge.Door{
			Mode: "forward", Name: "fwdproxy", Limits: edge.DefaultLimits(), ACL: engine,
			Cached: next, Direct: next, Tunnels: edge.NewTunnels(), Tunnel: tunnel.DefaultConfig(),
			Log: func(r *accesslog.Record) { s.records <- *r }, Now: time.Now,
		},
		Dial: func(ctx context.Context, to target.Target) (net.Conn, []byte, error) {
			s.dialled.Add(1)
			hop.From(ctx).Used(netip.AddrPortFrom(netip.MustParseAddr("203.0.113.1"), to.Port), "DIRECT/203.0.113.1")
			if behind == "" {
				return nil, nil, fault.New(fault.ConnectionRefused, "the next hop refused the connection", nil)
			}
			c, err := net.Dial("tcp", behind)
			return c, nil, err
		},
	}
	s.settings.Door.Tunnel.Peek = nil // most tests speak no TLS
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	srv := &http.Server{
		Handler:           New(func() *Settings { return s.settings }),
		ReadHeaderTimeout: patience, IdleTimeout: patience, MaxHeaderBytes: 60 << 10,
		DisableGeneralOptionsHandler: true, ErrorLog: log.New(io.Discard, "", 0),
	}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return s
}

func (s *stand) record(t *testing.T) accesslog.Record {
	t.Helper()
	select {
	case r := <-s.records:
		return r
	case <-time.After(patience):
		t.Fatal("no log record came")
	}
	panic("unreachable")
}

// client is the real next hop; "origin.test" is on loopback.
func client(t *testing.T) *upstream.Transport {
	t.Helper()
	c := upstream.DefaultConfig()
	c.Hosts = map[string][]string{"origin.test": {"127.0.0.1"}}
	up, err := upstream.New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	return up
}

// answer is a next hop that tells on seen what reached it, and says ok. Every
// name leads it to 203.0.113.1.
func answer(seen *[]string) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		a, err := netip.ParseAddr(strings.Trim(r.URL.Hostname(), "[]"))
		if err != nil {
			a = netip.MustParseAddr("203.0.113.1")
		}
		if err := hop.From(r.Context()).Permit(netip.AddrPortFrom(a, 80)); err != nil {
			return nil, err
		}
		if r.Body != nil {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return nil, err
			}
			r.Body.Close()
		}
		*seen = append(*seen, r.Method+" "+r.URL.String()+" Host="+r.Host)
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Length": {"2"}},
			Body: io.NopCloser(strings.NewReader("ok")), ContentLength: 2, Request: r}, nil
	}
}

func (s *stand) dial(t *testing.T) net.Conn {
	t.Helper()
	return proxytest.Dial(t, s.addr)
}

func (s *stand) talk(t *testing.T, raw string) string {
	t.Helper()
	return proxytest.Talk(t, s.addr, raw)
}
