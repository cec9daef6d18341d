package forward

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"fwdproxy/internal/edge"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/problem"
	"fwdproxy/internal/target"
)

// PACConfig is the table [forward.pac].
type PACConfig struct {
	// Proxy is the proxies as clients reach them, each tried where those before it do not answer: "proxy.example:3128", or "https://proxy.example:3129" for a port of [forward.tls]. Left out it is what the client asked for the file: the host in its URL, on that port, with TLS where it came with TLS.
	Proxy []string `toml:"proxy"`
	// Direct is what clients reach without the proxy, and so without its rules: ".a.b" (a.b and all below it), "a.b" (that host alone), addresses and prefixes. An address counts where the URL has one; clients resolve no name for it. Names without a dot, localhost and loopback addresses always go direct.
	Direct []string `toml:"direct"`
	// Fallback is what clients do when no proxy answers: "none" fails, "direct" goes past the proxy.
	Fallback string `toml:"fallback"`
}

const (
	fallbackNone   = "none"
	fallbackDirect = "direct"
)

func (c PACConfig) validate() problem.List {
	var p problem.List
	for i, s := range c.Proxy {
		if _, err := parseProxy(s); err != nil {
			p.Add("forward.pac.proxy["+strconv.Itoa(i)+"]", `write for example "proxy.example:3128" or "https://proxy.example:3129"`, "%s", err)
		}
	}
	for i, s := range c.Direct {
		if err := new(PAC).addDirect(s); err != nil {
			p.Add("forward.pac.direct["+strconv.Itoa(i)+"]", `write for example ".intranet.example", "10.0.0.0/8" or "2001:db8::/32"`, "%s", err)
		}
	}
	if c.Fallback != fallbackNone && c.Fallback != fallbackDirect {
		p.Add("forward.pac.fallback", `write "none" or "direct"`, "%q is nothing that a client can do", c.Fallback)
	}
	return p
}

// parseProxy reads host:port, with a scheme or without, which is http.
func parseProxy(s string) (target.Target, error) {
	scheme, authority, found := strings.Cut(s, "://")
	if !found {
		scheme, authority = "http", s
	}
	if scheme != "http" && scheme != "https" {
		return target.Target{}, fmt.Errorf("clients speak http or https with a proxy, and not %q", scheme)
	}
	t, err := target.FromAuthority(authority, "") // "" wants a port
	t.Scheme = scheme
	return t, err
}

// PAC makes the proxy auto-configuration files of one policy. Its zero value
// knows no proxy but the one that is asked, and nothing to reach without it.
type PAC struct {
	proxies            []target.Target
	names, below, bits []string
	fallback           bool
}

// NewPAC returns what a valid c says.
func NewPAC(c PACConfig) PAC {
	p := PAC{fallback: c.Fallback == fallbackDirect}
	for _, s := range c.Proxy {
		if t, err := parseProxy(s); err == nil {
			p.proxies = append(p.proxies, t)
		}
	}
	for _, s := range c.Direct {
		_ = p.addDirect(s) // validate has complained
	}
	return p
}

func (p *PAC) addDirect(s string) error {
	if prefix, err := netip.ParsePrefix(s); err == nil {
		if prefix.Addr().Is4In6() {
			return fmt.Errorf("%q is an IPv4 prefix in IPv6 form", s)
		}
		if masked := prefix.Masked(); masked != prefix {
			return fmt.Errorf("%q has bits set behind its prefix, which is %q", s, masked)
		}
		p.bits = append(p.bits, bitsOf(prefix))
		return nil
	}
	name, below := strings.CutPrefix(s, ".")
	name, addr, err := target.ParseHost(name)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no host, address or prefix: %w", s, err)
	case below && addr.IsValid():
		return fmt.Errorf("nothing lies below the address %s", addr)
	case addr.IsValid():
		p.bits = append(p.bits, bitsOf(netip.PrefixFrom(addr, addr.BitLen())))
	case below:
		p.below = append(p.below, "."+name)
	default:
		p.names = append(p.names, name)
	}
	return nil
}

