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
	// Memory is how much memory stored responses may take; 0 turns it off, and
	// without a disk the cache. About a sixteenth comes on top for copying and the index, and up to a
	// quarter while responses arrive.
	Memory unit.Size `toml:"memory"`
	// MaxObject is the largest body that is stored: up to a quarter of memory, or
	// with a disk up to half of disk.size.
	MaxObject unit.Size `toml:"max_object"`
	// Disk is where stored responses outlive the process.
	Disk DiskConfig `toml:"disk"`
	// CollapseTimeout is how long a request waits for another's fetch of the
	// same thing to begin answering before it fetches by itself; 0 never waits.
	CollapseTimeout unit.Duration `toml:"collapse_timeout"`
	// RangeAhead is how many bytes may still be to come before a range of a body
	// that is arriving for somebody else, if the range is to be taken from there;
	// one that lies further ahead is asked for by itself.
	RangeAhead unit.Size `toml:"range_ahead"`
	// RangeFill is how large a body may be that is fetched whole, in the background,
	// when clients ask for ranges of it alone: from the second such request on, and
	// once a sixteenth of it is stored; 0 never does. Larger ones are stored in parts.
	RangeFill unit.Size `toml:"range_fill"`
	// QuickAbortMin is how many bytes may be missing at most for a fetch to go on
	// to its end, for the store's sake, after the last client that wanted it is gone.
	QuickAbortMin unit.Size `toml:"quick_abort_min"`
	// QuickAbortMax is how many bytes have to be missing for such a fetch to be
	// given up whatever quick_abort_percent says. What came is stored as a part
	// where it has a strong entity tag.
	QuickAbortMax unit.Size `toml:"quick_abort_max"`
	// QuickAbortPercent is of how much of the body more than that has to be there
	// for such a fetch to go on, with less than quick_abort_max missing.
	QuickAbortPercent int `toml:"quick_abort_percent"`
	// Targeted names the fields that a response directs this cache by in place of
	// Cache-Control and Expires (RFC 9213), the first that is valid counts. When
	// left out: Fwdproxy-Cache-Control, then CDN-Cache-Control in reverse mode, and
	// none in forward mode, where the cache acts for no origin.
	Targeted []string `toml:"targeted"`
	// Rules are tried in order; the first whose conditions all hold says how the
	// responses of a URL are kept, and no other.
	Rules []RuleConfig `toml:"rule"`
}

// DiskConfig is the table [cache.disk].
type DiskConfig struct {
	// Dir is the folder that stored responses are kept in besides memory; it is made
	// when it is missing, and is for one process. Empty: there is none. A change
	// takes effect at the next start.
	Dir string `toml:"dir"`
	// Size is how much of the disk it takes at most.
	Size unit.Size `toml:"size"`
}

// off reports whether nothing is ever stored.
func (c Config) off() bool { return c.Memory == 0 && c.Disk.Dir == "" }

// inMemory is how large a body may become before it goes to the disk while it
// arrives.
func (c Config) inMemory() int64 {
	if c.Memory == 0 {
		return min(int64(c.MaxObject), 1<<20)
	}
	return min(int64(c.MaxObject), store.MaxObject(int64(c.Memory)))
}

// arriving is how many bytes of bodies may be in memory while they arrive.
func (c Config) arriving() int64 {
	if c.Memory == 0 {
		return 64 << 20
	}
	return int64(c.Memory) / 4
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
		Disk:            DiskConfig{Size: 10 << 30},
		CollapseTimeout: unit.Duration(5 * time.Second),
		RangeAhead:      1 << 20,
		RangeFill:       16 << 20,
		QuickAbortMin:   16 << 10, QuickAbortMax: 1 << 20, QuickAbortPercent: 50,
	}
}

// finishes says whether a fetch that nobody wants any more goes on to its end
// when n bytes of size are there; a size below 0 is not known.
func (c Config) finishes(n, size int64) bool {
	left := size - n
	switch {
	case size < 0 || left < 0:
		return false
	case left <= int64(c.QuickAbortMin):
		return true
	case left > int64(c.QuickAbortMax):
		return false
	}
	return float64(n) > float64(size)*float64(c.QuickAbortPercent)/100
}

// Validate returns what is wrong with the configuration.
func (c Config) Validate() problem.List {
	_, l := c.rules()
	for i, name := range c.targeted() {
		if !header.IsToken(name) || name == "Cache-Control" {
			l.Add("cache.targeted["+strconv.Itoa(i)+"]", `write the name of a response field, as in "CDN-Cache-Control"`, "%q is no targeted field", name)
		}
	}
	if c.Memory != 0 && c.Memory < store.MinMemory {
		l.Add("cache.memory", "0 turns it off, else "+unit.Size(store.MinMemory).String()+" or more",
			"%s is too small to keep anything", c.Memory)
		return l
	}
	most, of := store.MaxObject(int64(c.Memory)), "a quarter of cache.memory, or raise cache.memory"
	if c.Disk.Dir != "" {
		if c.Disk.Size < store.MinDisk {
			l.Add("cache.disk.size", "write a size of "+unit.Size(store.MinDisk).String()+" or more", "%s is too small", c.Disk.Size)
			return l
		}
		if onDisk := store.MaxDiskObject(int64(c.Disk.Size)); onDisk > most {
			most, of = onDisk, "half of cache.disk.size, or raise cache.disk.size"
		}
	}
	if !c.off() && (c.MaxObject <= 0 || int64(c.MaxObject) > most) {
		l.Add("cache.max_object", "write a size up to "+unit.Size(most).String()+", "+of, "%s does not fit", c.MaxObject)
	}
	if c.RangeAhead < 0 {
		l.Add("cache.range_ahead", "write a size, 0 or more", "%s is no size", c.RangeAhead)
	}
	if c.RangeFill < 0 {
		l.Add("cache.range_fill", "write a size, or 0 to store ranges in parts only", "%s is no size", c.RangeFill)
	}
	if c.QuickAbortMin < 0 || c.QuickAbortMax < c.QuickAbortMin {
		l.Add("cache.quick_abort_max", "write a size that is not below cache.quick_abort_min", "%s to %s is no interval", c.QuickAbortMin, c.QuickAbortMax)
	}
	if c.QuickAbortPercent < 0 || c.QuickAbortPercent > 100 {
		l.Add("cache.quick_abort_percent", "write a number from 0 to 100", "%d is no percentage", c.QuickAbortPercent)
	}
	return l
}
