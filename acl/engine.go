package acl

import (
	"net/netip"
	"slices"
	"time"

	"fwdproxy/internal/problem"
)

// Action is what a rule does with a request. The zero value is Deny.
type Action uint8

// What comes of a request. Intercept is what can come of a CONNECT alone: the
// tunnel is opened, decrypted, and each request in it asked about by itself.
const (
	Deny Action = iota
	Allow
	Intercept
)

// Permits reports whether the request may go on: it is Allow or Intercept.
func (a Action) Permits() bool { return a == Allow || a == Intercept }

// side is what an action comes to for who only asks whether the request may go
// on.
func (a Action) side() Action {
	if a.Permits() {
		return Allow
	}
	return Deny
}

// String returns the action as the policy writes it; what is no action is
// "deny".
func (a Action) String() string {
	switch a {
	case Allow:
		return "allow"
	case Intercept:
		return "intercept"
	}
	return "deny"
}

// Request is what is asked about. Client, Method, Host and Port must be set: a
// request that lacks one is denied, since a rule that denies could miss it.
// What else a rule asks about and the request lacks counts against the request:
// as not holding in a rule that allows, as holding in one that denies.
type Request struct {
	Client   netip.Addr
	Method   string
	Host     string     // canonical: target.Target.Host
	HostAddr netip.Addr // valid where the host is an IP literal: target.Target.Addr
	Port     uint16
	Addr     netip.Addr // the address that the host resolved to; zero while not known

	Scheme string              // "http" or "https"; "" for a tunnel
	Path   string              // as sent, percent-encoded; never "" but for a tunnel
	Query  string              // as sent, without "?"
	Header map[string][]string // by canonical name, as an http.Header
	Listen netip.AddrPort      // where the client connected to
	Now    time.Time

	User        string   // who asks; "" while nobody said
	Groups      []string // of the user
	MayIdentify bool     // a client that has not said who asks can be asked to

	byName bool // an address that is not known is none, instead of one to wait for
}

// Tunnel is the scheme that rules know a CONNECT by.
const Tunnel = "tunnel"

// hidden reports whether what is asked for cannot be seen: it will go through
// a tunnel, or nobody said.
func (r *Request) hidden() bool { return r.Path == "" || r.Method == "CONNECT" }

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
//
// Challenge says that the answer hangs on who asks, which the client has not
// said. Action is then Deny, and Rule is the rule that waits. Only a request
// with MayIdentify gets it. Without Pending no address would make it Allow as
// the request is: so no name is resolved for who must say first who they are.
// With Pending it is what stays where the address is never learnt.
type Verdict struct {
	Action  Action
	Rule    string // the rule's name, "default" when no rule decided
	Index   int    // of the rule in the policy, from 0; -1 when no rule decided
	Reason  string // why that rule, for people: a constant or part of the policy, never the request's text
	Pending bool
	// Challenge asks for credentials; see above.
	Challenge bool
	// ActionPending says that the request may go on at whatever address that gets
	// no refusal, and that the address tells whether as Allow or as Intercept:
	// Decide tells when it is asked again.
	ActionPending bool
	Answer        *Answer // what the rule wants a client told that it denies; nil for what is usual

	// Shadow is the rule that would have decided if rules with shadow were like
	// others; zero when the same one would. ShadowPending says that this hangs on
	// the destination's address, and that Decide tells when it is asked again.
	Shadow        Shadow
	ShadowPending bool
}

// Shadow is a rule that would have decided. Its zero value is none.
type Shadow struct {
	Rule   string
	Action Action
	number int // the rule's index and 1
}

const (
	defaultRule    = "default"
	reasonDefault  = "no rule decides, and so the default does"
	reasonLacking  = "the request lacks its client, method, host or port"
	reasonMatch    = "all conditions of the rule hold"
	reasonAwaiting = "the rule is about addresses, and the destination's address is not known yet"
	reasonInside   = "the tunnel is to be intercepted, and a rule about who asks may be about what is in it"
	reasonNameless = "the rule is about who asks, and the client has not said who it is"
	reasonDoubt    = "what the rule is about cannot be told for sure, and so it denies"
)

// Engine is a compiled policy. Its zero value denies every request and every
// private address.
type Engine struct {
	rules        []rule
	intercepts   bool // some rule does
	limits       []limit
	modifiers    []modifier
	keyed        []string // request fields that some modifier sets
	fallback     Action
	allowPrivate bool
	exceptions   addressSet
	lists        []ListInfo
	listBytes    int64
	warnings     problem.List
	downloads    []Download
	counts       *Counter // of the default
}

// Decide returns the verdict of the first rule that matches, or the default.
//
// Rules about addresses hold for host names as well, by the address that the
// name resolves to. While it is not known such a rule neither matches nor
// fails to match; when one that stands before the first match would give
// another action than that match, the verdict is Pending. So an Action that is
// not Pending is the one that every possible Addr would get. With Addr set, or
// where the host is an IP literal, no verdict is Pending. Rules about
// identities wait in the same way for who asks, which makes it a Challenge.
// Decide does not ask Destination: the caller does, about the address that it
// dials.
func (e *Engine) Decide(r Request) Verdict {
	return e.ask(&r, nil)
}

func (e *Engine) ask(r *Request, steps *[]Step) Verdict {
	if !r.Client.IsValid() || r.Method == "" || r.Host == "" || r.Port == 0 {
		return Verdict{Rule: defaultRule, Index: -1, Reason: reasonLacking}
	}
	r.plain()
	return e.decide(r, steps)
}

// plain brings the addresses into the form that conditions are about.
func (r *Request) plain() {
	r.Client, r.Addr = plain(r.Client), plain(r.Addr)
	if r.HostAddr.IsValid() {
		r.HostAddr = plain(r.HostAddr)
		r.Addr = r.HostAddr
	}
}

// plain unmaps an IPv4-mapped address and drops the zone, with which no prefix
// contains an address (netip.Prefix.Contains).
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// Intercepts reports whether any rule does.
func (e *Engine) Intercepts() bool { return e.intercepts }

// Default returns what happens to a request that no rule decides.
func (e *Engine) Default() Action { return e.fallback }

// ListInfo describes a list to people.
type ListInfo struct {
	Name      string
	Domains   int // different names
	Addresses int // prefixes, without those that lie in another
	URLs      int // hosts with a path
	Skipped   int // lines of its files that no proxy can apply (Adblock options, paths, cosmetic rules)
}

// Lists returns the lists by name.
func (e *Engine) Lists() []ListInfo { return slices.Clone(e.lists) }

// ListBytes returns how much memory the lists' entries take, addresses aside.
func (e *Engine) ListBytes() int64 { return e.listBytes }

// Warnings returns what the lists' content makes doubtful, as
// Config.Warnings does for the rules' text.
func (e *Engine) Warnings() problem.List { return slices.Clone(e.warnings) }

// Downloads returns what the lists take from URLs.
func (e *Engine) Downloads() []Download { return slices.Clone(e.downloads) }
