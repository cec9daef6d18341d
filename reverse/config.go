package reverse

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"fwdproxy/compress"
	"fwdproxy/internal/pair"
	"fwdproxy/internal/problem"
	"fwdproxy/internal/target"
	"fwdproxy/internal/unit"
	"fwdproxy/waf"
)

// Config is the [reverse] section.
type Config struct {
	// Listen is the addresses that the sites are served on, as "address:port".
	Listen []string `toml:"listen"`
	// ProxyProtocol is the addresses and prefixes of load balancers that begin each connection with a PROXY header (version 1 or 2 of HAProxy's PROXY protocol), on the plain and the TLS ports. The client is then whom it names; a connection from there without one is closed. From anywhere else none is read.
	ProxyProtocol []string `toml:"proxy_protocol"`
	// TLS is a port to which clients speak TLS.
	TLS TLSConfig `toml:"tls"`
	// Sites say what becomes of a request: the most exact host first, then the longest
	// path, then the first in the file whose other conditions hold.
	Sites []SiteConfig `toml:"site"`
	// Trusted is who may say on whose behalf a request comes.
	Trusted TrustedConfig `toml:"trusted"`
	// Compress says how answers are encoded for sites that ask for it.
	Compress compress.Config `toml:"compress"`
	// WAF says what the web application firewall looks at, for sites that have one.
	WAF waf.Config `toml:"waf"`
}

// TLSConfig is the table [reverse.tls].
type TLSConfig struct {
	// Listen is the addresses that the sites are served on over TLS, HTTP/2 and HTTP/1.1, as "address:port".
	Listen []string `toml:"listen"`
	// Certificates is the pairs to choose from: the first whose certificate fits the name that a client asks for (SNI), or the first of all where none does.
	Certificates []pair.Files `toml:"certificates"`
}

// DefaultConfig returns an empty section's values.
func DefaultConfig() Config {
	return Config{Listen: []string{"127.0.0.1:8080"}, Trusted: TrustedConfig{Field: fieldXForwardedFor}, Compress: compress.DefaultConfig(), WAF: waf.DefaultConfig()}
}

// Validate reports every problem of the section; pools are the names that
// [[pool]] defines.
func (c Config) Validate(pools []string) problem.List {
	var p problem.List
	unit.CheckListen(&p, "reverse.listen", c.Listen)
	unit.CheckListen(&p, "reverse.tls.listen", c.TLS.Listen)
	unit.CheckNetworks(&p, "reverse.proxy_protocol", c.ProxyProtocol)
	if len(c.TLS.Listen) > 0 && len(c.TLS.Certificates) == 0 {
		p.Add("reverse.tls.certificates", `write [{ cert = "site.pem", key = "site.key" }]`, "TLS needs a certificate")
	}
	names, taken := map[string]int{}, map[string]int{}
	for i, s := range c.Sites {
		check := siteCheck{key: "reverse.site[" + strconv.Itoa(i) + "]", pools: pools}
		check.site(s)
		if other, dup := names[s.Name]; dup && s.Name != "" {
			check.add("name", "give one of them another name", "site %d has the name %q already", other+1, s.Name)
		}
		names[s.Name] = i
		check.hosts(i, s, taken)
		p = append(p, check.List...)
	}
	return slices.Concat(p, c.Trusted.validate(), c.Compress.Validate(), c.WAF.Validate(slices.Sorted(maps.Keys(names))))
}

// Guarded returns the names of the sites with a web application firewall, ""
// for those that have none.
func (c Config) Guarded() []string {
	var names []string
	for _, s := range c.Sites {
		if s.guarded() && !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	return names
}

// hosts checks the names of site i; taken holds which site has all requests
// for a host and path.
func (c *siteCheck) hosts(i int, s SiteConfig, taken map[string]int) {
	if len(s.Hosts) == 0 {
		c.add("hosts", "write [\"*\"] to answer to every name", "the site has no host")
	}
	for j, h := range s.Hosts {
		name, err := canonicalPattern(h)
		if err != nil {
			c.add("hosts["+strconv.Itoa(j)+"]", "write \"a.example\", \"*.a.example\" or \"*\"", "%v", err)
			continue
		}
		if other, dup := taken[name+s.path()]; dup {
			c.Add(c.key, "give one of them another host or path, or put the one with more conditions first",
				"site %d has every request for host %q and path %q already", other+1, h, s.path())
		} else if !s.conditional() {
			taken[name+s.path()] = i
		}
	}
}

// canonicalPattern returns a host pattern in canonical form.
func canonicalPattern(s string) (string, error) {
	if s == "*" {
		return s, nil
	}
	rest, wild := strings.CutPrefix(s, "*.")
	name, _, err := target.ParseHost(rest)
	if wild {
		name = "*." + name
	}
	return name, err
}
