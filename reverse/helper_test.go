package reverse

import (
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"fwdproxy/accesslog"
	"fwdproxy/acl"
	"fwdproxy/cache"
	"fwdproxy/cache/store"
	"fwdproxy/internal/edge"
	"fwdproxy/internal/hop"
	"fwdproxy/internal/proxytest"
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
	port     uint16
	settings *Settings
	records  chan accesslog.Record
}

var everySite = []SiteConfig{{Hosts: []string{"*"}, Pool: "app"}}

// newStand serves the sites with next behind the door, until the test ends.
// list may use the listener's port where it says 1.
func newStand(t *testing.T, next http.RoundTripper, sites []SiteConfig, list ...acl.RuleConfig) *stand {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &stand{addr: l.Addr().String(), records: make(chan accesslog.Record, 64)}
	_, port, _ := net.SplitHostPort(s.addr)
	n, _ := strconv.ParseUint(port, 10, 16)
	s.port = uint16(n)
	if len(list) == 0 {
		list = []acl.RuleConfig{{Name: "all", Action: "allow"}}
	}
	for i := range list {
		for j := range list[i].Ports {
			if list[i].Ports[j].First == 1 {
				list[i].Ports[j].First, list[i].Ports[j].Last = s.port, s.port
			}
		}
	}
	engine, problems := acl.Compile(acl.Config{Default: "deny", PrivateDestinations: "deny", Rules: list}, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	s.settings = &Settings{
		Door: &edge.Door{
			Mode: "reverse", Name: "fwdproxy", Limits: edge.DefaultLimits(), ACL: engine,
			Cached: next, Direct: next, Tunnels: edge.NewTunnels(), Tunnel: tunnel.DefaultConfig(),
			Log: func(r *accesslog.Record) { s.records <- *r }, Now: time.Now,
		},
		Sites: NewSites(sites),
	}
	srv := &http.Server{
		Handler:           New(func() *Settings { return s.settings }),
		ReadHeaderTimeout: patience, IdleTimeout: patience, MaxHeaderBytes: 60 << 10,
		DisableGeneralOptionsHandler: true, ErrorLog: log.New(io.Discard, "", 0),
	}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return s
}

// pool is the real next hop, with the address as the only peer of "app".
func pool(t *testing.T, addr string) *upstream.Transport {
	t.Helper()
	up, err := upstream.New(upstream.DefaultConfig(), []upstream.PoolConfig{{Name: "app", Peers: []upstream.PeerConfig{{Address: addr}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	return up
}

// cached is the real cache in front of next.
func cached(t *testing.T, next http.RoundTripper) *cache.Transport {
	t.Helper()
	memory, err := store.NewMemory(16 << 20)
	if err != nil {
		t.Fatal(err)
	}
	c := cache.DefaultConfig()
	return cache.New(memory).Transport(c, "fwdproxy", next)
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

// answer is a next hop that tells on seen what reached it, and says ok.
func answer(seen *[]string) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		*seen = append(*seen, r.Method+" "+r.URL.String()+" Host="+r.Host+" pool="+hop.From(r.Context()).Pool)
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
