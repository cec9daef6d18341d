package tunnel

import (
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
	// Lifetime is how long a tunnel may be open at all.
	Lifetime unit.Duration `toml:"lifetime"`
}

// DefaultConfig lets CONNECT go to port 443 alone.
func DefaultConfig() Config {
	return Config{
		Ports:       []unit.PortRange{{First: 443, Last: 443}},
		IdleTimeout: unit.Duration(10 * time.Minute),
		Lifetime:    unit.Duration(24 * time.Hour),
	}
}

// Validate returns every problem of the table.
func (c Config) Validate() problem.List {
	var p problem.List
	for i, r := range c.Ports {
		if r.First == 0 || r.Last < r.First {
			p.Add("forward.tunnel.ports["+strconv.Itoa(i)+"]", `write a number, or a range as "8443-8449"`, "%s is no port", r)
		}
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
func (c Config) Allows(port uint16) bool {
	for _, r := range c.Ports {
		if r.Contains(port) {
			return true
		}
	}
	return false
}
