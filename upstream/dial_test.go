package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
	"fwdproxy/internal/target"
)

// network is a pretended one: what dialling each address does, after how long.
type network struct {
	after map[string]time.Duration
	fails map[string]error

	begun time.Time

	mu     sync.Mutex
	dialed []string // "address after time"
	open   int      // connections that nobody closed
}

type counted struct {
	net.Conn
	n *network
}

func (c counted) Close() error { c.n.count(-1); return nil }

func (n *network) count(by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open += by
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(address)
	n.mu.Lock()
	n.dialed = append(n.dialed, fmt.Sprint(host, " ", time.Since(n.begun)))
	n.mu.Unlock()
	if n.after[host] > 0 {
		select {
		case <-time.After(n.after[host]):
		case <-ctx.Done():
			return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
		}
	}
	if err := n.fails[host]; err != nil {
		return nil, &net.OpError{Op: "dial", Err: err}
	}
	n.count(1)
	return counted{n: n}, nil
}

func TestAddressesAreRaced_RFC8305_5(t *testing.T) {
	const never = time.Hour
	refused := syscall.ECONNREFUSED
	for _, tt := range []struct {
		name   string
		addrs  []string
		after  map[string]time.Duration
		fails  map[string]error
		dialed string
		winner string
		took   time.Duration
		kind   fault.Kind
	}{
		{name: "the first answers", addrs: []string{"2001:db8::1", "192.0.2.1"}, after: map[string]time.Duration{"2001:db8::1": 200 * time.Millisecond},
			dialed: "2001:db8::1 0s", winner: "2001:db8::1", took: 200 * time.Millisecond},
		{name: "the first hangs", addrs: []string{"2001:db8::1", "2001:db8::2", "192.0.2.1"}, after: map[string]time.Duration{"2001:db8::1": never},
			dialed: "2001:db8::1 0s, 192.0.2.1 250ms", winner: "192.0.2.1", took: 250 * time.Millisecond},
		{name: "the first fails at once", addrs: []string{"2001:db8::1", "192.0.2.1"}, fails: map[string]error{"2001:db8::1": syscall.ENETUNREACH},
			dialed: "2001:db8::1 0s, 192.0.2.1 0s", winner: "192.0.2.1"},
		{name: "the first wins late", addrs: []string{"192.0.2.1", "192.0.2.2"}, after: map[string]time.Duration{"192.0.2.1": 400 * time.Millisecond, "192.0.2.2": never},
			dialed: "192.0.2.1 0s, 192.0.2.2 250ms", winner: "192.0.2.1", took: 400 * time.Millisecond},
		{name: "two win together", addrs: []string{"192.0.2.1", "192.0.2.2"}, after: map[string]time.Duration{"192.0.2.1": 300 * time.Millisecond, "192.0.2.2": 50 * time.Millisecond},
			dialed: "192.0.2.1 0s, 192.0.2.2 250ms", took: 300 * time.Millisecond},
		{name: "all fail", addrs: []string{"192.0.2.1", "192.0.2.2"}, fails: map[string]error{"192.0.2.1": refused, "192.0.2.2": syscall.ENETUNREACH},
			dialed: "192.0.2.1 0s, 192.0.2.2 0s", kind: fault.ConnectionRefused},
		{name: "all hang", addrs: []string{"192.0.2.1"}, after: map[string]time.Duration{"192.0.2.1": never},
			dialed: "192.0.2.1 0s", kind: fault.ConnectionTimeout, took: 10 * time.Second},
		{name: "no permission to connect", addrs: []string{"192.0.2.1"}, fails: map[string]error{"192.0.2.1": syscall.EACCES},
			dialed: "192.0.2.1 0s", kind: fault.DestinationIPUnroutable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &network{after: tt.after, fails: tt.fails, begun: time.Now()}
				tr := newTransport(t, func(c *Config) { c.Hosts = map[string][]string{"a.test": tt.addrs} })
				tr.dial = n.dial
				h := &hop.Hop{Permit: permitAll}
				conn, _, err := tr.Dial(hop.With(t.Context(), h), target.Target{Host: "a.test", Port: 443})
				took := time.Since(n.begun)
				synctest.Wait()
				if got := strings.Join(n.dialed, ", "); got != tt.dialed || took != tt.took {
					t.Errorf("dialled %s, in %s; want %s in %s", got, took, tt.dialed, tt.took)
				}
				if tt.kind != "" {
					var f *fault.Error
					if !errors.As(err, &f) || f.Kind != tt.kind || n.open != 0 {
						t.Errorf("%v, want %s; %d connections are open", err, tt.kind, n.open)
					}
					return
				}
				if err != nil || n.open != 1 {
					t.Fatalf("%v; %d connections are open, want 1", err, n.open)
				}
				if addr, _ := h.Answered(); tt.winner != "" && addr != netip.AddrPortFrom(netip.MustParseAddr(tt.winner), 443) {
					t.Errorf("%s won, want %s", addr, tt.winner)
				}
				conn.Close()
			})
		})
	}
}

