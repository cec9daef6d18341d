package unit

import (
	"net/netip"
	"strconv"
)

// Networks returns the addresses and prefixes of a list, those left out that
// CheckNetworks complains about.
func Networks(list []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		if p, ok := parseNetwork(s); ok {
			out = append(out, p)
		}
	}
	return out
}

// CheckNetworks adds what is wrong with the addresses and prefixes of the key
// to p, a *problem.List.
func CheckNetworks(p interface {
	Add(key, hint, format string, args ...any)
}, key string, list []string) {
	for i, s := range list {
		if _, ok := parseNetwork(s); !ok {
			p.Add(key+"["+strconv.Itoa(i)+"]", `write for example "10.0.0.0/8" or "192.0.2.7"`, "%q is no address and no prefix", s)
		}
	}
}

// parseNetwork reads an address or a prefix whose host bits are zero.
func parseNetwork(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), a.Zone() == ""
	}
	p, err := netip.ParsePrefix(s)
	return p, err == nil && p.Masked() == p && !p.Addr().Is4In6()
}
