// Package intercept holds the certificate authority in whose name intercepted
// TLS is answered: it reads and makes that authority, mints a certificate for
// each host, shakes hands with clients, and remembers who rejected that.
//
// It decides nothing about who is intercepted, and never vouches for a host:
// whoever calls it has verified the origin.
package intercept

import (
	"time"

	"fwdproxy/internal/problem"
	"fwdproxy/internal/unit"
)

// Config is the table [forward.intercept]. It is used where a rule says
// action = "intercept", and nowhere else.
type Config struct {
	// CACert is the PEM file of the authority's certificate, which clients must trust; `fwdproxy ca init` makes it. Certificates that follow it are sent along.
	CACert string `toml:"ca_cert"`
	// CAKey is the PEM file of its private key. It must be readable by its owner alone.
	CAKey string `toml:"ca_key"`
	// PassRejected is for how long a client's tunnels to a host are left undecrypted after that client rejected the proxy's certificate for it, as an application that pins certificates does; 0 never. With it any client can put itself out of sight of the rules about requests.
	PassRejected unit.Duration `toml:"pass_rejected"`
}

// DefaultConfig has no authority.
func DefaultConfig() Config { return Config{} }

// maxPass bounds PassRejected.
const maxPass = 7 * 24 * time.Hour

// Validate returns every problem that can be found without opening the files.
func (c Config) Validate() problem.List {
	var p problem.List
	switch {
	case c.CACert != "" && c.CAKey == "":
		p.Add("forward.intercept.ca_key", `write ca_key = "ca.key"`, "there is a ca_cert, and no key to it")
	case c.CACert == "" && c.CAKey != "":
		p.Add("forward.intercept.ca_cert", `write ca_cert = "ca.pem"`, "there is a ca_key, and no certificate to it")
	}
	if c.PassRejected < 0 || c.PassRejected.D() > maxPass {
		p.Add("forward.intercept.pass_rejected", `write a duration from "0s" (never) to "168h"`, "%v is out of range", c.PassRejected.D())
	}
	return p
}

// Enabled reports whether there is an authority.
func (c Config) Enabled() bool { return c.CACert != "" && c.CAKey != "" }
