package forward

import (
	"fwdproxy/auth"
	"fwdproxy/intercept"
	"fwdproxy/internal/problem"
	"fwdproxy/internal/unit"
	"fwdproxy/tunnel"
)

// Config is the [forward] section.
type Config struct {
	// Listen is the addresses that clients set as their HTTP proxy, as "address:port".
	Listen []string `toml:"listen"`
	// ProxyProtocol is the addresses and prefixes of load balancers that begin each connection with a PROXY header (version 1 or 2 of HAProxy's PROXY protocol), on the plain and the TLS ports. The client is then whom it names; a connection from there without one is closed. From anywhere else none is read.
	ProxyProtocol []string `toml:"proxy_protocol"`
	// TLS is a port to which clients speak TLS.
	TLS TLSConfig `toml:"tls"`
	// Auth is how clients say who they are.
	Auth auth.Config `toml:"auth"`
	// Tunnel is what CONNECT may do.
	Tunnel tunnel.Config `toml:"tunnel"`
	// PAC is what /proxy.pac and /wpad.dat tell browsers, on every port of the forward proxy and on the admin port.
	PAC PACConfig `toml:"pac"`
	// Intercept is how the tunnels are decrypted that a rule says so about.
	Intercept intercept.Config `toml:"intercept"`
}

// TLSConfig is the table [forward.tls].
type TLSConfig struct {
	// Listen is the addresses that clients set as their HTTPS proxy, as "address:port": HTTP/2 and HTTP/1.1 over TLS.
	Listen []string `toml:"listen"`
	// Cert is a PEM file, seen from the policy's folder, with the proxy's certificate and those between it and the root.
	Cert string `toml:"cert"`
	// Key is a PEM file with the certificate's private key, unencrypted.
	Key string `toml:"key"`
	// ClientCA is a PEM file with the certificates of those who sign client certificates. A client with one is the user whom its common name says, or the first e-mail address or DNS name in it where that has a space or colon in it or is not there; the user's groups come from forward.auth.groups. Credentials that a request brings count more. A client without a certificate is who it would be on the plain port.
	ClientCA string `toml:"client_ca"`
}

// DefaultConfig returns an empty section's values: loopback only.
func DefaultConfig() Config {
	return Config{Listen: []string{"127.0.0.1:3128"}, Auth: auth.DefaultConfig(), Tunnel: tunnel.DefaultConfig(), PAC: PACConfig{Fallback: fallbackNone}, Intercept: intercept.DefaultConfig()}
}

// Validate reports every problem of the section.
func (c Config) Validate() problem.List {
	var p problem.List
	unit.CheckListen(&p, "forward.listen", c.Listen)
	unit.CheckListen(&p, "forward.tls.listen", c.TLS.Listen)
	unit.CheckNetworks(&p, "forward.proxy_protocol", c.ProxyProtocol)
	if len(c.TLS.Listen) > 0 && c.TLS.Cert == "" {
		p.Add("forward.tls.cert", "name a PEM file; docs/operating.md says how to make one", "TLS needs a certificate")
	}
	if len(c.Listen) == 0 && len(c.TLS.Listen) == 0 {
		p.Add("forward.listen", "write for example [\"127.0.0.1:3128\"]", "no address to listen on")
	}
	if c.Auth.Groups != "" && !c.Auth.Enabled() && c.TLS.ClientCA == "" {
		p.Add("forward.auth.groups", `set "htpasswd", "tokens" or forward.tls.client_ca as well`, "nobody can say who they are, and so nobody is in a group")
	}
	p = append(p, c.Auth.Validate()...)
	p = append(p, c.PAC.validate()...)
	p = append(p, c.Intercept.Validate()...)
	return append(p, c.Tunnel.Validate()...)
}
