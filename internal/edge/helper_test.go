package edge

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"fwdproxy/accesslog"
	"fwdproxy/acl"
	"fwdproxy/internal/hop"
	"fwdproxy/internal/proxytest"
	"fwdproxy/internal/target"
	"fwdproxy/internal/unit"
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
	origin   = proxytest.Server
	never    = proxytest.Never
)

// stand is a front door with the least that one can have: it takes targets in
// absolute-form and does what both doors do with one.
type stand struct {
	addr    string
	door    *Door
	records chan accesslog.Record
}

// rules compiles a policy that the test writes, with deny as its default.
func rules(t *testing.T, list ...acl.RuleConfig) *acl.Engine {
	t.Helper()
	e, problems := acl.Compile(acl.Config{Default: "deny", PrivateDestinations: "allow", Rules: list}, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return e
}

func anything(t *testing.T) *acl.Engine {
	return rules(t, acl.RuleConfig{Name: "all", Action: "allow"})
}

// newStand serves with next behind the door, until the test ends. change may
// be nil.
func newStand(t *testing.T, next http.RoundTripper, change func(*Door)) *stand {
	t.Helper()
	s := &stand{records: make(chan accesslog.Record, 64)}
	s.door = &Door{
		Mode: "forward", Name: "fwdproxy", Limits: DefaultLimits(), ACL: anything(t),
		Cached: next, Direct: next, Tunnels: NewTunnels(), Tunnel: tunnel.DefaultConfig(),
		Log: func(r *accesslog.Record) { s.records <- *r }, Now: time.Now,
	}
	if change != nil {
		change(s.door)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	srv := &http.Server{
		Handler: s, ReadHeaderTimeout: patience, IdleTimeout: patience, MaxHeaderBytes: 60 << 10,
		DisableGeneralOptionsHandler: true, ErrorLog: log.New(io.Discard, "", 0),
	}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return s
}

func (s *stand) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := s.door.Begin(w, r)
	defer x.End()
	if err := x.Check(); err != nil {
		x.Fail(err)
		return
	}
	t, err := target.FromURL(r.URL)
	if err == nil {
		err = x.Decide(t)
	}
	if err != nil {
		x.Fail(err)
		return
	}
	out := x.Outgoing(t)
	if res := x.LocalAnswer(out); res != nil {
		x.Respond(res)
	} else if IsUpgrade(out) {
		x.Upgrade(out)
	} else {
		x.Respond(x.RoundTrip(out))
	}
}

// record returns the next log record.
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

// client is the real next hop, whose resolver sends every name under .test to
// loopback.
func client(t *testing.T) *upstream.Transport {
	t.Helper()
	c := upstream.DefaultConfig()
	c.ResponseTimeout = unit.Duration(patience)
	c.Hosts = map[string][]string{"origin.test": {"127.0.0.1"}}
	up, err := upstream.New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	return up
}

// answer is a next hop that gives the same answer to everybody and reads the
// whole request before.
func answer(status int, h http.Header, body string) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		if r.Body != nil {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return nil, err
			}
			r.Body.Close()
		}
		h := h.Clone()
		if h == nil {
			h = http.Header{}
		}
		res := &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1, Request: r}
		if r.Method == http.MethodHead {
			res.Body = http.NoBody
		}
		return res, nil
	}
}

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func sortedFields(h http.Header) string {
	var lines []string
	for name, values := range h {
		lines = append(lines, fmt.Sprintf("%s=%s", name, strings.Join(values, "|")))
	}
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

// permit asks, as the next hop does, whether the request may use the address.
func permit(r *http.Request, a string) error { return hop.From(r.Context()).Permit(addrPort(a)) }

func (s *stand) dial(t *testing.T) net.Conn {
	t.Helper()
	return proxytest.Dial(t, s.addr)
}

func (s *stand) talk(t *testing.T, raw string) string {
	t.Helper()
	return proxytest.Talk(t, s.addr, raw)
}
