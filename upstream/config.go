// Package upstream is the next hop as an http.RoundTripper: it resolves, asks
// whether the address may be used, dials, keeps connections, and speaks
// HTTP/1.1 with a client of its own, which refuses what two parties could read
// differently.
//
// It reads no proxy from the environment, never skips TLS verification, and
// repeats nothing that may have had an effect.
package upstream

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"fwdproxy/internal/problem"
	"fwdproxy/internal/target"
	"fwdproxy/internal/unit"
)

// Config is the table [upstream].
type Config struct {
	// ConnectTimeout is how long looking a name up, connecting and the TLS handshake may take together.
	ConnectTimeout unit.Duration `toml:"connect_timeout"`
	// ResponseTimeout is how long the next hop may take from the request to the head of its answer.
	ResponseTimeout unit.Duration `toml:"response_timeout"`
	// ReadTimeout is the longest pause between two pieces of an answer's body.
	ReadTimeout unit.Duration `toml:"read_timeout"`
	// KeepAlive is how long an unused connection is kept.
	KeepAlive unit.Duration `toml:"keepalive"`
	// MaxIdle is the most unused connections kept in all.
	MaxIdle int `toml:"max_idle"`
	// MaxIdlePerHost is the most unused connections kept for one host or peer.
	MaxIdlePerHost int `toml:"max_idle_per_host"`
	// MaxHeader is the largest head of an answer, in bytes; a larger one is a 502.
	MaxHeader unit.Size `toml:"max_header"`
	// MaxHeaders is the most field lines in an answer; more are a 502.
	MaxHeaders int `toml:"max_headers"`
	// Hosts holds addresses of names, asked before DNS as a hosts file is.
	Hosts map[string][]string `toml:"hosts"`
	// Resolver is the name server to ask, as "address:port"; "" is the system's.
	Resolver string `toml:"resolver"`
	// CAFile is a PEM file of certificate authorities to trust beside the system's; "" is none.
	CAFile string `toml:"ca_file"`
	// DirectFallback says whether a request goes straight to its origin when none of its parent proxies can be reached; with false it fails.
	DirectFallback bool `toml:"direct_fallback"`
	// Parents is the proxies that requests go through; of those that serve the host the first that can be reached. What none serves goes straight to its origin.
	Parents []ParentConfig `toml:"parent"`
}

// ParentConfig is one table [[upstream.parent]]. What the policy says about the
// destination is decided before the parent hears of it.
type ParentConfig struct {
	// URL is where the parent listens: "http://host:port", or "https://host:port" for TLS to the parent itself.
	URL string `toml:"url"`
	// To is the hosts that the parent serves: "a.b" that host alone, ".a.b" it and all below it; left out, every host.
	To []string `toml:"to"`
	// NotTo is hosts that the parent does not serve although "to" has them.
	NotTo []string `toml:"not_to"`
	// User is the name for the parent's Basic authentication; "" is none.
	User string `toml:"user"`
	// PasswordFile is a file with the password of user, and nothing else.
	PasswordFile string `toml:"password_file"`
	// Resolves says that the parent alone looks host names up. With false they are looked up here as well, and a name with any address that the policy refuses is refused; with true rules about addresses, and private_destinations, only hold for addresses that a client writes itself.
	Resolves bool `toml:"resolves"`
}

// target reads the URL: where the parent is, and whether it speaks TLS.
func (c ParentConfig) target() (to target.Target, secure bool, err error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return target.Target{}, false, fmt.Errorf("%q is not a URL", c.URL)
	}
	to, err = target.FromURL(u)
	if err == nil && (u.Port() == "" || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "") {
		err = fmt.Errorf("%q is more or less than a scheme, a host and a port", c.URL)
	}
	return to, to.Scheme == "https", err
}

