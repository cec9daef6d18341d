package reverse

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"fwdproxy/internal/edge"
	"fwdproxy/internal/header"
	"fwdproxy/internal/problem"
	"fwdproxy/internal/unit"
)

// TrustedConfig is the table [reverse.trusted].
type TrustedConfig struct {
	// From holds the addresses and prefixes of proxies and load balancers in front of
	// this one. What they say about who asks is believed; nobody else's word is.
	From []string `toml:"from"`
	// Field is where they say it: "X-Forwarded-For", with the scheme in
	// X-Forwarded-Proto, or "Forwarded" (RFC 7239). They must set it themselves, or
	// append to it; the other is ignored, and neither goes further as it came.
	Field string `toml:"field"`
}

const (
	fieldXForwardedFor = "X-Forwarded-For"
	fieldForwarded     = "Forwarded"
)

// maxHops bounds the hops that are looked at.
const maxHops = 32

// Trusted tells who really asks.
type Trusted struct {
	from      []netip.Prefix
	forwarded bool
}

func (c TrustedConfig) validate() problem.List {
	var p problem.List
	unit.CheckNetworks(&p, "reverse.trusted.from", c.From)
	if c.Field != fieldXForwardedFor && c.Field != fieldForwarded {
		p.Add("reverse.trusted.field", `write "X-Forwarded-For" or "Forwarded"`, "%q is not a field that says who asks", c.Field)
	}
	return p
}

// NewTrusted compiles what Validate found right.
func NewTrusted(c TrustedConfig) Trusted {
	return Trusted{from: unit.Networks(c.From), forwarded: c.Field == fieldForwarded}
}

func (t *Trusted) has(a netip.Addr) bool {
	return slices.ContainsFunc(t.from, func(p netip.Prefix) bool { return p.Contains(a) })
}

// asker is who asks, as far as that is known for sure.
type asker struct {
	client netip.Addr
	scheme string       // that the client speaks, where a trusted hop says it
	hops   []netip.Addr // trusted ones between the client and this proxy, in their order
}

// said is what the message says about one hop.
type said struct {
	client netip.Addr // zero where it says nothing that can be read
	scheme string
}

// ask walks from the connection's other end towards the client for as long as
// what speaks is trusted.
func (t *Trusted) ask(r *http.Request) asker {
	at := asker{client: edge.ClientAddr(r)}
	if len(t.from) == 0 || !t.has(at.client) {
		return at
	}
	chain := t.read(r.Header) // the nearest first
	if len(chain) > 0 {
		at.scheme = chain[0].scheme
	}
	for _, hop := range chain[:min(len(chain), maxHops)] {
		if !hop.client.IsValid() || !t.has(at.client) {
			break
		}
		at.hops = append(at.hops, at.client)
		at.client = hop.client
	}
	slices.Reverse(at.hops)
	return at
}

// read returns what the field says, the nearest hop first.
func (t *Trusted) read(h http.Header) (chain []said) {
	name := fieldXForwardedFor
	if t.forwarded {
		name = fieldForwarded
	}
	for _, line := range h[name] {
		for e := range header.Elements(line) {
			switch {
			case e == "":
			case t.forwarded:
				chain = append(chain, parseForwarded(e))
			default:
				chain = append(chain, said{client: parseNode(e)})
			}
		}
	}
	slices.Reverse(chain)
	if t.forwarded {
		return chain
	}
	if protos := header.Tokens(h, "X-Forwarded-Proto"); len(protos) > 0 {
		if len(chain) == 0 {
			chain = []said{{}}
		}
		chain[0].scheme = schemeOf(protos[len(protos)-1])
	}
	return chain
}

// parseForwarded reads one element of Forwarded (RFC 7239, Section 4). One
// that is malformed says nothing.
func parseForwarded(element string) (s said) {
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(element, ";") {
		name, value, ok := strings.Cut(header.Trim(pair), "=")
		name = strings.ToLower(name)
		if !ok || !header.IsToken(name) || seen[name] {
			return said{}
		}
		seen[name] = true
		if quoted, is := strings.CutPrefix(value, `"`); is {
			value, is = strings.CutSuffix(quoted, `"`)
			if !is || strings.ContainsAny(value, `"\`) {
				return said{} // no address and no scheme needs an escape
			}
		} else if !header.IsToken(value) {
			return said{}
		}
		switch name {
		case "for":
			s.client = parseNode(value)
		case "proto":
			s.scheme = schemeOf(value)
		}
	}
	return s
}

// parseNode reads an address, with or without a port (RFC 7239, Section 6).
// "unknown" and hidden names are none.
func parseNode(s string) netip.Addr {
	host := s
	if h, _, err := net.SplitHostPort(s); err == nil {
		host = h
	} else if inner, ok := strings.CutPrefix(s, "["); ok {
		host = strings.TrimSuffix(inner, "]")
	}
	a, err := netip.ParseAddr(host)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}
	}
	return a.Unmap()
}

func schemeOf(s string) string {
	if s = strings.ToLower(s); s == "http" || s == "https" {
		return s
	}
	return ""
}

// chain is what X-Forwarded-For says to a pool: the client, and the hops that
// it came through.
func (a asker) chain() string {
	if !a.client.IsValid() {
		return ""
	}
	b := a.client.AppendTo(nil)
	for _, hop := range a.hops {
		b = hop.AppendTo(append(b, ", "...))
	}
	return string(b)
}
