// Package acl answers one question: may this client reach this destination?
// A Request goes in, a Verdict with the rule that gave it comes out; next to
// it stands the guard that keeps private addresses out of reach.
//
// It does no I/O of its own (list files are read through a function it is
// given), has no clock, and resolves no names. An Engine never changes, so
// that any number of goroutines may ask it. Everything's zero value denies.
package acl

import (
	"fwdproxy/internal/problem"
	"fwdproxy/internal/unit"
)

// Config is the table [acl].
type Config struct {
	// Default is what happens to a request that no rule decides: "deny" (also
	// when left out) or "allow".
	Default string `toml:"default"`
	// PrivateDestinations says whether addresses that are not global (loopback,
	// private, link-local, metadata, multicast, and IPv6 forms that embed an
	// IPv4 address) may be connected to: "deny" (also when left out) or "allow".
	PrivateDestinations string `toml:"private_destinations"`
	// PrivateExceptions are addresses and prefixes that stay reachable while
	// private_destinations is "deny"; the rules still decide about them.
	PrivateExceptions []string `toml:"private_exceptions"`
	// Lists are the named lists that rules refer to as "list:NAME".
	Lists map[string]ListConfig `toml:"lists"`
	// Rules are tried in order; the first whose conditions all hold decides.
	Rules []RuleConfig `toml:"rule"`
}

// ListConfig is one table [acl.lists.NAME]: all its entries together.
type ListConfig struct {
	// Domains are ".a.b" (a.b and all below it) or "a.b" (that host alone).
	Domains []string `toml:"domains"`
	// Addresses are IP addresses and prefixes in CIDR form.
	Addresses []string `toml:"addresses"`
	// Files hold one entry a line: domains and addresses as above, lines of a
	// hosts file, or Adblock-style "||a.b^". A relative path starts at the
	// folder of the policy file.
	Files []string `toml:"files"`
}

// RuleConfig is one table [[acl.rule]]. All its conditions must hold; one that
// is left out or empty always holds.
type RuleConfig struct {
	// Name is shown to the client that is refused, and in the log; "rule N",
	// counted from 1, when left out. No two rules may share one.
	Name string `toml:"name"`
	// From holds client addresses, prefixes and "list:NAME" (its addresses).
	From []string `toml:"from"`
	// To holds destinations: "*" (all), ".a.b" (a.b and all below it), "a.b"
	// (that host alone), addresses, prefixes and "list:NAME". Addresses and
	// prefixes also hold for the address that a host name resolves to; in reverse
	// mode no address is known, and what hangs on one is denied.
	To []string `toml:"to"`
	// Ports are destination ports: numbers, and ranges as "8443-8449".
	Ports []unit.PortRange `toml:"ports"`
	// Methods are request methods in upper case; a tunnel's is "CONNECT".
	Methods []string `toml:"methods"`
	// Action is "allow" or "deny"; it can not be left out.
	Action string `toml:"action"`
}

// DefaultConfig denies everything.
func DefaultConfig() Config {
	return Config{Default: Deny.String(), PrivateDestinations: Deny.String()}
}

// Validate returns every problem that can be found without opening a list
// file. Keys are full paths, as in "acl.rule[0].to[1]".
func (c Config) Validate() problem.List {
	k := compiler{config: c}
	k.engine()
	return k.problems
}

// names returns the name of every rule, the unnamed ones numbered from 1.
func (c Config) names() []string {
	out := make([]string, len(c.Rules))
	for i, r := range c.Rules {
		out[i] = ruleName(r, i)
	}
	return out
}
