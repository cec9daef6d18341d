package forward

import (
	"net"
	"net/netip"
	"strconv"

	"fwdproxy/auth"
	"fwdproxy/intercept"
	"fwdproxy/internal/problem"
	"fwdproxy/tunnel"
)

// Config is the [forward] section.
type Config struct {
	// Listen is the addresses that clients set as their HTTP proxy, as "address:port".
	Listen []string `toml:"listen"`
	// Auth is how clients say who they are.
	Auth auth.Config `toml:"auth"`
	// Tunnel is what CONNECT may do.
	Tunnel tunnel.Config `toml:"tunnel"`
	// Intercept is how the tunnels are decrypted that a rule says so about.
	Intercept intercept.Config `toml:"intercept"`
}

// DefaultConfig returns an empty section's values: loopback only.
func DefaultConfig() Config {
	return Config{Listen: []string{"127.0.0.1:3128"}, Auth: auth.DefaultConfig(), Tunnel: tunnel.DefaultConfig(), Intercept: intercept.DefaultConfig()}
}

// Validate reports every problem of the section.
func (c Config) Validate() problem.List {
	var p problem.List
	for i, a := range c.Listen {
		key := "forward.listen[" + strconv.Itoa(i) + "]"
		if err := checkListen(a); err != "" {
			p.Add(key, "write address:port, for example \"127.0.0.1:3128\" or \":3128\" for every address", "%q %s", a, err)
		}
	}
	if len(c.Listen) == 0 {
		p.Add("forward.listen", "write for example [\"127.0.0.1:3128\"]", "no address to listen on")
	}
	p = append(p, c.Auth.Validate()...)
	p = append(p, c.Intercept.Validate()...)
	return append(p, c.Tunnel.Validate()...)
}

func checkListen(a string) string {
	host, port, err := net.SplitHostPort(a)
	if err != nil {
		return "has no port"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return "has a port that is no number from 0 to 65535"
	}
	if host != "" {
		if _, err := netip.ParseAddr(host); err != nil {
			return "does not begin with an IP address"
		}
	}
	return ""
}
