package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/target"
)

// asked is a look-up that a test scripts, and counts.
type asked struct {
	names []string
	take  time.Duration
	err   error
}

func (a *asked) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	a.names = append(a.names, name)
	select {
	case <-time.After(a.take):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if a.err != nil {
		return nil, a.err
	}
	return []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, nil
}

func resolving(t *testing.T, take time.Duration, err error) (*Transport, *asked) {
	tr := newTransport(t, func(c *Config) { c.Hosts = map[string][]string{"table.test": {"::ffff:198.51.100.1"}} })
	a := &asked{take: take, err: err}
	tr.resolver.lookup = a.lookup
	return tr, a
}

func host(name string) target.Target { return target.Target{Scheme: "http", Host: name, Port: 80} }

func TestTheHostsTableAndLiteralsAreAskedBeforeDNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, a := resolving(t, time.Second, nil)
		for name, want := range map[string]string{"table.test": "[198.51.100.1:80]", "192.0.2.7": "[192.0.2.7:80]", "2001:db8::7": "[[2001:db8::7]:80]"} {
			to := host(name)
			to.Host, to.Addr, _ = target.ParseHost(name)
			if got, err := tr.Resolve(t.Context(), to); err != nil || fmt.Sprint(got) != want {
				t.Errorf("%s: %v, %v; want %s", name, got, err, want)
			}
		}
		if len(a.names) > 0 {
			t.Errorf("DNS was asked for %v", a.names)
		}
	})
}

func TestABurstMakesOneLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, a := resolving(t, time.Second, nil)
		burst := func() {
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					got, err := tr.Resolve(t.Context(), host("a.test"))
					if err != nil || fmt.Sprint(got) != "[192.0.2.1:80 [2001:db8::1]:80]" {
						t.Errorf("%v, %v", got, err)
					}
				})
			}
			wg.Wait()
		}
		burst()
		time.Sleep(keepAnswer)
		burst()
		if len(a.names) != 1 {
			t.Errorf("asked for %v", a.names)
		}
		time.Sleep(time.Second)
		burst()
		if len(a.names) != 2 {
			t.Errorf("an old answer was used: asked for %v", a.names)
		}
	})
}

func TestOneCallerWhoLeavesFailsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, a := resolving(t, 3*time.Second, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun, first := time.Now(), make(chan error)
		go func() {
			_, err := tr.Resolve(ctx, host("a.test"))
			first <- err
		}()
		synctest.Wait()
		second := make(chan error)
		go func() {
			_, err := tr.Resolve(t.Context(), host("a.test"))
			second <- err
		}()
		if err := <-first; !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
			t.Errorf("the first: %v after %s", err, time.Since(begun))
		}
		if err := <-second; err != nil || time.Since(begun) != 3*time.Second || len(a.names) != 1 {
			t.Errorf("the second: %v after %s, asked for %v", err, time.Since(begun), a.names)
		}
	})
}

func TestEachFailureOfALookupHasItsFault_RFC9209_2_3(t *testing.T) {
	for _, tt := range []struct {
		name string
		take time.Duration
		err  error
		kind fault.Kind
		code int
		says string
	}{
		{"no such host", 0, &net.DNSError{IsNotFound: true}, fault.DNSError, 502, "could not be found"},
		{"broken server", 0, &net.DNSError{Err: "server misbehaving"}, fault.DNSError, 502, "could not be looked up"},
		{"timeout", 0, &net.DNSError{IsTimeout: true}, fault.DNSTimeout, 504, "in time"},
		{"silence", time.Hour, nil, fault.DNSTimeout, 504, "in time"},
	} {
		synctest.Test(t, func(t *testing.T) {
			tr, a := resolving(t, tt.take, tt.err)
			for range 2 { // a failure is not remembered
				err := fails(t, tr, request(t, "GET", "http://a.test/", nil))
				wantFault(t, err, tt.kind, tt.code)
				if f := fault.From(err); !strings.Contains(f.Details, tt.says) {
					t.Errorf("%s: %q does not say %q", tt.name, f.Details, tt.says)
				}
				time.Sleep(time.Second) // the look-up itself may still be about to end
			}
			synctest.Wait()
			if len(a.names) != 2 {
				t.Errorf("%s: asked for %v", tt.name, a.names)
			}
		})
	}
}

func TestTheAnswersKeptAreBounded(t *testing.T) {
	r := newResolver(DefaultConfig())
	now := time.Now()
	for i := range 3 * maxAnswers {
		r.keep(fmt.Sprint(i), nil, now)
	}
	if len(r.answers) > maxAnswers {
		t.Errorf("%d answers are kept", len(r.answers))
	}
}

// nameServer answers on UDP: names ending in ".known." have 192.0.2.1, the rest
// do not exist. asked returns the names that it was asked for.
func nameServer(t *testing.T) (addr string, asked func() []string) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	var mu sync.Mutex
	var names []string
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			mu.Lock()
			names = append(names, q.Name.String())
			mu.Unlock()
			m.Response, m.Additionals = true, nil
			switch {
			case !strings.HasSuffix(q.Name.String(), ".known."):
				m.RCode = dnsmessage.RCodeNameError
			case q.Type == dnsmessage.TypeA:
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
					Body:   &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}},
				}}
			}
			if out, err := m.Pack(); err == nil {
				c.WriteTo(out, from)
			}
		}
	}()
	return c.LocalAddr().String(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(names)
		return slices.Compact(slices.Clone(names))
	}
}

func TestTheConfiguredNameServerIsAskedAndNoSearchListIsApplied(t *testing.T) {
	server, names := nameServer(t)
	// Where the system has a search list and it were applied, the server would be
	// asked for more names.
	tr := newTransport(t, func(c *Config) { c.Resolver = server })
	if got, err := tr.Resolve(t.Context(), host("a.known")); err != nil || fmt.Sprint(got) != "[192.0.2.1:80]" {
		t.Errorf("%v, %v", got, err)
	}
	for _, name := range []string{"intranet", "b.other"} {
		_, err := tr.Resolve(t.Context(), host(name))
		wantFault(t, err, fault.DNSError, 502)
	}
	if got := names(); !slices.Equal(got, []string{"a.known.", "b.other.", "intranet."}) {
		t.Errorf("the name server was asked for %q", got)
	}
}

func TestNamesOfTheSystemsHostsFileAreFound(t *testing.T) {
	if b, err := os.ReadFile("/etc/hosts"); err != nil || !slices.Contains(strings.Fields(string(b)), "localhost") {
		t.Skip("the system's hosts file does not hold localhost")
	}
	server, names := nameServer(t)
	for _, resolver := range []string{"", server} {
		tr := newTransport(t, func(c *Config) { c.Resolver = resolver })
		got, err := tr.Resolve(t.Context(), host("localhost"))
		if err != nil || !slices.ContainsFunc(got, func(a netip.AddrPort) bool { return a.Addr().IsLoopback() }) {
			t.Errorf("resolver %q: %v, %v", resolver, got, err)
		}
	}
	if len(names()) > 0 {
		t.Errorf("the name server was asked for %q", names())
	}
}
