package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sync/errgroup"

	"fwdproxy/internal/target"
)

// source says which servers a pool has. A registry of services is one more
// implementation.
type source interface {
	// look returns the servers as they stand, never none without an error, and for
	// how long that holds.
	look(ctx context.Context) ([]member, time.Duration, error)
}

// member is a server as a source tells it.
type member struct {
	PeerConfig
	host string // its name for TLS; "" for that of the address
}

// The schemes of peers_from.
const (
	fromA    = "dns+a"
	fromAAAA = "dns+aaaa"
	fromSRV  = "dns+srv"
)

const (
	// maxFound bounds the peers that a source gives a pool.
	maxFound = 256
	// srvLookups is how many targets of an SRV record are looked up at a time.
	srvLookups = 8
)

// parseSource reads peers_from.
func parseSource(s string) (scheme, name string, port uint16, err error) {
	scheme, rest, found := strings.Cut(s, "://")
	switch {
	case !found || scheme != fromA && scheme != fromAAAA && scheme != fromSRV:
		return "", "", 0, fmt.Errorf("%q names no source of peers that is known", s)
	case scheme == fromSRV:
		if strings.Contains(rest, ":") {
			return scheme, "", 0, errors.New("an SRV record has the ports itself")
		}
		host, addr, err := target.ParseHost(rest)
		if err == nil && addr.IsValid() {
			err = fmt.Errorf("%q is an address, which nobody looks up", host)
		}
		return scheme, host, 0, err
	}
	to, err := target.FromAuthority(rest, "")
	if err == nil && to.Addr.IsValid() {
		err = fmt.Errorf("%q is an address, which nobody looks up", to.Host)
	}
	return scheme, to.Host, to.Port, err
}

// newSource returns the source that peers_from names, nil for none.
func newSource(from string, server string, hosts map[string][]netip.Addr) source {
	scheme, name, port, err := parseSource(from)
	if err != nil {
		return nil
	}
	names := nameLookup{ask: dnsClient{server: server}.ask, hosts: hosts}
	switch scheme {
	case fromSRV:
		return srvSource{nameLookup: names, name: name}
	case fromAAAA:
		return addressSource{nameLookup: names, name: name, port: port, kind: dnsmessage.TypeAAAA}
	}
	return addressSource{nameLookup: names, name: name, port: port, kind: dnsmessage.TypeA}
}

// nameLookup looks names up, first in upstream.hosts.
type nameLookup struct {
	ask   func(ctx context.Context, name string, kind dnsmessage.Type) (records, error)
	hosts map[string][]netip.Addr
}

// never is how long an entry of the policy holds.
const never = 24 * time.Hour

func (l nameLookup) addresses(ctx context.Context, name string, kind dnsmessage.Type) ([]netip.Addr, time.Duration, error) {
	if fixed, ok := l.hosts[name]; ok {
		addrs := slices.DeleteFunc(slices.Clone(fixed), func(a netip.Addr) bool { return a.Is4() != (kind == dnsmessage.TypeA) })
		if len(addrs) == 0 {
			return nil, 0, noRecords("upstream.hosts has no such address for " + name)
		}
		return addrs, never, nil
	}
	r, err := l.ask(ctx, name, kind)
	return r.addrs, r.ttl, err
}

// addressSource is each address of a name at one port.
type addressSource struct {
	nameLookup
	name string
	port uint16
	kind dnsmessage.Type
}

func (s addressSource) look(ctx context.Context) ([]member, time.Duration, error) {
	addrs, ttl, err := s.addresses(ctx, s.name, s.kind)
	if err != nil {
		return nil, 0, err
	}
	var found []member
	for _, a := range addrs {
		found = append(found, member{PeerConfig{Address: netip.AddrPortFrom(a, s.port).String()}, s.name})
	}
	return settle(found, ttl)
}

// srvSource is the servers of SRV records (RFC 2782): those of the lowest
// priority by their weights, the others as backups.
type srvSource struct {
	nameLookup
	name string
}

// srvTarget is one SRV record with the addresses of its target.
type srvTarget struct {
	dnsmessage.SRVResource
	host  string
	addrs []netip.Addr
	ttl   time.Duration
}

func (s srvSource) look(ctx context.Context) ([]member, time.Duration, error) {
	r, err := s.ask(ctx, s.name, dnsmessage.TypeSRV)
	if err != nil {
		return nil, 0, err
	}
	if len(r.srv) > maxFound {
		r.srv = r.srv[:maxFound]
	}
	targets := make([]srvTarget, len(r.srv))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(srvLookups)
	for i, record := range r.srv {
		group.Go(func() (err error) {
			targets[i], err = s.target(ctx, record)
			return err
		})
	}
	// One target that cannot be asked for fails all: its peers would go otherwise.
	if err := group.Wait(); err != nil {
		return nil, 0, err
	}
	ttl := r.ttl
	for _, t := range targets {
		if len(t.addrs) > 0 {
			ttl = min(ttl, t.ttl)
		}
	}
	return settle(srvMembers(targets), ttl)
}

// target looks a record's target up; that it has no address is no error.
func (s srvSource) target(ctx context.Context, record dnsmessage.SRVResource) (srvTarget, error) {
	t := srvTarget{SRVResource: record}
	name, addr, err := target.ParseHost(strings.TrimSuffix(record.Target.String(), "."))
	if err != nil || addr.IsValid() || record.Port == 0 {
		return t, nil // "." says that there is no such service
	}
	t.host = name
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
		t.addrs, t.ttl, err = s.addresses(ctx, name, kind)
		if !errors.Is(err, errNoRecords) {
			return t, err
		}
	}
	return t, nil
}

func srvMembers(targets []srvTarget) (found []member) {
	first, heaviest := ^uint16(0), uint16(1)
	for _, t := range targets {
		if len(t.addrs) > 0 {
			first, heaviest = min(first, t.Priority), max(heaviest, t.Weight)
		}
	}
	for _, t := range targets {
		weight := int(t.Weight)
		if heaviest > maxWeight {
			weight = weight * maxWeight / int(heaviest)
		}
		for _, a := range t.addrs {
			found = append(found, member{PeerConfig{Address: netip.AddrPortFrom(a, t.Port).String(), Weight: max(1, weight),
				Backup: t.Priority != first}, t.host})
		}
	}
	return found
}

// settle leaves out what can be no server and what came twice, and puts the
// rest in order.
func settle(found []member, ttl time.Duration) ([]member, time.Duration, error) {
	found = slices.DeleteFunc(found, func(m member) bool {
		a, err := netip.ParseAddrPort(m.Address)
		return err != nil || a.Addr().IsUnspecified() || a.Addr().IsMulticast()
	})
	// Of two entries for one address the one that is no backup stays.
	slices.SortStableFunc(found, func(a, b member) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), compareBool(a.Backup, b.Backup))
	})
	found = slices.CompactFunc(found, func(a, b member) bool { return a.Address == b.Address })
	if len(found) == 0 {
		return nil, 0, noRecords("the answer names no server")
	}
	return found[:min(len(found), maxFound)], ttl, nil
}

// compareBool puts false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
