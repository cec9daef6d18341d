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
	// DownloadDir is the folder that keeps the last good copy of each list that is
	// downloaded. It is made when it is missing. A relative path starts at the
	// folder of the policy file.
	DownloadDir string `toml:"download_dir"`
	// Lists are the named lists that rules refer to as "list:NAME".
	Lists map[string]ListConfig `toml:"lists"`
	// Rules are tried in order; the first whose conditions all hold decides.
	Rules []RuleConfig `toml:"rule"`
	// Limits bound what is allowed. All whose conditions hold apply together.
	Limits []LimitConfig `toml:"limit"`
	// Modify changes what is allowed: fields of the request and of the response, the
	// use of the cache, the size of the answer. All whose conditions hold apply, in
	// order, each to what the one before it left; of two that set a field the later
	// counts.
	Modify []ModifyConfig `toml:"modify"`
}

// ListConfig is one table [acl.lists.NAME]: all its entries together.
type ListConfig struct {
	// Domains are ".a.b" (a.b and all below it) or "a.b" (that host alone).
	Domains []string `toml:"domains"`
	// Addresses are IP addresses and prefixes in CIDR form.
	Addresses []string `toml:"addresses"`
	// URLs are "a.b/path", perhaps with a query: that host (not those below it), at
	// any port, and the path with all that goes on behind it at one of "/?&;". A
	// path in another letter case, or that two servers may read differently, is in
	// doubt: a rule that denies holds, one that allows does not.
	URLs []string `toml:"urls"`
	// URLsInTunnels says what a tunnel (CONNECT) to a host of such URLs is, where
	// the URL is not seen: "doubt" (also when left out), so that a rule that denies
	// holds for the tunnel and one that allows does not, or "ignore", so that URLs
	// hold for no tunnel.
	URLsInTunnels string `toml:"urls_in_tunnels"`
	// Files hold one entry a line: domains, addresses and URLs as above, lines of a
	// hosts file, or Adblock-style "||a.b^"; or they are response policy zones (RPZ),
	// of which refused names and addresses are entries, and rpz-passthru an exception
	// from them; other answers and triggers are left out, with a warning. They may be compressed (gzip). A
	// relative path starts at the folder of the policy file.
	Files []string `toml:"files"`
	// Dirs are folders as SquidGuard and the UT1 blacklists have them, with the
	// files "domains" (each with all below it), "urls" (each with and without
	// "www."), or both. Lines that are neither are left out, and counted in a
	// warning, as are "expressions", which no rule applies.
	Dirs []string `toml:"dirs"`
	// Download holds http or https URLs of files as for files. They are asked for
	// over [upstream] and its parents, and only from addresses that
	// private_destinations permits. With no copy in download_dir and none to be had,
	// the proxy does not start. A download that fails, that is a page, or that lost
	// more than half of its entries leaves the last good copy in force.
	Download []string `toml:"download"`
	// Refresh is how often downloads are asked for anew (ETag, Last-Modified):
	// "24h" when left out or 0.
	Refresh unit.Duration `toml:"refresh"`
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
	// Action is "allow", "deny", "intercept" or "tunnel"; it can not be left out.
	// "intercept" and "tunnel" hold for CONNECT alone: the one opens the tunnel and
	// decrypts it with the CA of [forward.intercept], so that each request in it is
	// decided by these same rules as what it is, scheme https; the other opens it
	// and leaves it closed to the proxy, as "allow" does. No request in a tunnel
	// is decided by either.
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
