package acl

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"fwdproxy/internal/fault"
)

func prohibited(t *testing.T, e *Engine, addr string) bool {
	t.Helper()
	err := e.Destination(netip.MustParseAddr(addr))
	if err == nil {
		return false
	}
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind != fault.DestinationIPProhibited || f.HTTPStatus() != 403 || f.Rule != "private_destinations" {
		t.Errorf("Destination(%s) = %#v, want a fault of kind %s", addr, err, fault.DestinationIPProhibited)
	} else if plain := netip.MustParseAddr(addr).Unmap().WithZone("").String(); strings.Contains(f.Details, plain) {
		t.Errorf("Destination(%s) tells the client the address: %q", addr, f.Details)
	}
	return true
}

func TestEveryRangeThatIsNotGlobalIsGuardedToItsEdges_RFC6890(t *testing.T) {
	e := compile(t, Config{}, nil)
	for _, tt := range []struct {
		first, last   string
		before, after string // the neighbours, where they are global
	}{
		{"0.0.0.0", "0.255.255.255", "", "1.0.0.0"},
		{"10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"},
		{"100.64.0.0", "100.127.255.255", "100.63.255.255", "100.128.0.0"},
		{"127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0"},
		{"169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0"},
		{"172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0"},
		{"192.0.0.0", "192.0.0.255", "191.255.255.255", "192.0.1.0"},
		{"192.0.2.0", "192.0.2.255", "192.0.1.255", "192.0.3.0"},
		{"192.88.99.0", "192.88.99.255", "192.88.98.255", "192.88.100.0"},
		{"192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0"},
		{"198.18.0.0", "198.19.255.255", "198.17.255.255", "198.20.0.0"},
		{"198.51.100.0", "198.51.100.255", "198.51.99.255", "198.51.101.0"},
		{"203.0.113.0", "203.0.113.255", "203.0.112.255", "203.0.114.0"},
		{"224.0.0.0", "239.255.255.255", "223.255.255.255", ""},
		{"240.0.0.0", "255.255.255.255", "", ""},
		{"::", "::", "", ""},
		{"::1", "::1", "", ""},
		{"::2", "::ffff:ffff", "", ""},
		{"::1:0:0", "::fffe:ffff:ffff", "", ""},
		{"::ffff:10.0.0.0", "::ffff:10.255.255.255", "::ffff:9.255.255.255", "::ffff:11.0.0.0"},
		{"64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff", "64:ff9b::", "", ""},
		{"64:ff9b::a00:0", "64:ff9b::aff:ffff", "64:ff9b::9ff:ffff", "64:ff9b::b00:0"},
		{"64:ff9b::1:0:0", "64:ff9b:0:ffff:ffff:ffff:ffff:ffff", "", ""},
		{"64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "", ""},
		{"64:ff9b:2::", "ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""},
		{"100::", "100::ffff:ffff:ffff:ffff", "", ""},
		{"100:0:0:1::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", "2000::"},
		{"2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::"},
		{"2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"},
		{"2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::"},
		{"3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::"},
		{"4000::", "5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""},
		{"5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""},
		{"fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""},
		{"fe00::", "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""},
		{"fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""},
		{"fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""},
		{"ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""},
	} {
		for _, addr := range []string{tt.first, tt.last} {
			if !prohibited(t, e, addr) {
				t.Errorf("%s may be reached, in %s to %s", addr, tt.first, tt.last)
			}
		}
		for _, addr := range []string{tt.before, tt.after} {
			if addr != "" && prohibited(t, e, addr) {
				t.Errorf("%s may not be reached, next to %s to %s", addr, tt.first, tt.last)
			}
		}
	}
}

func TestAddressesThatEmbedAnIPv4AddressAreGuarded(t *testing.T) {
	e := compile(t, Config{}, nil)
	for addr, want := range map[string]bool{
		"169.254.169.254": true, "fd00:ec2::254": true, "::ffff:169.254.169.254": true, "fe80::1%eth0": true, "::1%lo": true,
		"::127.0.0.1": true, "::8.8.8.8": true, // IPv4-compatible, whatever it embeds
		"64:ff9b::7f00:1": true, "64:ff9b::a9fe:a9fe": true, "64:ff9b::c000:201": true, "64:ff9b::808:808": false,
		"64:ff9b:1::7f00:1": true, "64:ff9b:1:7f00:0:100::": true, "64:ff9b:1::808:808": true,
		"2002:7f00:1::": true, "2002:808:808::1": true, // 6to4
		"2001:0:4136:e378:8000:63bf:3fff:fdd2": true,                                    // Teredo
		"2a00:1450::5efe:7f00:1":               true, "2a00:1450::200:5efe:a00:1": true, // ISATAP
		"2a00:1450::5efe:808:808": true, "2a00:1450::300:5efe:a00:1": false, "2a00:1450::400:5efe:a00:1": false, "2a00:1450::1:5efe:a00:1": false,
		"8.8.8.8": false, "::ffff:8.8.8.8": false, "2a00:1450:4001:80b::200e": false, "2606:4700::1111": false,
	} {
		if got := prohibited(t, e, addr); got != want {
			t.Errorf("prohibited(%s) = %v", addr, got)
		}
	}
}

func TestNoAddressIsNoDestination(t *testing.T) {
	for _, c := range []Config{{}, {PrivateDestinations: "allow"}} {
		if compile(t, c, nil).Destination(netip.Addr{}) == nil {
			t.Errorf("%+v: the zero address may be reached", c)
		}
	}
}

func TestExceptionsLiftTheGuardForExactlyTheirPrefixes(t *testing.T) {
	e := compile(t, Config{PrivateExceptions: []string{"10.1.0.0/16", "127.0.0.1", "fd00:1::/32", "::ffff:192.168.7.0/120", "2002::/16"}}, nil)
	for addr, want := range map[string]bool{
		"10.1.0.0": false, "10.1.255.255": false, "10.0.255.255": true, "10.2.0.0": true, "::ffff:10.1.2.3": false,
		"127.0.0.1": false, "127.0.0.2": true, "fd00:1::1": false, "fd00:2::1": true, "192.168.7.9": false, "192.168.8.0": true,
		"64:ff9b::a01:203": true, "2002:a01:203::1": false, "::10.1.2.3": true,
	} {
		if got := prohibited(t, e, addr); got != want {
			t.Errorf("prohibited(%s) = %v", addr, got)
		}
	}
	e = compile(t, Config{PrivateDestinations: "allow"}, nil)
	for _, addr := range []string{"127.0.0.1", "10.0.0.1", "fe80::1", "::1", "224.0.0.1"} {
		if prohibited(t, e, addr) {
			t.Errorf(`%s may not be reached with private_destinations = "allow"`, addr)
		}
	}
}
