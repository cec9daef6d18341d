package main

import (
	"net"
	"net/netip"
	"slices"
	"sync/atomic"

	"fwdproxy/internal/fault"
)

// ownAddrs is where this process listens: nobody may reach it through itself.
type ownAddrs struct {
	p atomic.Pointer[ownSet]
}

type ownSet struct {
	listening []netip.AddrPort
	local     []netip.Addr // of this machine's interfaces, for listeners on every address
}

func (o *ownAddrs) set(listening []netip.AddrPort) {
	s := &ownSet{listening: listening}
	addrs, _ := net.InterfaceAddrs() // without them loopback is still known
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			s.local = append(s.local, prefix.Addr().Unmap())
		}
	}
	o.p.Store(s)
}

// check returns a fault when dialling a would reach this process.
func (o *ownAddrs) check(a netip.AddrPort) error {
	s := o.p.Load()
	if s == nil || !s.has(a) {
		return nil
	}
	return &fault.Error{Kind: fault.DestinationIPProhibited, Rule: "own_address", Details: "that address is the proxy's own"}
}

func (s *ownSet) has(a netip.AddrPort) bool {
	addr := a.Addr().Unmap()
	// Dialling the unspecified address reaches loopback.
	here := addr.IsLoopback() || addr.IsUnspecified() || slices.Contains(s.local, addr)
	for _, l := range s.listening {
		if l.Port() != a.Port() {
			continue
		}
		if l.Addr().Unmap() == addr || (l.Addr().IsUnspecified() && here) || (addr.IsUnspecified() && l.Addr().IsLoopback()) {
			return true
		}
	}
	return false
}
