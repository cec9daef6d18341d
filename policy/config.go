package policy

import (
	"strconv"

	"fwdproxy/accesslog"
	"fwdproxy/acl"
	"fwdproxy/admin"
	"fwdproxy/cache"
	"fwdproxy/forward"
	"fwdproxy/internal/edge"
	"fwdproxy/internal/problem"
	"fwdproxy/reverse"
	"fwdproxy/upstream"
)

// Config is a whole policy file. Each section is its stage's own.
type Config struct {
	// Name is the proxy's pseudonym in Via, Cache-Status and Proxy-Status; proxies in a chain need different ones, since a request that comes back with its own is a loop.
	Name string `toml:"name"`
	// Forward is the forward proxy's front door.
	Forward forward.Config `toml:"forward"`
	// Reverse is the reverse proxy's front door, used with --reverse.
	Reverse reverse.Config `toml:"reverse"`
	// Pools is the servers behind the reverse proxy.
	Pools []upstream.PoolConfig `toml:"pool"`
	// ACL is who may reach what.
	ACL acl.Config `toml:"acl"`
	// Cache is the shared HTTP cache.
	Cache cache.Config `toml:"cache"`
	// Upstream is how next hops are found and talked to.
	Upstream upstream.Config `toml:"upstream"`
	// Limits is what clients may make the proxy hold.
	Limits edge.Limits `toml:"limits"`
	// Log is the access log.
	Log accesslog.Config `toml:"log"`
	// Admin is health, metrics and the API.
	Admin admin.Config `toml:"admin"`
}

// DefaultConfig returns what an empty policy file means: nothing is allowed.
func DefaultConfig() Config {
	return Config{
		Name:     "fwdproxy",
		Forward:  forward.DefaultConfig(),
		Reverse:  reverse.DefaultConfig(),
		ACL:      acl.DefaultConfig(),
		Cache:    cache.DefaultConfig(),
		Upstream: upstream.DefaultConfig(),
		Limits:   edge.DefaultLimits(),
		Log:      accesslog.DefaultConfig(),
		Admin:    admin.DefaultConfig(),
	}
}

// Validate reports every problem of every section but [acl], whose compiling
// finds its own.
func (c Config) Validate() problem.List {
	var p problem.List
	if !isPseudonym(c.Name) {
		p.Add("name", "write letters, digits, dots and hyphens, as in \"fwdproxy\" or \"proxy1.example\"", "%q cannot stand in a Via field", c.Name)
	}
	pools := make([]string, len(c.Pools))
	for i, pool := range c.Pools {
		pools[i] = pool.Name
	}
	p = append(p, c.Forward.Validate()...)
	p = append(p, c.Reverse.Validate(pools)...)
	p = append(p, upstream.ValidatePools(c.Pools)...)
	p = append(p, c.Cache.Validate()...)
	p = append(p, c.Upstream.Validate()...)
	p = append(p, c.Limits.Validate()...)
	p = append(p, c.Log.Validate()...)
	p = append(p, c.Admin.Validate()...)
	return append(p, c.listenTwice()...)
}

// listenTwice finds addresses that two parts of one mode want.
func (c Config) listenTwice() problem.List {
	var p problem.List
	for _, mode := range [][]struct {
		key    string
		listen []string
	}{
		{{"forward.listen", c.Forward.Listen}, {"forward.tls.listen", c.Forward.TLS.Listen}},
		{{"reverse.listen", c.Reverse.Listen}, {"reverse.tls.listen", c.Reverse.TLS.Listen}},
	} {
		seen := map[string]bool{}
		if c.Admin.Listen != "" {
			seen[c.Admin.Listen] = true
		}
		for _, door := range mode {
			for i, a := range door.listen {
				if seen[a] && !endsInPortZero(a) {
					p.Add(door.key+"["+strconv.Itoa(i)+"]", "give each its own port", "%q is listened on already", a)
				}
				seen[a] = true
			}
		}
	}
	return p
}

func endsInPortZero(a string) bool { return len(a) > 2 && a[len(a)-2:] == ":0" }

// isPseudonym reports whether s can be a Via pseudonym (RFC 9110, Section
// 7.6.3) and an sf-token both: a letter first.
func isPseudonym(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '.' && c != '-' && c != '_') {
			return false
		}
	}
	return true
}