func TestOnlyPermittedAddressesAreDialled(t *testing.T) {
	private := fault.New(fault.DestinationIPProhibited, "private", nil)
	permit := func(a netip.AddrPort) error {
		if a.Addr().IsPrivate() || a.Addr().IsLoopback() {
			return private
		}
		return nil
	}
	dial := func(t *testing.T, addrs ...string) (*network, error) {
		n := &network{fails: map[string]error{"192.0.2.1": syscall.ECONNREFUSED}, begun: time.Now()}
		tr := newTransport(t, func(c *Config) { c.Hosts = map[string][]string{"a.test": addrs} })
		tr.dial = n.dial
		_, _, err := tr.Dial(hop.With(t.Context(), &hop.Hop{Permit: permit}), target.Target{Host: "a.test", Port: 80})
		return n, err
	}
	synctest.Test(t, func(t *testing.T) {
		n, err := dial(t, "10.0.0.1", "192.0.2.1", "::1", "::ffff:127.0.0.1")
		if len(n.dialed) != 1 || !strings.HasPrefix(n.dialed[0], "192.0.2.1 ") {
			t.Errorf("dialled %v", n.dialed)
		}
		wantFault(t, err, fault.ConnectionRefused, 502)
		if n, err = dial(t, "10.0.0.1", "::1"); err != private || len(n.dialed) > 0 {
			t.Errorf("%v, dialled %v", err, n.dialed)
		}
	})
}

func TestANameWithThousandsOfAddressesCostsFewDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var addrs []string
		n := &network{fails: map[string]error{}, begun: time.Now()}
		for i := range 200 {
			a := fmt.Sprintf("192.0.2.%d", i)
			addrs, n.fails[a] = append(addrs, a), syscall.ECONNREFUSED
		}
		tr := newTransport(t, func(c *Config) { c.Hosts = map[string][]string{"a.test": addrs} })
		tr.dial = n.dial
		_, _, err := tr.Dial(hop.With(t.Context(), &hop.Hop{Permit: permitAll}), target.Target{Host: "a.test", Port: 80})
		wantFault(t, err, fault.ConnectionRefused, 502)
		if len(n.dialed) != maxAttempts {
			t.Errorf("%d dials", len(n.dialed))
		}
	})
}

func TestAddressFamiliesAlternate_RFC8305_4(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"1.1.1.1", "1.1.1.1"},
		{"::1 ::2 ::3 1.1.1.1", "::1 1.1.1.1 ::2 ::3"},
		{"1.1.1.1 1.1.1.2 ::1 ::2 ::3", "1.1.1.1 ::1 1.1.1.2 ::2 ::3"},
	} {
		var in, got []string
		var addrs []netip.Addr
		in = strings.Fields(tt.in)
		for _, a := range in {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		for _, a := range interleave(addrs) {
			got = append(got, a.String())
		}
		if !slices.Equal(got, strings.Fields(tt.want)) {
			t.Errorf("%v: %v, want %s", in, got, tt.want)
		}
	}
}

func TestARefusedConnectionIsA502(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	wantFault(t, fails(t, newTransport(t, nil), request(t, "GET", "http://"+l.Addr().String()+"/", nil)), fault.ConnectionRefused, 502)
}