// validate adds what is wrong with the parent at key.
func (c ParentConfig) validate(key string, p *problem.List) {
	if _, _, err := c.target(); err != nil {
		p.Add(key+".url", `write for example "http://parent.example:3128"; user and password have keys of their own`, "%v", err)
	}
	for _, set := range []struct {
		key     string
		entries []string
	}{{"to", c.To}, {"not_to", c.NotTo}} {
		for i, e := range set.entries {
			if err := new(target.Hosts).Add(e); err != nil {
				p.Add(key+"."+set.key+"["+strconv.Itoa(i)+"]", `write a host, or ".example.com" for a domain and all below it`, "%v", err)
			}
		}
	}
	switch {
	case c.User == "" && c.PasswordFile != "":
		p.Add(key+".user", "name the user, or leave password_file out", "there is a password and no user")
	case c.User != "" && c.PasswordFile == "":
		p.Add(key+".password_file", "name a file with the password", "user %q has no password", c.User)
	case strings.ContainsFunc(c.User, func(r rune) bool { return r == ':' || r < ' ' || r == 0x7f }):
		p.Add(key+".user", "choose a name without colon", "%q cannot stand in Basic credentials", c.User)
	}
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		ConnectTimeout:  unit.Duration(10 * time.Second),
		ResponseTimeout: unit.Duration(time.Minute),
		ReadTimeout:     unit.Duration(2 * time.Minute),
		KeepAlive:       unit.Duration(time.Minute),
		MaxIdle:         1024,
		MaxIdlePerHost:  64,
		MaxHeader:       64 << 10,
		MaxHeaders:      200,
	}
}

// Validate returns every problem of the table; it opens no file.
func (c Config) Validate() problem.List {
	var p problem.List
	for _, d := range []struct {
		key   string
		value unit.Duration
	}{
		{"connect_timeout", c.ConnectTimeout}, {"response_timeout", c.ResponseTimeout},
		{"read_timeout", c.ReadTimeout}, {"keepalive", c.KeepAlive},
	} {
		if d.value <= 0 {
			p.Add("upstream."+d.key, `write a duration such as "30s"`, "zero would wait for ever, or not at all")
		}
	}
	if c.MaxIdle < 0 {
		p.Add("upstream.max_idle", "write 0 or more", "%d is negative", c.MaxIdle)
	}
	if c.MaxIdlePerHost < 0 {
		p.Add("upstream.max_idle_per_host", "write 0 or more", "%d is negative", c.MaxIdlePerHost)
	}
	if c.MaxHeader < 4<<10 || c.MaxHeader > 1<<20 {
		p.Add("upstream.max_header", "write a size from 4KiB to 1MiB", "%s is out of range", c.MaxHeader)
	}
	if c.MaxHeaders < 16 || c.MaxHeaders > 10000 {
		p.Add("upstream.max_headers", "write a number from 16 to 10000", "%d is out of range", c.MaxHeaders)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Hosts)) {
		addrs := c.Hosts[name]
		key := "upstream.hosts." + strconv.Quote(name)
		if canonical, addr, err := target.ParseHost(name); err != nil || addr.IsValid() {
			p.Add(key, "", "%q is not a host name", name)
		} else if canonical != name {
			p.Add(key, "write "+strconv.Quote(canonical), "%q is not in canonical form", name)
		}
		if len(addrs) == 0 {
			p.Add(key, `write for example ["192.0.2.1"]`, "there is no address")
		}
		for _, a := range addrs {
			if addr, err := netip.ParseAddr(a); err != nil || addr.Zone() != "" {
				p.Add(key, `write for example "192.0.2.1"`, "%q is not an IP address", a)
			}
		}
	}
	if c.Resolver != "" {
		if _, err := netip.ParseAddrPort(c.Resolver); err != nil {
			p.Add("upstream.resolver", `write "address:port", as in "192.0.2.53:53"`, "%q is not an address with a port", c.Resolver)
		}
	}
	for i, parent := range c.Parents {
		parent.validate("upstream.parent["+strconv.Itoa(i)+"]", &p)
	}
	if c.DirectFallback && len(c.Parents) == 0 {
		p.Add("upstream.direct_fallback", "add an [[upstream.parent]], or leave it out", "there is no parent proxy to fall back from")
	}
	return p
}

// hostTable is Config.Hosts as addresses.
func hostTable(hosts map[string][]string) map[string][]netip.Addr {
	table := make(map[string][]netip.Addr, len(hosts))
	for name, addrs := range hosts {
		for _, a := range addrs {
			if addr, err := netip.ParseAddr(a); err == nil {
				table[name] = append(table[name], addr.Unmap())
			}
		}
	}
	return table
}
