// Package auth tells who asks: it reads Proxy-Authorization (RFC 9110, Section
// 11.7.2), verifies passwords and tokens against files, and names groups.
//
// An identity belongs to one request, never to a connection. What is not
// verified is nobody; the rules decide what nobody may do. It opens no file by
// itself and logs nothing, credentials least of all.
package auth

import (
	"strings"
	"time"

	"fwdproxy/internal/problem"
	"fwdproxy/internal/unit"
)

// Config is the table [forward.auth]. It is off until Htpasswd or Tokens is set.
type Config struct {
	// Htpasswd is a file, seen from the policy's folder, of "name:hash" lines with bcrypt hashes, for Basic (RFC
	// 7617); fwdproxy passwd and htpasswd -B write it.
	Htpasswd string `toml:"htpasswd"`
	// Tokens is a file of "name hash" lines, for machines: the SHA-256 of a token
	// that fwdproxy passwd --token made. It is sent as Bearer, or with Basic as the
	// password of its name.
	Tokens string `toml:"tokens"`
	// Groups is a file of "group: name name" lines; rules know them as "group:NAME".
	Groups string `toml:"groups"`
	// Realm is what clients show people who they ask for a password.
	Realm string `toml:"realm"`
	// Remember is how long a password that was right is not verified again; "0s" is
	// always. A change of the files forgets all at once.
	Remember unit.Duration `toml:"remember"`
	// Failures is how many wrong credentials a minute one client address (of IPv6 a
	// /64) may send before it gets 429; for one user it is ten times as many, over
	// all addresses. Passwords that are remembered, and tokens, pass all the same.
	Failures int `toml:"failures"`
}

// DefaultConfig is off.
func DefaultConfig() Config {
	return Config{Realm: "fwdproxy", Remember: unit.Duration(5 * time.Minute), Failures: 10}
}

// Enabled reports whether clients can be asked who they are.
func (c Config) Enabled() bool { return c.Htpasswd != "" || c.Tokens != "" }

// Validate reports every problem that shows without opening the files.
func (c Config) Validate() problem.List {
	var p problem.List
	if !c.Enabled() {
		return p
	}
	if c.Realm == "" || len(c.Realm) > 100 || strings.ContainsFunc(c.Realm, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		p.Add("forward.auth.realm", `write letters, digits and spaces, as in "Example Ltd"`, "%q cannot stand in a challenge", c.Realm)
	}
	if c.Failures < 1 || c.Failures > 10_000 {
		p.Add("forward.auth.failures", "write a number from 1 to 10000", "%d is no number of attempts a minute", c.Failures)
	}
	return p
}
