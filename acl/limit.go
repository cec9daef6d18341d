package acl

import (
	"cmp"
	"strconv"
	"strings"

	"fwdproxy/internal/quota"
	"fwdproxy/internal/unit"
)

// LimitConfig is one table [[acl.limit]]. Its conditions are read as those of a
// rule, save that one which hangs on what is not known (an address that nobody
// looked up yet, a user who did not say who they are) holds. What a limit
// leaves nothing for gets 429 with Retry-After, or 503 where all share it.
type LimitConfig struct {
	// Name is shown to the client, in the log and in metrics; it can not be left
	// out. What was taken is kept under it over a reload.
	Name string `toml:"name"`
	// From holds clients, users and groups, as in a rule.
	From []string `toml:"from"`
	// NotFrom holds for clients that are none of these.
	NotFrom []string `toml:"not_from"`
	// To holds destinations, as in a rule.
	To []string `toml:"to"`
	// NotTo holds for destinations that are none of these.
	NotTo []string `toml:"not_to"`
	// Ports are destination ports: numbers, and ranges as "8443-8449".
	Ports []unit.PortRange `toml:"ports"`
	// Methods are request methods in upper case; a tunnel's is "CONNECT".
	Methods []string `toml:"methods"`
	// Schemes are "http", "https" and "tunnel".
	Schemes []string `toml:"schemes"`
	// When holds windows of time, as in a rule.
	When string `toml:"when"`
	// Listen is where the client connected to, as in a rule.
	Listen []string `toml:"listen"`
	// Per says who shares the numbers: "client" (also when left out) for each client
	// address, of IPv6 its /64; "user" for each user, by address while nobody said
	// who they are; "all" for everybody whom the conditions hold for together. A
	// group's own limit is from = ["group:NAME"] with per = "all".
	Per string `toml:"per"`
	// Requests is how many requests and tunnels may begin, as "100/s", "600/min",
	// "5000/h" or "20000/d". As many may come at once as come in that time, which
	// then fill up evenly.
	Requests unit.Rate `toml:"requests"`
	// Burst is how many requests may come at once instead; 0 leaves it as above.
	Burst int `toml:"burst"`
	// Bytes is how many bytes of bodies and tunnels may pass, both ways together, as
	// "1GiB/d", at once as for requests. When they are used up nothing new begins and
	// tunnels are cut; an answer that has begun is finished, and counts.
	Bytes unit.Rate `toml:"bytes"`
	// Bandwidth is how fast bytes of bodies and tunnels pass, both ways together, as
	// "10MiB/s", at least "16KiB/s". Nothing is refused for it.
	Bandwidth unit.Rate `toml:"bandwidth"`
	// Concurrent is how many requests and tunnels may be under way; 0 sets no limit.
	Concurrent int `toml:"concurrent"`
}

// limit is one compiled limit.
type limit struct {
	config LimitConfig
	spec   quota.Spec
	allows string // what, for people
	when   rule   // its conditions; as one that denies, so that doubt holds
}

// minBandwidth is what Bandwidth must allow in a second: a tunnel pays for
// pieces of that size.
const minBandwidth = 16 << 10

