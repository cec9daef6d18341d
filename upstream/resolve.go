package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/target"
)

const (
	// keepAnswer is how long an answer is used again: long enough for a page's
	// burst of requests, too short for anybody to notice a change.
	keepAnswer = 5 * time.Second
	// maxAnswers bounds the answers that are kept; one too many and all go.
	maxAnswers = 4096
)

// resolver turns host names into addresses.
type resolver struct {
	hosts  map[string][]netip.Addr
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	flight singleflight.Group
	limit  time.Duration

	mu      sync.Mutex
	answers map[string]answer
}

type answer struct {
	addrs []netip.Addr
	until time.Time
}

func newResolver(c Config) *resolver {
	return &resolver{
		hosts:   hostTable(c.Hosts),
		lookup:  systemLookup(c.Resolver),
		limit:   c.ConnectTimeout.D(),
		answers: map[string]answer{},
	}
}

// systemLookup asks the system's hosts file and then the name server at the
// address, "" for the system's.
func systemLookup(server string) func(context.Context, string) ([]netip.Addr, error) {
	var dns net.Resolver
	if server != "" {
		dns.PreferGo = true
		dns.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, server)
		}
	}
	// With a final dot no search list completes the name, but a name of one label
	// ("localhost") is then not found in the hosts file either; so that is asked
	// on its own, by a resolver that reaches no server.
	file := net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("only the hosts file is asked")
	}}
	return func(ctx context.Context, host string) ([]netip.Addr, error) {
		if !strings.Contains(host, ".") {
			if addrs, err := file.LookupNetIP(ctx, "ip", host); err == nil {
				return addrs, nil
			}
		}
		return dns.LookupNetIP(ctx, "ip", host+".")
	}
}

// resolve returns the addresses of the target's host, never none without an
// error. Names are looked up as they are: no search list completes them.
func (r *resolver) resolve(ctx context.Context, t target.Target) ([]netip.Addr, error) {
	if t.Addr.IsValid() {
		return []netip.Addr{t.Addr}, nil
	}
	if addrs := r.hosts[t.Host]; len(addrs) > 0 {
		return addrs, nil
	}
	if addrs := r.known(t.Host, time.Now()); addrs != nil {
		return addrs, nil
	}
	// The look-up is its own, so that one caller who leaves fails no other.
	found := r.flight.DoChan(t.Host, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.limit)
		defer cancel()
		addrs, err := r.lookup(ctx, t.Host)
		if err != nil {
			return nil, lookupFault(err)
		}
		if len(addrs) == 0 {
			return nil, lookupFault(&net.DNSError{Err: "no address", Name: t.Host, IsNotFound: true})
		}
		for i := range addrs {
			addrs[i] = addrs[i].Unmap()
		}
		r.keep(t.Host, addrs, time.Now())
		return addrs, nil
	})
	select {
	case res := <-found:
		if res.Err != nil {
			return nil, res.Err
		}
		return res.Val.([]netip.Addr), nil
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), errConnectTimeout) {
			return nil, lookupFault(context.DeadlineExceeded)
		}
		return nil, context.Cause(ctx)
	}
}

func lookupFault(err error) error {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return fault.New(fault.DNSError, "the host could not be found: no name server knows its name", err)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &dns) && dns.IsTimeout:
		return fault.New(fault.DNSTimeout, "the name server did not answer in time", err)
	}
	return fault.New(fault.DNSError, "the host name could not be looked up", err)
}

func (r *resolver) known(host string, now time.Time) []netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.answers[host]
	if !ok || now.After(a.until) {
		return nil
	}
	return a.addrs
}

func (r *resolver) keep(host string, addrs []netip.Addr, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.answers) >= maxAnswers {
		clear(r.answers)
	}
	r.answers[host] = answer{addrs, now.Add(keepAnswer)}
}
