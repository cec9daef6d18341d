// Package cache is RFC 9111 as an http.RoundTripper in front of the next hop:
// key, storability, freshness, validation, collapsing, invalidation.
//
// The rules are pure functions that take the time as an argument; transport.go,
// fetch.go, flight.go, fill.go and index.go do what they decide. It never dials,
// never decides who may go where (it asks the request's hop.Hop before it
// reuses anything), and never writes to a client.
package cache

import (
	"net/http"
	"strconv"
	"time"

	"fwdproxy/cache/store"
	"fwdproxy/internal/header"
	"fwdproxy/internal/problem"
	"fwdproxy/internal/unit"
)

// Config is the table [cache].
type Config struct {
	// Memory is how much memory stored responses may take; 0 turns the cache
	// off. About a sixteenth comes on top for copying and the index, and up to a
	// quarter while responses arrive.
	Memory unit.Size `toml:"memory"`
	// MaxObject is the largest body that is stored, a quarter of memory at most.
	MaxObject unit.Size `toml:"max_object"`
	// CollapseTimeout is how long a request waits for another's fetch of the
	// same thing to begin answering before it fetches by itself; 0 never waits.
	CollapseTimeout unit.Duration `toml:"collapse_timeout"`
	// Targeted names the fields that a response directs this cache by in place of
	// Cache-Control and Expires (RFC 9213), the first that is valid counts. When
	// left out: Fwdproxy-Cache-Control, then CDN-Cache-Control in reverse mode, and
	// none in forward mode, where the cache acts for no origin.
	Targeted []string `toml:"targeted"`
	// Rules are tried in order; the first whose conditions all hold says how the
	// responses of a URL are kept, and no other.
	Rules []RuleConfig `toml:"rule"`
}

// ownField is the targeted field for this cache alone. Where it counts it goes
// no further.
const ownField = "Fwdproxy-Cache-Control"

// ForReverse returns c as it is in reverse mode.
func (c Config) ForReverse() Config {
	if c.Targeted == nil {
		c.Targeted = []string{ownField, "CDN-Cache-Control"}
	}
	return c
}

// targeted returns the targeted fields in canonical form.
func (c Config) targeted() []string {
	out := make([]string, len(c.Targeted))
	for i, name := range c.Targeted {
		out[i] = http.CanonicalHeaderKey(name)
	}
	return out
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Memory:          256 << 20,
		MaxObject:       64 << 20,
		CollapseTimeout: unit.Duration(5 * time.Second),
	}
}

// Validate returns what is wrong with the configuration.
func (c Config) Validate() problem.List {
	_, l := c.rules()
	for i, name := range c.targeted() {
		if !header.IsToken(name) || name == "Cache-Control" {
			l.Add("cache.targeted["+strconv.Itoa(i)+"]", `write the name of a response field, as in "CDN-Cache-Control"`, "%q is no targeted field", name)
		}
	}
	if c.Memory == 0 {
		return l
	}
	if c.Memory < store.MinMemory {
		l.Add("cache.memory", "0 turns the cache off, else "+unit.Size(store.MinMemory).String()+" or more",
			"%s is too small to keep anything", c.Memory)
		return l
	}
	most := unit.Size(store.MaxObject(int64(c.Memory)))
	if c.MaxObject <= 0 || c.MaxObject > most {
		l.Add("cache.max_object", "write a size up to "+most.String()+", a quarter of cache.memory, or raise cache.memory",
			"%s does not fit", c.MaxObject)
	}
	return l
}
