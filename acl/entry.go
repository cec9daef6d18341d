package acl

import (
	"fmt"
	"math/bits"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"fwdproxy/internal/target"
)

// entry is one destination or client in canonical form: a prefix when that is
// valid, else a name, and with a path the URLs that begin with both.
type entry struct {
	prefix netip.Prefix
	name   string
	below  bool   // the name and all names below it
	under  bool   // all names below it, and not the name
	except bool   // not what is said, whatever a shorter name says
	path   string // and query, plain; the name may be an address then
}

func single(a netip.Addr) entry { return entry{prefix: netip.PrefixFrom(a, a.BitLen())} }

// String returns the form that the entry is best written in.
func (e entry) String() string {
	switch {
	case e.except:
		e.except = false
		return "!" + e.String()
	case !e.prefix.IsValid() && e.under:
		return "*." + e.name
	case !e.prefix.IsValid() && e.below:
		return "." + e.name
	case !e.prefix.IsValid() && e.path != "":
		return bracketed(e.name) + e.path
	case !e.prefix.IsValid():
		return e.name
	case e.prefix.IsSingleIP():
		return e.prefix.Addr().String()
	}
	return e.prefix.String()
}

func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// mistake says what is wrong with an entry, and what would be right.
type mistake struct{ message, hint string }

func mistaken(hint, format string, args ...any) *mistake {
	return &mistake{message: fmt.Sprintf(format, args...), hint: hint}
}

const (
	entryHint   = `write "a.b" for one host, ".a.b" for it and all below it, an address, or a prefix as "10.0.0.0/8"`
	addressHint = `write an address, or a prefix as "10.0.0.0/8"`
)

// quote shows what somebody wrote, cut to what fits a line.
func quote(s string) string {
	if len(s) > 80 {
		return strconv.Quote(s[:80]) + "..."
	}
	return strconv.Quote(s)
}

// parseEntry reads a domain, an address or a prefix.
func parseEntry(s string) (entry, *mistake) {
	switch {
	case s == "":
		return entry{}, mistaken(entryHint, "the entry is empty")
	case strings.ContainsAny(s, " \t\r\n"):
		return entry{}, mistaken("one entry each, without spaces", "%s has a space in it", quote(s))
	case strings.Contains(s, "://"):
		return entry{}, urlMistake(s)
	case strings.Contains(s, "*"):
		return entry{}, wildcardMistake(s)
	case strings.Contains(s, "/"):
		return parsePrefix(s)
	}
	name, isBelow := strings.CutPrefix(s, ".")
	host, addr, err := target.ParseHost(name)
	switch {
	case err != nil:
		return entry{}, hostMistake(s, name)
	case addr.IsValid() && isBelow:
		return entry{}, mistaken("write "+strconv.Quote(addr.String()), "%s: nothing is below an address", quote(s))
	case addr.IsValid():
		return single(addr), nil
	}
	return entry{name: host, below: isBelow}, nil
}

// parseAddress reads an address or a prefix.
func parseAddress(s string) (entry, *mistake) {
	e, bad := parseEntry(s)
	switch {
	case bad == nil && !e.prefix.IsValid():
		return entry{}, mistaken(addressHint, "%s is a name, not an address", quote(s))
	case bad != nil && bad.hint == entryHint:
		bad.hint = addressHint
	}
	return e, bad
}

// parseDomain reads ".a.b" or "a.b".
func parseDomain(s string) (entry, *mistake) {
	e, bad := parseEntry(s)
	if bad == nil && e.prefix.IsValid() {
		return entry{}, mistaken(`put it under "addresses"`, "%s is an address, not a domain", quote(s))
	}
	return e, bad
}

func parsePrefix(s string) (entry, *mistake) {
	before, after, _ := strings.Cut(s, "/")
	p, err := netip.ParsePrefix(s)
	if err != nil {
		e, bad := parseEntry(before)
		switch {
		case bad != nil && before != "":
			return entry{}, bad
		case bad == nil && !e.prefix.IsValid():
			return entry{}, mistaken("write "+strconv.Quote(e.String())+`, or put the URL under "urls" of a list`, "%s has a path", quote(s))
		}
		if fixed, ok := fromNetmask(before, after); ok {
			return entry{}, mistaken("write "+strconv.Quote(fixed), "%s has a netmask", quote(s))
		}
		return entry{}, mistaken(addressHint, "%s is not a prefix", quote(s))
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return entry{}, mistaken(`write "0.0.0.0/0" for all IPv4 addresses, "::/0" for all IPv6 addresses`,
				"%s is wider than the IPv4-mapped addresses", quote(s))
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	if m := p.Masked(); m != p {
		return entry{}, mistaken(fmt.Sprintf("write %q for all of it, or %q", m, p.Addr()),
			"%s has bits set behind its %d-bit prefix", quote(s), p.Bits())
	}
	return entry{prefix: p}, nil
}

// fromNetmask returns addr/mask, as Squid writes it, in CIDR form.
func fromNetmask(addr, mask string) (string, bool) {
	a, err := netip.ParseAddr(addr)
	m, err2 := netip.ParseAddr(mask)
	if err != nil || err2 != nil || a.BitLen() != m.BitLen() {
		return "", false
	}
	ones, ended := 0, false
	for _, b := range m.AsSlice() {
		n := bits.LeadingZeros8(^b)
		if ended && b != 0 || b != ^byte(0xff>>n) {
			return "", false
		}
		ones += n
		ended = ended || n < 8
	}
	return netip.PrefixFrom(a, ones).Masked().String(), true
}

func urlMistake(s string) *mistake {
	hint := entryHint
	if u, err := url.Parse(s); err == nil {
		if host, _, err := target.ParseHost(u.Hostname()); err == nil {
			hint = "write " + strconv.Quote(host) + `, or put the URL under "urls" of a list`
		}
	}
	return mistaken(hint, "%s is a URL", quote(s))
}

func wildcardMistake(s string) *mistake {
	hint := entryHint
	if rest, ok := strings.CutPrefix(s, "*."); ok {
		if e, bad := parseEntry("." + rest); bad == nil {
			hint = "write " + strconv.Quote(e.String())
		}
	}
	return mistaken(hint, "%s has a wildcard", quote(s))
}

// hostMistake says why s, without its leading dot name, is no host.
func hostMistake(s, name string) *mistake {
	first, last, isRange := strings.Cut(s, "-")
	if isRange && isAddress(first) && isAddress(last) {
		return mistaken(addressHint+", as many as it takes", "%s is a range", quote(s))
	}
	t, err := target.FromAuthority(name, "http")
	if err != nil || !strings.Contains(name, ":") {
		return mistaken(entryHint, "%s is neither a host name nor an address", quote(s))
	}
	host := strings.TrimSuffix(s, name) + t.Host
	if strings.HasSuffix(name, "]") {
		return mistaken("write "+strconv.Quote(host), "%s has brackets", quote(s))
	}
	return mistaken(fmt.Sprintf(`write %q, and put the port under "ports"`, host), "%s has a port", quote(s))
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}
