package acl

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"fwdproxy/internal/unit"
)

// truth is what a condition says of a request.
type truth uint8

const (
	no       truth = iota
	doubt          // what the condition is about is hidden, or two parties may read it differently
	unknown        // hangs on the destination's address, which is not known yet
	nameless       // hangs on who asks, which the client may say and has not
	open           // hangs on both
	yes
)

// and is what two conditions say together that both may hold.
func (t truth) and(u truth) truth {
	switch {
	case t == yes || t == u:
		return u
	case u == yes:
		return t
	}
	return open
}

// not is the opposite; what is not known stays so.
func (t truth) not() truth {
	switch t {
	case no:
		return yes
	case yes:
		return no
	}
	return t
}

// against settles doubt against the request: what may match an allowing rule
// does not, what may match a denying one does.
func (t truth) against(a Action) truth {
	if t != doubt {
		return t
	}
	if a.Permits() {
		return no
	}
	return yes
}

// rule is one compiled rule. A condition that the policy leaves out is not
// there.
type rule struct {
	name       string
	action     Action
	answer     *Answer // nil for what is usual
	shadow     bool
	connect    bool // holds for CONNECT alone: "intercept" and "tunnel"
	counts     *Counter
	config     RuleConfig
	conditions []condition // cheap ones first, the destination last
}

// match returns whether the rule holds, with the reason where it does and the
// key of the condition that fails where it does not.
func (u *rule) match(r *Request) (truth, string) {
	all, why := yes, reasonMatch
	for i := range u.conditions {
		c := &u.conditions[i]
		t, reason := c.test(r)
		if c.not {
			t, reason = t.not(), ""
		}
		if t == doubt {
			t, reason = t.against(u.action), reasonDoubt
		}
		switch {
		case t == no:
			return no, c.key
		case t == unknown || t == nameless:
			all, why = all.and(t), c.key
		case all == yes && reason != "" && why != reasonDoubt:
			why = reason
		}
	}
	return all, why
}

// kind is what a condition is about.
type kind uint8

const (
	aboutListen kind = iota
	aboutMethod
	aboutScheme
	aboutPort
	aboutFrom
	aboutTime
	aboutHeader
	aboutUserAgent
	aboutPath
	aboutQuery
	aboutTo
)

// condition is one key of a rule. It is a struct with a switch rather than a
// func so that a Request stays on the stack.
type condition struct {
	key  string // as the policy writes it
	kind kind
	not  bool

	listen []listener
	words  []string // methods or schemes
	ports  []unit.PortRange
	from   []*set
	users  []string // names of users
	groups []string
	when   *schedule
	field  string // a request field's canonical name
	re     *regexp.Regexp
	to     []destinations
}

// listener is an address, a port, or both.
type listener struct {
	addr netip.Addr
	port uint16
}

// destinations is a set with the reasons that a match in it gives.
type destinations struct {
	*set
	byName, byAddress, byURL string
}

// test returns what the condition says, not yet turned round, and the reason
// where that is worth telling.
func (c *condition) test(r *Request) (truth, string) {
	switch c.kind {
	case aboutListen:
		return c.testListen(r.Listen), ""
	case aboutMethod:
		return c.testMethod(r.Method), ""
	case aboutScheme:
		return c.testScheme(r), ""
	case aboutPort:
		return isTrue(slices.ContainsFunc(c.ports, func(p unit.PortRange) bool { return p.Contains(r.Port) })), ""
	case aboutFrom:
		return c.testFrom(r), ""
	case aboutTime:
		if r.Now.IsZero() {
			return doubt, ""
		}
		return isTrue(c.when.holds(r.Now)), ""
	case aboutHeader:
		return c.testHeader(r), ""
	case aboutUserAgent:
		if !r.hidden() && len(r.Header["User-Agent"]) == 0 {
			return isTrue(c.re.MatchString("")), ""
		}
		return c.testHeader(r), ""
	case aboutPath:
		if r.hidden() {
			return doubt, ""
		}
		return c.testForms(r.Path, plainPath), ""
	case aboutQuery:
		if r.hidden() {
			return doubt, ""
		}
		return c.testForms(r.Query, plainQuery), ""
	case aboutTo:
		return c.testTo(r)
	}
	return doubt, ""
}

func isTrue(b bool) truth {
	if b {
		return yes
	}
	return no
}

// testFrom looks at the address first: where that holds, nobody is asked who
// they are.
func (c *condition) testFrom(r *Request) truth {
	switch {
	case slices.ContainsFunc(c.from, func(s *set) bool { return s.addresses.contains(r.Client) }):
		return yes
	case slices.ContainsFunc(c.from, func(s *set) bool { return s.missing }):
		return doubt
	case len(c.users)+len(c.groups) == 0:
		return no
	case r.User != "":
		return isTrue(slices.Contains(c.users, r.User) || slices.ContainsFunc(c.groups, func(g string) bool { return slices.Contains(r.Groups, g) }))
	case r.MayIdentify:
		return nameless
	}
	return doubt
}

func (c *condition) testListen(a netip.AddrPort) truth {
	if !a.IsValid() {
		return doubt
	}
	addr := plain(a.Addr())
	for _, l := range c.listen {
		if (l.port == 0 || l.port == a.Port()) && (!l.addr.IsValid() || l.addr == addr) {
			return yes
		}
	}
	return no
}

// testMethod compares exactly (RFC 9110, Section 9.1), but an origin may read
// "post" as POST.
func (c *condition) testMethod(method string) truth {
	out := no
	for _, m := range c.words {
		if m == method {
			return yes
		}
		if strings.EqualFold(m, method) {
			out = doubt
		}
	}
	return out
}

func (c *condition) testScheme(r *Request) truth {
	scheme := r.Scheme
	if r.Method == "CONNECT" {
		scheme = Tunnel
	}
	if scheme == "" {
		return doubt
	}
	return isTrue(slices.Contains(c.words, scheme))
}

// testHeader looks at each line of the field, and where there are several at
// all as one (RFC 9110, Section 5.3).
func (c *condition) testHeader(r *Request) truth {
	if r.hidden() {
		return doubt
	}
	lines := r.Header[c.field]
	matches := 0
	for _, l := range lines {
		if c.re.MatchString(l) {
			matches++
		}
	}
	forms := len(lines)
	if forms > 1 {
		forms++
		if c.re.MatchString(strings.Join(lines, ", ")) {
			matches++
		}
	}
	switch matches {
	case 0:
		return no
	case forms:
		return yes
	}
	return doubt
}

// testForms matches the text as sent and in the form that another party may
// read it in.
func (c *condition) testForms(sent string, plain func(string) (string, bool)) truth {
	first := c.re.MatchString(sent)
	other, ok := plain(sent)
	if !ok || other != sent && c.re.MatchString(other) != first {
		return doubt
	}
	return isTrue(first)
}

func (c *condition) testTo(r *Request) (truth, string) {
	waits, unsure := false, false
	for i := range c.to {
		d := &c.to[i]
		switch {
		case !r.HostAddr.IsValid() && d.domains.match(r.Host):
			return yes, d.byName
		case d.addresses.contains(r.Addr):
			return yes, d.byAddress
		}
		switch d.urls.match(r) {
		case yes:
			return yes, d.byURL
		case doubt:
			unsure = true
		}
		unsure = unsure || d.missing
		waits = waits || d.addresses.len() > 0
	}
	if waits && !r.Addr.IsValid() && !r.byName {
		return unknown, ""
	}
	if unsure {
		return doubt, ""
	}
	return no, ""
}
