package main

import (
	"net/netip"
	"testing"
)

func TestNobodyReachesTheProxysOwnListenersThroughIt(t *testing.T) {
	s := &ownSet{
		listening: []netip.AddrPort{
			netip.MustParseAddrPort("127.0.0.1:3130"), netip.MustParseAddrPort("[::]:3128"), netip.MustParseAddrPort("192.0.2.9:8080"),
		},
		local: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
	}
	for addr, want := range map[string]bool{
		"127.0.0.1:3130":          true,
		"[::ffff:127.0.0.1]:3130": true,
		"0.0.0.0:3130":            true, // which reaches loopback
		"127.0.0.2:3130":          false,
		"192.0.2.1:3130":          false,
		"127.0.0.1:3128":          true,
		"127.8.8.8:3128":          true,
		"[::1]:3128":              true,
		"[::]:3128":               true,
		"192.0.2.1:3128":          true,
		"[::ffff:192.0.2.1]:3128": true,
		"[2001:db8::1]:3128":      true,
		"198.51.100.1:3128":       false,
		"192.0.2.9:8080":          true,
		"192.0.2.1:8080":          false,
		"127.0.0.1:80":            false,
	} {
		if got := s.has(netip.MustParseAddrPort(addr)); got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
}
