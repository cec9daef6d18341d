// Package target reads where a request wants to go into one canonical form,
// which is then decided, dialled, keyed and logged: nobody reads a host twice.
//
// It resolves nothing and knows no policy.
package target

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// Target is an authority in canonical form.
type Target struct {
	Scheme string     // "http" or "https"; "" for a tunnel
	Host   string     // lower case, punycode, no trailing dot, no brackets; an address in netip's form
	Addr   netip.Addr // the host, where it is an IP literal (IPv4-mapped forms unmapped)
	Port   uint16     // never 0
}

// HostPort returns host:port, an IPv6 host in brackets, the port always there.
func (t Target) HostPort() string {
	return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
}

// Authority returns the host as a Host field carries it: without the
// scheme's default port (RFC 9110, Section 4.2.3).
func (t Target) Authority() string {
	if t.Port == DefaultPort(t.Scheme) {
		if t.Addr.Is6() {
			return "[" + t.Host + "]"
		}
		return t.Host
	}
	return t.HostPort()
}

// Origin returns scheme://authority.
func (t Target) Origin() string { return t.Scheme + "://" + t.Authority() }

// DefaultPort returns the port of the scheme, 0 for one that is neither http
// nor https.
func DefaultPort(scheme string) uint16 {
	switch scheme {
	case "http":
		return 80
	case "https":
		return 443
	}
	return 0
}

// FromURL reads the authority of an absolute http or https URL. Userinfo is
// refused (RFC 9110, Section 4.2.4).
func FromURL(u *url.URL) (Target, error) {
	scheme := strings.ToLower(u.Scheme)
	if DefaultPort(scheme) == 0 {
		return Target{}, fmt.Errorf("scheme %q is not served here; http and https are", u.Scheme)
	}
	if u.User != nil {
		return Target{}, errors.New("a user name or password in the URL is refused; send an Authorization field instead")
	}
	if u.Opaque != "" {
		return Target{}, errors.New("the URL has no host; write http://host/path")
	}
	return FromAuthority(u.Host, scheme)
}

// FromAuthority reads host[:port]; the port may be left out where the scheme
// has a default (RFC 9110, Section 4.2), never in a CONNECT authority (scheme
// "", RFC 9110, Section 9.3.6).
func FromAuthority(authority, scheme string) (Target, error) {
	if strings.ContainsAny(authority, "/\\@?# \t") {
		return Target{}, fmt.Errorf("authority %q is malformed; write host or host:port", authority)
	}
	host, port, ok := split(authority)
	if !ok {
		return Target{}, fmt.Errorf("authority %q is malformed; write host:port, an IPv6 address in brackets", authority)
	}
	t := Target{Scheme: scheme, Port: DefaultPort(scheme)}
	if port == "" && t.Port == 0 {
		return Target{}, fmt.Errorf("authority %q has no port; write host:port", authority)
	}
	var err error
	if port != "" {
		if t.Port, err = parsePort(port); err != nil {
			return Target{}, err
		}
	}
	t.Host, t.Addr, err = ParseHost(host)
	return t, err
}

func split(authority string) (host, port string, ok bool) {
	if rest, bracketed := strings.CutPrefix(authority, "["); bracketed {
		inner, after, closed := strings.Cut(rest, "]")
		if !closed || !strings.Contains(inner, ":") {
			return "", "", false
		}
		if after == "" {
			return inner, "", true
		}
		port, ok = strings.CutPrefix(after, ":")
		return inner, port, ok && port != ""
	}
	host, port, hasPort := strings.Cut(authority, ":")
	if strings.Contains(port, ":") || (hasPort && port == "") {
		return "", "", false
	}
	return host, port, true
}

func parsePort(s string) (uint16, error) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("port %q is not a number", s)
		}
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("port %q is not between 1 and 65535", s)
	}
	return uint16(n), nil
}

// lookup maps names as a resolver wants them (UTS 46, non-transitional). It
// leaves underscores and odd hyphens alone, which real host names have.
var lookup = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false), idna.CheckHyphens(false), idna.BidiRule())

// ParseHost returns the canonical form of a host without port: an IP literal
// as an address, a name in lower-case punycode without its trailing dot. What
// some resolver would read as another address (2130706433, 0x7f.1, 127.1) is
// an error, as is a percent sign.
func ParseHost(s string) (string, netip.Addr, error) {
	var none netip.Addr
	if s == "" {
		return "", none, errors.New("the host is empty")
	}
	if strings.Contains(s, ":") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return "", none, fmt.Errorf("host %q is not an IPv6 address without zone", s)
		}
		a = a.Unmap()
		return a.String(), a, nil
	}
	if len(s) > 1024 {
		return "", none, errors.New("the host is longer than a name can be")
	}
	name, ok := canonicalName(s)
	if !ok {
		return "", none, fmt.Errorf("host %q is not a host name", s)
	}
	if a, err := netip.ParseAddr(name); err == nil {
		return a.String(), a, nil
	}
	if endsInNumber(name) {
		return "", none, fmt.Errorf("host %q is no name and no dotted IPv4 address", s)
	}
	return name, none, nil
}

// canonicalName returns s as a name's canonical form, and whether it is one.
func canonicalName(s string) (string, bool) {
	name := strings.ToLower(s)
	if !isASCII(name) || strings.Contains(name, "xn--") {
		var err error
		if name, err = lookup.ToASCII(s); err != nil {
			return "", false
		}
		// Some of what it makes (of bytes that are no UTF-8, for one) it would refuse itself.
		if again, err := lookup.ToASCII(name); err != nil || again != name {
			return "", false
		}
	}
	name = strings.TrimSuffix(name, ".")
	if len(name) == 0 || len(name) > 253 {
		return "", false
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) == 0 || len(label) > 63 {
			return "", false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return "", false
			}
		}
	}
	return name, true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// endsInNumber reports whether the last label is decimal, octal or
// hexadecimal, so that a resolver might take the name for an address.
func endsInNumber(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	digits := true
	for _, c := range []byte(last) {
		digits = digits && c >= '0' && c <= '9'
	}
	if digits {
		return true
	}
	hex, ok := strings.CutPrefix(last, "0x")
	if !ok {
		return false
	}
	for _, c := range []byte(hex) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
