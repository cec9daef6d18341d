package tunnel

import (
	"slices"
	"strconv"
	"time"

	"fwdproxy/internal/problem"
	"fwdproxy/internal/unit"
)

// Config is the table [forward.tunnel].
type Config struct {
	// Ports is where CONNECT may go: numbers, and ranges in quotes; elsewhere is a 403.
	Ports []unit.PortRange `toml:"ports"`
	// IdleTimeout is how long a tunnel may rest with no byte either way before it ends; after twice that it has ended.
	IdleTimeout unit.Duration `toml:"idle_timeout"`
	// Peek is those among ports on which a tunnel has to begin with TLS: there the server name (SNI) in the ClientHello is read, without decrypting anything, and held against the rules too.
	Peek []unit.PortRange `toml:"peek"`
	// NotTLS is what happens on those ports to a client that sends something else, or nothing: "deny" or "allow".
	NotTLS string `toml:"not_tls"`
	// NoSNI is what happens to TLS without a server name to a host that has one: "deny" or "allow".
	NoSNI string `toml:"no_sni"`
	// OtherSNI is what happens where the server name is another than the CONNECT's host, as in domain fronting: "deny", or "allow" if the rules allow that name as well.
	OtherSNI string `toml:"other_sni"`
	// ECH is what happens where the server name is another and the real one may be encrypted (Encrypted Client Hello): "deny", or "allow" if the rules allow the name that is seen.
	ECH string `toml:"ech"`
	// Lifetime is how long a tunnel may be open at all.
	Lifetime unit.Duration `toml:"lifetime"`
	// OnReload is what happens on a reload to tunnels and WebSockets that are open and that the new policy would refuse if they began now, or intercept and did not, or the other way round (their time, user with groups, address and server name are held against it): "cut" or "keep". Between reloads nothing is asked again, so that a time window that closes lets open ones go on.
	OnReload string `toml:"on_reload"`
}

const (
	deny  = "deny"
	allow = "allow"
	cut   = "cut"
	keep  = "keep"
)

// DefaultConfig lets CONNECT go to port 443 alone.
func DefaultConfig() Config {
	return Config{
		Ports:       []unit.PortRange{{First: 443, Last: 443}},
		IdleTimeout: unit.Duration(10 * time.Minute),
		Peek:        []unit.PortRange{{First: 443, Last: 443}},
		NotTLS:      deny,
		NoSNI:       deny,
		OtherSNI:    deny,
		ECH:         deny,
		Lifetime:    unit.Duration(24 * time.Hour),
		OnReload:    cut,
	}
}

// Validate returns every problem of the table.
func (c Config) Validate() problem.List {
	var p problem.List
	for _, ports := range []struct {
		key  string
		list []unit.PortRange
	}{{"ports", c.Ports}, {"peek", c.Peek}} {
		for i, r := range ports.list {
			if r.First == 0 || r.Last < r.First {
				p.Add("forward.tunnel."+ports.key+"["+strconv.Itoa(i)+"]", `write a number, or a range as "8443-8449"`, "%s is no port", r)
			}
		}
	}
	for _, word := range []struct{ key, value string }{{"not_tls", c.NotTLS}, {"no_sni", c.NoSNI}, {"other_sni", c.OtherSNI}, {"ech", c.ECH}} {
		if word.value != deny && word.value != allow {
			p.Add("forward.tunnel."+word.key, `write "deny" or "allow"`, "%q is neither", word.value)
		}
	}
	if c.OnReload != cut && c.OnReload != keep {
		p.Add("forward.tunnel.on_reload", `write "cut" or "keep"`, "%q is neither", c.OnReload)
	}
	if c.IdleTimeout <= 0 {
		p.Add("forward.tunnel.idle_timeout", `write a duration such as "10m"`, "zero would end every tunnel at once, or none")
	}
	if c.Lifetime <= 0 {
		p.Add("forward.tunnel.lifetime", `write a duration such as "24h"`, "zero would end every tunnel at once")
	}
	return p
}

// Allows reports whether CONNECT may go to the port.
func (c Config) Allows(port uint16) bool { return contain(c.Ports, port) }

// Peeks reports whether a tunnel to the port has to begin with TLS, which is
// looked at.
func (c Config) Peeks(port uint16) bool { return contain(c.Peek, port) }

// CutsOnReload reports whether a reload ends the tunnels that it denies.
func (c Config) CutsOnReload() bool { return c.OnReload != keep }

func contain(ports []unit.PortRange, port uint16) bool {
	return slices.ContainsFunc(ports, func(r unit.PortRange) bool { return r.Contains(port) })
}
