package acl

import (
	"net/netip"
	"slices"
	"strings"

	"fwdproxy/internal/unit"
)

// Action is what a rule does with a request. The zero value is Deny.
type Action uint8

// The actions, as they are written in the policy: "deny", "allow".
const (
	Deny Action = iota
	Allow
)

// String returns the action as the policy writes it; what is no action is
// "deny".
func (a Action) String() string {
	if a == Allow {
		return "allow"
	}
	return "deny"
}

// Request is what is asked about. Client, Method, Host and Port must be set: a
// request that lacks one is denied, since a rule that denies could miss it.
type Request struct {
	Client   netip.Addr
	Method   string
	Host     string     // canonical: target.Target.Host
	HostAddr netip.Addr // valid where the host is an IP literal: target.Target.Addr
	Port     uint16
	Addr     netip.Addr // the address that the host resolved to; zero while not known
}

// Verdict is the answer, with the rule that gave it.
//
// Pending says that the answer hangs on the destination's address, which the
// Request did not hold. Action is then Deny, so that who overlooks Pending
// refuses too much and never too little, and Rule is the rule that waits. The
// caller may resolve the host and must then ask again with Addr, for each
// address it would use, and use only those that get Allow. Until one did, it
// must answer nothing in the destination's name: a connection kept open, a
// stored response and another client's fetch in flight all came from an
// address that may be denied to this client. Where the address is never
// learnt (a parent proxy resolves it), Pending stays a refusal.
type Verdict struct {
	Action  Action
	Rule    string // the rule's name, "default" when no rule decided
	Index   int    // of the rule in the policy, from 0; -1 when no rule decided
	Reason  string // why that rule, for people: a constant or part of the policy, never the request's text
	Pending bool
}

const (
	defaultRule    = "default"
	reasonDefault  = "no rule decides, and so the default does"
	reasonLacking  = "the request lacks its client, method, host or port"
	reasonMatch    = "all conditions of the rule hold"
	reasonAwaiting = `the rule has addresses in "to", and the destination's address is not known yet`
)

// Engine is a compiled policy. Its zero value denies every request and every
// private address.
type Engine struct {
	rules        []rule
	fallback     Action
	allowPrivate bool
	exceptions   addressSet
	lists        []ListInfo
}

// Decide returns the verdict of the first rule that matches, or the default.
//
// Rules about addresses hold for host names as well, by the address that the
// name resolves to. While it is not known such a rule neither matches nor
// fails to match; when one that stands before the first match would give
// another action than that match, the verdict is Pending. So an Action that is
// not Pending is the one that every possible Addr would get. With Addr set, or
// where the host is an IP literal, no verdict is Pending. Decide does not ask
// Destination: the caller does, about the address that it dials.
func (e *Engine) Decide(r Request) Verdict {
	if !r.Client.IsValid() || r.Method == "" || r.Host == "" || r.Port == 0 {
		return Verdict{Rule: defaultRule, Index: -1, Reason: reasonLacking}
	}
	r.Client, r.Addr = plain(r.Client), plain(r.Addr)
	if r.HostAddr.IsValid() {
		r.HostAddr = plain(r.HostAddr)
		r.Addr = r.HostAddr
	}
	waiting := [2]int{-1, -1} // by action: the first rule that could not be decided
	for i := range e.rules {
		u := &e.rules[i]
		switch truth, reason := u.match(&r); truth {
		case yes:
			return e.settle(waiting, Verdict{Action: u.action, Rule: u.name, Index: i, Reason: reason})
		case unknown:
			if waiting[u.action] < 0 {
				waiting[u.action] = i
			}
		}
	}
	return e.settle(waiting, Verdict{Action: e.fallback, Rule: defaultRule, Index: -1, Reason: reasonDefault})
}

// settle returns v, or the pending verdict when a rule of the other action
// waits for the address.
func (e *Engine) settle(waiting [2]int, v Verdict) Verdict {
	i := waiting[Allow-v.Action]
	if i < 0 {
		return v
	}
	return Verdict{Action: Deny, Rule: e.rules[i].name, Index: i, Reason: reasonAwaiting, Pending: true}
}

// plain unmaps an IPv4-mapped address and drops the zone, with which no prefix
// contains an address (netip.Prefix.Contains).
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// truth is three-valued: a rule about addresses is unknown while the address is.
type truth uint8

const (
	no truth = iota
	unknown
	yes
)

// rule is one compiled rule; a condition without entries always holds.
type rule struct {
	name    string
	action  Action
	anyFrom bool
	from    []*set
	anyTo   bool
	to      []destinations
	ports   []unit.PortRange
	methods []string
}

// destinations is a set with the reasons that a match in it gives.
type destinations struct {
	*set
	byName, byAddress string
}

func (u *rule) match(r *Request) (truth, string) {
	if !u.matchFrom(r.Client) || !u.matchPort(r.Port) || !u.matchMethod(r.Method) {
		return no, ""
	}
	if u.anyTo {
		return yes, reasonMatch
	}
	waits := false
	for i := range u.to {
		d := &u.to[i]
		switch {
		case !r.HostAddr.IsValid() && d.domains.match(r.Host):
			return yes, d.byName
		case d.addresses.contains(r.Addr):
			return yes, d.byAddress
		}
		waits = waits || d.addresses.len() > 0
	}
	if waits && !r.Addr.IsValid() {
		return unknown, ""
	}
	return no, ""
}

func (u *rule) matchFrom(client netip.Addr) bool {
	for _, s := range u.from {
		if s.addresses.contains(client) {
			return true
		}
	}
	return u.anyFrom
}

func (u *rule) matchPort(port uint16) bool {
	for _, p := range u.ports {
		if p.Contains(port) {
			return true
		}
	}
	return len(u.ports) == 0
}

// matchMethod compares exactly (RFC 9110, Section 9.1), but a rule that denies
// also holds for other spellings: an origin may read "post" as POST.
func (u *rule) matchMethod(method string) bool {
	for _, m := range u.methods {
		if m == method || u.action == Deny && strings.EqualFold(m, method) {
			return true
		}
	}
	return len(u.methods) == 0
}

// RuleInfo describes a rule to people.
type RuleInfo struct {
	Name   string
	Action Action
}

// Rules returns the rules in the order in which they are tried.
func (e *Engine) Rules() []RuleInfo {
	out := make([]RuleInfo, len(e.rules))
	for i, u := range e.rules {
		out[i] = RuleInfo{Name: u.name, Action: u.action}
	}
	return out
}

// Default returns what happens to a request that no rule decides.
func (e *Engine) Default() Action { return e.fallback }

// ListInfo describes a list to people.
type ListInfo struct {
	Name      string
	Domains   int // different names
	Addresses int // prefixes, without those that lie in another
	Skipped   int // lines of its files that no proxy can apply (Adblock options, paths, cosmetic rules)
}

// Lists returns the lists by name.
func (e *Engine) Lists() []ListInfo { return slices.Clone(e.lists) }
