package acl

import (
	"fmt"
	"net/netip"

	"fwdproxy/internal/fault"
)

// special is a range of addresses that are not global.
type special struct {
	prefix netip.Prefix
	what   string
}

// specials are the ranges that the IANA special-purpose address registries
// (RFC 6890) do not call globally reachable, with multicast, what was
// withdrawn, and the IPv6 forms that carry an IPv4 address. The first that
// holds an address describes it.
var specials = []special{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network, RFC 791"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private use, RFC 1918"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared with the provider, RFC 6598"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback, RFC 1122"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local, RFC 3927"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private use, RFC 1918"},
	{netip.MustParsePrefix("192.0.0.0/24"), "protocol assignments, RFC 6890"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation, RFC 5737"},
	{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relays, RFC 7526"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private use, RFC 1918"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarks, RFC 2544"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation, RFC 5737"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation, RFC 5737"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast, RFC 5771"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast, RFC 8190"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved, RFC 1112"},

	{netip.MustParsePrefix("::/128"), "unspecified, RFC 4291"},
	{netip.MustParsePrefix("::1/128"), "loopback, RFC 4291"},
	{netip.MustParsePrefix("::/96"), "IPv4-compatible, RFC 4291"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "local translation from IPv4, RFC 8215"},
	{netip.MustParsePrefix("100::/64"), "discard-only, RFC 6666"},
	{netip.MustParsePrefix("100:0:0:1::/64"), "dummy prefix, RFC 9780"},
	{netip.MustParsePrefix("2001::/32"), "Teredo, RFC 4380"},
	{netip.MustParsePrefix("2001::/23"), "protocol assignments, RFC 2928"},
	{netip.MustParsePrefix("2001:db8::/32"), "documentation, RFC 3849"},
	{netip.MustParsePrefix("2002::/16"), "6to4, RFC 3056"},
	{netip.MustParsePrefix("3fff::/20"), "documentation, RFC 9637"},
	{netip.MustParsePrefix("5f00::/16"), "segment routing, RFC 9602"},
	{netip.MustParsePrefix("fc00::/7"), "unique local, RFC 4193"},
	{netip.MustParsePrefix("fe80::/10"), "link-local, RFC 4291"},
	{netip.MustParsePrefix("fec0::/10"), "site-local, RFC 3879"},
	{netip.MustParsePrefix("ff00::/8"), "multicast, RFC 4291"},
}

var (
	nat64         = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052, Section 2.1
	globalUnicast = netip.MustParsePrefix("2000::/3")     // RFC 4291, Section 2.4: all that IANA allocates from
)

// Destination returns nil when the policy lets the proxy connect to addr, else
// a *fault.Error of kind DestinationIPProhibited. To hold against DNS
// rebinding it must be asked about the very address that is dialled.
//
// An IPv6 address that embeds an IPv4 address is prohibited whatever it
// embeds, save two forms: an IPv4-mapped address is the IPv4 address, and one
// under the well-known NAT64 prefix, which is how networks without IPv4 reach
// all of it, is judged by the address it embeds. An exception lifts the guard
// for the addresses it names, never for those that embed them.
func (e *Engine) Destination(addr netip.Addr) error {
	if addr.IsValid() && e.allowPrivate {
		return nil
	}
	addr = plain(addr)
	what := private(addr)
	if what == "" || e.exceptions.contains(addr) {
		return nil
	}
	err := fault.New(fault.DestinationIPProhibited,
		"the destination's address is not a public one, and this proxy connects to no other",
		fmt.Errorf("%s: %s", addr, what))
	err.Rule = "private_destinations"
	return err
}

// private returns what a plain address is instead of global, "" when it is.
func private(a netip.Addr) string {
	if !a.IsValid() {
		return "no address"
	}
	for i := range specials {
		if specials[i].prefix.Contains(a) {
			return specials[i].what
		}
	}
	if a.Is4() {
		return ""
	}
	b := a.As16()
	if nat64.Contains(a) {
		if what := private(netip.AddrFrom4([4]byte(b[12:]))); what != "" {
			return "NAT64 of an address that is " + what
		}
		return ""
	}
	if !globalUnicast.Contains(a) {
		return "outside global unicast, RFC 4291"
	}
	// ISATAP interface identifiers, RFC 5214, Section 6.1; the bit that differs
	// says whether the embedded address claims to be unique.
	if b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe {
		return "ISATAP, RFC 5214"
	}
	return ""
}