func (k *compiler) limit(i int, c LimitConfig) limit {
	key := index("acl.limit", i)
	out := limit{config: c, spec: quota.Spec{Name: c.Name, Concurrent: c.Concurrent}}
	out.allows = c.allows()
	out.when.conditions = k.conditions(key, RuleConfig{From: c.From, NotFrom: c.NotFrom, To: c.To, NotTo: c.NotTo,
		Ports: c.Ports, Methods: c.Methods, Schemes: c.Schemes, When: c.When, Listen: c.Listen})
	switch c.Per {
	case "", "client":
	case "user":
		out.spec.Per = quota.User
	case "all":
		out.spec.Per = quota.All
	default:
		k.problems.Add(key+".per", `write "client", "user" or "all"`, "%s is not who can share a limit", quote(c.Per))
	}
	k.tableName("acl.limit", i, "the limit", c.Name, func(j int) string { return k.config.Limits[j].Name })
	if c.Burst < 0 || c.Burst > 0 && c.Requests == (unit.Rate{}) {
		k.problems.Add(key+".burst", `write a number above zero, beside requests = "100/s"`, "%d is not a number of requests at once", c.Burst)
	}
	if c.Concurrent < 0 {
		k.problems.Add(key+".concurrent", "write a number above zero, or 0 for no limit", "%d is out of range", c.Concurrent)
	}
	if c.Bandwidth != (unit.Rate{}) && c.Bandwidth.PerSecond() < minBandwidth {
		k.problems.Add(key+".bandwidth", `write at least "16KiB/s"; bytes = "1GiB/d" is for less`, "%s is too slow to be of use", c.Bandwidth)
	}
	if c.Requests == (unit.Rate{}) && c.Bytes == (unit.Rate{}) && c.Bandwidth == (unit.Rate{}) && c.Concurrent == 0 {
		k.problems.Add(key, `give it "requests", "bytes", "bandwidth" or "concurrent"`, "the limit limits nothing")
	}
	out.spec.Requests, out.spec.Bytes = bucket(c.Requests), bucket(c.Bytes)
	if c.Burst > 0 {
		out.spec.Requests.Burst = c.Burst
	}
	if per := c.Bandwidth.PerSecond(); per > 0 {
		out.spec.Bandwidth = quota.Bucket{Rate: per, Burst: max(minBandwidth, int(per/4))}
	}
	return out
}

func bucket(r unit.Rate) quota.Bucket {
	return quota.Bucket{Rate: r.PerSecond(), Burst: int(r.Amount)}
}

// tableName holds the name of table i against the rules for names; what is
// what it is for people, and other returns the name of one before it.
func (k *compiler) tableName(table string, i int, what, name string, other func(int) string) {
	key := index(table, i) + ".name"
	switch {
	case name == "":
		k.problems.Add(key, "write one that says to a client what it met", "%s has no name", what)
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		k.problems.Add(key, "", "the name %s has a control character in it", quote(name))
	}
	for j := range i {
		if name != "" && other(j) == name {
			k.problems.Add(key, "give each a name of its own", "%s[%d] is called %q as well", table, j, name)
			return
		}
	}
}

// allows says what the limit leaves, and to whom.
func (c LimitConfig) allows() string {
	var parts []string
	for _, r := range []struct {
		name string
		rate unit.Rate
	}{{"requests", c.Requests}, {"bytes", c.Bytes}, {"bandwidth", c.Bandwidth}} {
		if r.rate != (unit.Rate{}) {
			parts = append(parts, r.name+" "+r.rate.String())
		}
		if r.name == "requests" && c.Burst > 0 {
			parts = append(parts, "burst "+strconv.Itoa(c.Burst))
		}
	}
	if c.Concurrent > 0 {
		parts = append(parts, "concurrent "+strconv.Itoa(c.Concurrent))
	}
	return strings.Join(parts, ", ") + " per " + cmp.Or(c.Per, "client")
}

// LimitStep is what one limit came to when a request was explained.
type LimitStep struct {
	Limit   string `json:"limit"`
	Allows  string `json:"allows"`  // what, and to whom, for people
	Outcome string `json:"outcome"` // "applies", or why it does not, for people
}

// ExplainLimits returns what Limits does, with the limits that do not hold.
func (e *Engine) ExplainLimits(r Request) (out []LimitStep) {
	r.plain()
	for i := range e.limits {
		l := &e.limits[i]
		t, why := l.when.match(&r)
		out = append(out, LimitStep{Limit: l.spec.Name, Allows: l.allows, Outcome: outcomeOf(t, why)})
	}
	return out
}

// Limited reports whether there is any limit.
func (e *Engine) Limited() bool { return len(e.limits) > 0 }

// Limits returns those that hold for a request that is allowed, in the order of
// the policy.
func (e *Engine) Limits(r Request) (out []quota.Spec) {
	r.plain()
	for i := range e.limits {
		l := &e.limits[i]
		if t, _ := l.when.match(&r); t != no {
			out = append(out, l.spec)
		}
	}
	return out
}
