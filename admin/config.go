package admin

import (
	"net"
	"net/netip"
	"strconv"

	"fwdproxy/internal/problem"
)

// Config is the table [admin].
type Config struct {
	// Listen is where health, metrics and the API are served, as loopback
	// address:port, since whoever reaches it may use it; "" turns it off.
	Listen string `toml:"listen"`
}

// DefaultConfig serves this machine alone.
func DefaultConfig() Config { return Config{Listen: "127.0.0.1:3130"} }

// Validate returns every problem of the table. Without authentication an
// address that others can reach is one.
func (c Config) Validate() problem.List {
	var p problem.List
	if c.Listen == "" {
		return p
	}
	const hint = `write for example "127.0.0.1:3130", or "" to turn it off`
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		p.Add("admin.listen", hint, "%q is not address:port", c.Listen)
		return p
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		p.Add("admin.listen", hint, "%q has a port that is no number from 0 to 65535", c.Listen)
	}
	if host == "" {
		host = "::"
	}
	switch a, err := netip.ParseAddr(host); {
	case err != nil:
		p.Add("admin.listen", hint, "%q does not begin with an IP address", c.Listen)
	case !a.Unmap().IsLoopback():
		p.Add("admin.listen", `listen on a loopback address, as in "127.0.0.1:3130", and forward to it from what authenticates`,
			"%q can be reached by others, and the admin port has no authentication", c.Listen)
	}
	return p
}
