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
	// Limits bound what is allowed. All whose conditions hold apply together.
	Limits []LimitConfig `toml:"limit"`
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
// is left out or empty always holds. The opposite of each is "not_" and its
// name, and holds where that does not.
type RuleConfig struct {
	// Name is shown to the client that is refused, and in the log; "rule N",
	// counted from 1, when left out. No two rules may share one.
	Name string `toml:"name"`
	// From holds client addresses, prefixes, "list:NAME" (its addresses), and with
	// [forward.auth] "user:NAME" and "group:NAME". A client that has not said who it is
	// is asked (407) where such a rule could change what comes of the request. In
	// reverse mode, where nobody is asked, a rule that hangs on it never allows, and
	// denies where the rest of it holds.
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
	// Schemes are "http", "https" and "tunnel" (CONNECT, whatever goes through it).
	Schemes []string `toml:"schemes"`
	// Path is an RE2 expression that must match somewhere in the path, "^/a$" all
	// of it. The path is looked at as it was sent, and in plain form: decoded, "\"
	// read as "/", empty and dot segments resolved. Where the two differ, a rule
	// that allows needs a match in both, and one that denies in either. What goes
	// through a tunnel is not seen: there a rule with path, query, header or
	// user_agent never allows, and denies where the rest of it holds.
	Path string `toml:"path"`
	// Query is an RE2 expression for what stands behind "?" (nothing, where there
	// is none), as sent and decoded, and otherwise as for path.
	Query string `toml:"query"`
	// Header holds names of request fields and an RE2 expression each, which all
	// must match; a field that is not there matches nothing. Of several lines of one
	// name, a rule that allows needs all to match, one that denies any.
	Header map[string]string `toml:"header"`
	// UserAgent is an RE2 expression for the User-Agent field, nothing where there
	// is none. Clients may claim anything here.
	UserAgent string `toml:"user_agent"`
	// When holds windows of time, as in "Mon-Fri 09:00-18:00 Europe/Berlin": days,
	// hours and an IANA time zone. Days or hours may be left out, several parted by
	// ",", whole windows by ";". "Fri 22:00-06:00" ends on Saturday. Hours are what
	// the clocks show there: one that they skip never comes, one that they repeat
	// comes twice.
	When string `toml:"when"`
	// Listen is where the client connected to: ports ("3128"), addresses, or both
	// ("192.0.2.1:3128").
	Listen []string `toml:"listen"`
	// NotFrom holds for clients that are none of these; a user counts once known.
	NotFrom []string `toml:"not_from"`
	// NotTo holds for destinations that are none of these, with their address as
	// for to.
	NotTo []string `toml:"not_to"`
	// NotPorts holds for every other port.
	NotPorts []unit.PortRange `toml:"not_ports"`
	// NotMethods holds for every other method.
	NotMethods []string `toml:"not_methods"`
	// NotSchemes holds for every other scheme.
	NotSchemes []string `toml:"not_schemes"`
	// NotPath holds where path would not; a rule that allows needs no match in
	// either form.
	NotPath string `toml:"not_path"`
	// NotQuery holds where query would not.
	NotQuery string `toml:"not_query"`
	// NotHeader holds where none of these fields matches its expression.
	NotHeader map[string]string `toml:"not_header"`
	// NotUserAgent holds where user_agent would not.
	NotUserAgent string `toml:"not_user_agent"`
	// NotWhen holds at every other time.
	NotWhen string `toml:"not_when"`
	// NotListen holds for clients that connected elsewhere.
	NotListen []string `toml:"not_listen"`
	// Action is "allow" or "deny"; it can not be left out.
	Action string `toml:"action"`
	// Status is the status code, from 400 to 599, of what the rule denies; 0 is 403.
	Status int `toml:"status"`
	// Message is a sentence for whoever the rule denies, on the page that they get.
	Message string `toml:"message"`
	// Redirect is the http or https URL of a page that whoever the rule denies is
	// sent to (302). "{url}" in its query becomes the URL that was denied, "{rule}"
	// the rule's name, both percent-encoded. A tunnel, which no client would follow
	// elsewhere, and a request for the page's own host get 403.
	Redirect string `toml:"redirect"`
	// Shadow makes the rule decide nothing: the log, the counters and explain tell
	// of each request that it would have decided. Nobody is asked who they are for
	// the sake of a shadow.
	Shadow bool `toml:"shadow"`
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