// bitsOf returns a prefix as the script compares it.
func bitsOf(p netip.Prefix) string {
	b := strings.Builder{}
	b.WriteString("4:")
	if p.Addr().Is6() {
		b.Reset()
		b.WriteString("6:")
	}
	for _, octet := range p.Addr().AsSlice() {
		fmt.Fprintf(&b, "%08b", octet)
	}
	return b.String()[:len("4:")+p.Bits()]
}

//go:embed pac.js
var pacSource string

var pacTemplate = template.Must(template.New("pac.js").Parse(pacSource))

// alwaysDirect is what is the client's own.
var alwaysDirect = []string{"127.0.0.0/8", "::1", ".localhost"}

// Script returns the file for a client that reached the proxy as asked says.
// What stands in it is data: no string of a policy or request can become code.
func (p PAC) Script(asked target.Target) []byte {
	proxies := p.proxies
	if len(proxies) == 0 {
		proxies = []target.Target{asked}
	}
	var through []string
	for _, t := range proxies {
		kind := "PROXY "
		if t.Scheme == "https" {
			kind = "HTTPS "
		}
		through = append(through, kind+t.HostPort())
	}
	if p.fallback {
		through = append(through, "DIRECT")
	}
	direct := PAC{names: p.names, below: p.below, bits: p.bits}
	for _, s := range alwaysDirect {
		_ = direct.addDirect(s)
	}
	var out bytes.Buffer
	_ = pacTemplate.Execute(&out, map[string]string{ // a Buffer takes everything
		"Proxies": literal(strings.Join(through, "; ")),
		"Names":   literal(append([]string{}, direct.names...)),
		"Below":   literal(direct.below),
		"Bits":    literal(direct.bits),
	})
	return out.Bytes()
}

// literal returns strings as JavaScript. JSON as encoding/json writes it is
// that, for old engines too: it escapes U+2028 and U+2029, and the signs of
// HTML besides.
func literal(v any) string {
	b, _ := json.Marshal(v) // of strings it cannot fail
	return string(b)
}

// PACType is the media type of the file.
const PACType = "application/x-ns-proxy-autoconfig"

// PACAge is for how long clients may keep it, as a Cache-Control field.
const PACAge = "max-age=300"

var pacPaths = []string{"/proxy.pac", "/wpad.dat"}

// asksPAC reports whether a request to the proxy is for its PAC file. Over HTTP/2, which has no origin-form, the
// request names the host that the TLS connection was opened to.
func asksPAC(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if r.ProtoMajor == 2 {
		if r.TLS == nil || r.URL.Scheme != "https" || !toItself(r) {
			return false
		}
		path = r.URL.EscapedPath()
	}
	return slices.Contains(pacPaths, path)
}

// toItself reports whether the request is for the host that the client opened
// its TLS connection to.
func toItself(r *http.Request) bool {
	t, err := target.FromURL(r.URL)
	if err != nil {
		return false
	}
	if t.Addr.IsValid() {
		return t.Addr == localAddr(r).Addr().Unmap()
	}
	name, _, err := target.ParseHost(r.TLS.ServerName)
	return err == nil && name == t.Host
}

func localAddr(r *http.Request) netip.AddrPort {
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if at, err := netip.ParseAddrPort(a.String()); err == nil {
			return at
		}
	}
	return netip.AddrPort{}
}

// servePAC answers without asking who asks: a browser has no credentials yet,
// and needs the file to know whom to give them to.
func (s *Settings) servePAC(x *edge.Exchange, r *http.Request) {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	authority := r.Host
	if authority == "" {
		authority = localAddr(r).String()
	}
	asked, err := target.FromAuthority(authority, scheme)
	if err != nil {
		x.Fail(fault.New(fault.RequestError, err.Error(), nil))
		return
	}
	script := s.PAC.Script(asked)
	body := io.NopCloser(bytes.NewReader(script))
	if r.Method == http.MethodHead {
		body = http.NoBody
	}
	x.Respond(&http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Content-Type": {PACType}, "Content-Length": {strconv.Itoa(len(script))}, "Cache-Control": {PACAge},
			// A page must not load it as its own script, and read what it says.
			"X-Content-Type-Options": {"nosniff"}, "Cross-Origin-Resource-Policy": {"same-origin"},
		},
		Body: body, ContentLength: int64(len(script)), Request: r,
	})
}
