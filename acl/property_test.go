package acl

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"fwdproxy/internal/unit"
)

// A small world, so that random rules and requests meet often.
var (
	someHosts     = []string{"test", "a.test", "b.a.test", "c.b.a.test", "b.test", "192.0.2.1", "192.0.2.130", "2001:db8::1"}
	someAddresses = []string{"192.0.2.1", "192.0.2.130", "192.0.2.200", "198.51.100.1", "2001:db8::1", "2001:db8:1::1", "::ffff:192.0.2.1"}
	someEntries   = []string{"*", "test", "a.test", ".a.test", "b.a.test", ".b.a.test", ".test", "192.0.2.0/24", "192.0.2.128/25",
		"192.0.2.1", "2001:db8::/32", "2001:db8::1", "list:names", "list:nets", "list:both", "list:urls"}
	someClients = []string{"10.0.0.1", "10.0.0.2", "10.1.0.1", "fe80::1"}
	someFrom    = []string{"10.0.0.0/8", "10.0.0.1", "10.0.0.0/16", "fe80::/10", "list:nets", "user:ann", "group:sales", "user:bob"}
	someMethods = []string{"GET", "POST", "CONNECT"}
	someActions = []string{"allow", "deny"}
	ruleActions = []string{"allow", "deny", "allow", "deny", "intercept", "tunnel"}
	somePaths   = []string{"/a", "/%61", "/b/../a", "/b", "/b%2fa", ""}
	somePathREs = []string{"^/a$", "^/b", "a"}
	someFields  = [][]string{nil, {"x"}, {"y"}, {"x", "y"}, {"y", "y"}, {"xy"}}
	someREs     = []string{"^x$", "y", "^$"}
	someTimes   = []string{"2026-01-07T12:00:00Z", "2026-01-10T23:30:00Z", "2026-01-11T00:30:00Z", ""}
	someWhen    = []string{"Mon-Fri UTC", "Sat 23:00-01:00 UTC", "12:00-24:00 UTC"}
	someListens = []string{"192.0.2.1:3128", "192.0.2.2:3128", "192.0.2.1:3129", ""}
	someListen  = []string{"3128", "192.0.2.1", "192.0.2.2:3128"}
	someSchemes = []string{"http", "https", "tunnel"}
)

// person is who asks; the last two said nothing, and one of them can be asked.
type person struct {
	user   string
	groups []string
	may    bool
}

var somePeople = []person{{"ann", []string{"sales", "all"}, true}, {"bob", nil, true}, {"carol", []string{"sales"}, false}, {"", nil, true}, {"", nil, false}}

func asked(q Request, p person) Request {
	q.User, q.Groups, q.MayIdentify = p.user, p.groups, p.may
	return q
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func some[T any](r *rand.Rand, from []T, atMost int) []T {
	var out []T
	for range r.IntN(atMost + 1) {
		out = append(out, pick(r, from))
	}
	return out
}

func randomConfig(r *rand.Rand) Config {
	c := Config{Default: pick(r, someActions), Lists: map[string]ListConfig{
		"names": {Domains: []string{".b.test", "a.test"}},
		"nets":  {Addresses: []string{"192.0.2.0/25", "10.1.0.0/16"}},
		"urls":  {URLs: []string{"a.test/a", "b.a.test/b", "192.0.2.1/a?x"}},
		"both":  {Domains: []string{"c.b.a.test"}, Addresses: []string{"2001:db8:1::/48", "198.51.100.1"}},
	}}
	for range r.IntN(6) {
		rule := RuleConfig{Action: pick(r, ruleActions), To: some(r, someEntries, 3), From: some(r, someFrom, 1), Methods: some(r, someMethods, 1)}
		if r.IntN(4) == 0 {
			rule.Ports = []unit.PortRange{{First: 80, Last: uint16(80 + r.IntN(2))}}
		}
		maybe := func(set func()) {
			if r.IntN(12) == 0 {
				set()
			}
		}
		maybe(func() { rule.NotTo = some(r, someEntries[1:], 2) })
		maybe(func() { rule.NotFrom = some(r, someFrom, 1) })
		maybe(func() { rule.NotMethods = some(r, someMethods, 1) })
		maybe(func() { rule.Schemes = some(r, someSchemes, 2) })
		maybe(func() { rule.NotSchemes = some(r, someSchemes, 2) })
		maybe(func() { rule.Path = pick(r, somePathREs) })
		maybe(func() { rule.NotPath = pick(r, somePathREs) })
		maybe(func() { rule.Query = pick(r, someREs) })
		maybe(func() { rule.NotQuery = pick(r, someREs) })
		maybe(func() { rule.Header = map[string]string{"x-a": pick(r, someREs)} })
		maybe(func() { rule.NotHeader = map[string]string{"x-a": pick(r, someREs)} })
		maybe(func() { rule.UserAgent = pick(r, someREs) })
		maybe(func() { rule.NotUserAgent = pick(r, someREs) })
		maybe(func() { rule.When = pick(r, someWhen) })
		maybe(func() { rule.NotWhen = pick(r, someWhen) })
		maybe(func() { rule.Listen = some(r, someListen, 2) })
		maybe(func() { rule.NotListen = some(r, someListen, 2) })
		if rule.connects() {
			rule = RuleConfig{Action: rule.Action, To: rule.To, From: rule.From, Ports: rule.Ports, NotTo: rule.NotTo, NotFrom: rule.NotFrom,
				When: rule.When, NotWhen: rule.NotWhen, Listen: rule.Listen, NotListen: rule.NotListen}
		}
		c.Rules = append(c.Rules, rule)
	}
	return c
}

func randomRequest(r *rand.Rand) Request {
	q := ask(pick(r, someClients), pick(r, someHosts))
	q.Method, q.Port = pick(r, someMethods), uint16(80+r.IntN(3))
	q.Now, _ = time.Parse(time.RFC3339, pick(r, someTimes))
	q.Listen, _ = netip.ParseAddrPort(pick(r, someListens))
	q = asked(q, pick(r, somePeople))
	q.Header = map[string][]string{"X-A": pick(r, someFields), "User-Agent": pick(r, someFields)}
	if q.Method != "CONNECT" {
		q.Scheme, q.Path, q.Query = pick(r, someSchemes[:2]), pick(r, somePaths), pick(r, []string{"", "x", "%78", "y"})
	}
	return q
}

func TestASettledActionIsTheOneThatEveryAddressGets(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	settled, pending, differ := 0, 0, 0
	for range 8_000 {
		c := randomConfig(r)
		e := compile(t, c, nil)
		q := randomRequest(r)
		v := e.Decide(q)
		seen := map[Action]bool{}
		for _, addr := range someAddresses {
			known := e.Decide(at(q, addr))
			if known.Pending {
				t.Fatalf("%+v with its address: still pending: %+v", at(q, addr), known)
			}
			if !v.Pending && known.Action != v.Action && !(v.ActionPending && (known.Action.Permits() || known.Challenge)) {
				t.Fatalf("%+v\n%+v\nsettled %+v\nat %s %+v", c, q, v, addr, known)
			}
			seen[known.Action] = true
		}
		if v.Pending {
			pending++
			if v.Action != Deny || v.Index < 0 || q.HostAddr.IsValid() {
				t.Fatalf("pending: %+v for %+v", v, q)
			}
			if len(seen) == 2 {
				differ++
			}
			continue
		}
		settled++
	}
	if settled < 1000 || differ < 200 {
		t.Errorf("%d settled, %d pending of which %d could go either way: too few to tell", settled, pending, differ)
	}
}

// slow decides as the policy reads, without tables.
func slow(c Config, q Request) (Action, int) {
	holds := func(text string, addr netip.Addr, host string) bool {
		if text == "*" {
			return true
		}
		if p, err := netip.ParsePrefix(text); err == nil {
			return p.Contains(addr)
		}
		if a, err := netip.ParseAddr(text); err == nil {
			return a == addr
		}
		name, isBelow := strings.CutPrefix(text, ".")
		return host == name || isBelow && strings.HasSuffix(host, text)
	}
	any := func(texts []string, addr netip.Addr, host string) bool {
		for _, text := range texts {
			kind, name, _ := strings.Cut(text, ":")
			if kind == "user" && name == q.User || kind == "group" && slices.Contains(q.Groups, name) {
				return true
			}
		}
		for _, text := range texts {
			all := []string{text}
			if l, ok := strings.CutPrefix(text, "list:"); ok {
				all = append(c.Lists[l].Domains, c.Lists[l].Addresses...)
			}
			for _, text := range all {
				if holds(text, addr, host) {
					return true
				}
			}
		}
		return len(texts) == 0
	}
	addr := q.Addr.Unmap()
	host := q.Host
	if q.HostAddr.IsValid() {
		addr, host = q.HostAddr, "not a name"
	}
	for i, u := range c.Rules {
		from, notFrom := any(u.From, q.Client, "not a name"), len(u.NotFrom) > 0 && any(u.NotFrom, q.Client, "not a name")
		if q.User == "" { // in doubt
			from = from || u.Action == "deny" && identities(u.From)
			notFrom = notFrom || u.Action != "deny" && identities(u.NotFrom)
		}
		to, notTo := any(u.To, addr, host), len(u.NotTo) > 0 && any(u.NotTo, addr, host)
		if in, unsure := urlReadings(u.To, q); !to {
			to = in || unsure && u.Action == "deny"
		}
		if in, unsure := urlReadings(u.NotTo, q); !notTo {
			notTo = in || unsure && u.Action != "deny"
		}
		if !from || notFrom || !to || notTo ||
			u.connects() && q.Method != "CONNECT" ||
			len(u.Methods) > 0 && u.Methods[0] != q.Method || len(u.NotMethods) > 0 && u.NotMethods[0] == q.Method ||
			len(u.Ports) > 0 && !u.Ports[0].Contains(q.Port) || !slowly(u, q) {
			continue
		}
		switch u.Action {
		case "allow", "tunnel":
			return Allow, i
		case "intercept":
			return Intercept, i
		}
		return Deny, i
	}
	if c.Default == "allow" {
		return Allow, -1
	}
	return Deny, -1
}

// urlReadings reports whether the request's URL is in list:urls, if that is
// among texts, however it is read, or by some readings alone.
func urlReadings(texts []string, q Request) (in, unsure bool) {
	path := map[string]string{"a.test": "/a", "b.a.test": "/b", "192.0.2.1": "/a"}[q.Host]
	switch {
	case path == "" || !slices.Contains(texts, "list:urls"):
		return false, false
	case q.Method == "CONNECT" || q.Path == "":
		return false, true
	}
	readings := map[string][]string{"/a": {"/a"}, "/%61": {"/a"}, "/b/../a": {"/b/../a", "/a"}, "/b": {"/b"}, "/b%2fa": {"/b%2fa", "/b/a"}}[q.Path]
	in = true
	for _, r := range readings {
		hit := r == path || strings.HasPrefix(r, path+"/")
		if q.Host == "192.0.2.1" {
			hit = r == path && (q.Query == "x" || q.Query == "%78")
		}
		in, unsure = in && hit, unsure || hit
	}
	return in, unsure && !in
}

func identities(texts []string) bool {
	return slices.ContainsFunc(texts, func(s string) bool { return strings.HasPrefix(s, "user:") || strings.HasPrefix(s, "group:") })
}

// slowly reports whether the conditions hold that may be in doubt: each gives
// what it says of every reading of the request, nothing where there is none to
// be seen. A rule that allows needs all of them, one that denies any.
func slowly(u RuleConfig, q Request) bool {
	settle := func(readings []bool, not bool) bool {
		if len(readings) == 0 {
			return u.Action == "deny"
		}
		if not {
			readings = slices.Clone(readings)
			for i := range readings {
				readings[i] = !readings[i]
			}
		}
		if u.Action == "deny" {
			return slices.Contains(readings, true)
		}
		return !slices.Contains(readings, false)
	}
	match := func(re string, texts []string) []bool {
		var out []bool
		for _, text := range texts {
			out = append(out, regexp.MustCompile(re).MatchString(text))
		}
		return out
	}
	seen := q.Method != "CONNECT" && q.Path != ""
	readings := map[string][]string{"/a": {"/a"}, "/%61": {"/%61", "/a"}, "/b/../a": {"/b/../a", "/a"}, "/b": {"/b"}, "/b%2fa": {"/b%2fa", "/b/a"}}
	paths, queries := readings[q.Path], []string{q.Query}
	if q.Query == "%78" {
		queries = append(queries, "x")
	}
	if !seen {
		paths, queries = nil, nil
	}
	lines := func(name string) []string {
		out := slices.Clone(q.Header[name])
		if len(out) > 1 {
			out = append(out, strings.Join(out, ", "))
		}
		return out
	}
	field := func(re string) []bool {
		if out := match(re, lines("X-A")); len(out) > 0 || !seen {
			return out
		}
		return []bool{false}
	}
	agent := func(re string) []bool {
		if out := match(re, lines("User-Agent")); len(out) > 0 || !seen {
			return out
		}
		return match(re, []string{""})
	}
	times := func(when string) []bool {
		day, hour := q.Now.Weekday(), q.Now.Hour()
		switch {
		case q.Now.IsZero():
			return nil
		case when == "Mon-Fri UTC":
			return []bool{day >= time.Monday && day <= time.Friday}
		case when == "Sat 23:00-01:00 UTC":
			return []bool{day == time.Saturday && hour == 23 || day == time.Sunday && hour == 0}
		}
		return []bool{hour >= 12}
	}
	listens := func(texts []string) []bool {
		a := q.Listen
		if !a.IsValid() {
			return nil
		}
		return []bool{slices.Contains(texts, "3128") && a.Port() == 3128 || slices.Contains(texts, a.Addr().String()) || slices.Contains(texts, a.String())}
	}
	schemes := func(texts []string) []bool {
		scheme := q.Scheme
		if q.Method == "CONNECT" {
			scheme = "tunnel"
		}
		return []bool{slices.Contains(texts, scheme)}
	}
	hide := func(readings []bool) []bool {
		if !seen {
			return nil
		}
		return readings
	}
	for _, c := range []struct {
		set, not bool
		readings func() []bool
	}{
		{len(u.Schemes) > 0, false, func() []bool { return schemes(u.Schemes) }},
		{len(u.NotSchemes) > 0, true, func() []bool { return schemes(u.NotSchemes) }},
		{u.Path != "", false, func() []bool { return match(u.Path, paths) }},
		{u.NotPath != "", true, func() []bool { return match(u.NotPath, paths) }},
		{u.Query != "", false, func() []bool { return match(u.Query, queries) }},
		{u.NotQuery != "", true, func() []bool { return match(u.NotQuery, queries) }},
		{u.Header != nil, false, func() []bool { return hide(field(u.Header["x-a"])) }},
		{u.NotHeader != nil, true, func() []bool { return hide(field(u.NotHeader["x-a"])) }},
		{u.UserAgent != "", false, func() []bool { return hide(agent(u.UserAgent)) }},
		{u.NotUserAgent != "", true, func() []bool { return hide(agent(u.NotUserAgent)) }},
		{u.When != "", false, func() []bool { return times(u.When) }},
		{u.NotWhen != "", true, func() []bool { return times(u.NotWhen) }},
		{len(u.Listen) > 0, false, func() []bool { return listens(u.Listen) }},
		{len(u.NotListen) > 0, true, func() []bool { return listens(u.NotListen) }},
	} {
		if c.set && !settle(c.readings(), c.not) {
			return false
		}
	}
	return true
}

func TestTheEngineDecidesAsThePolicyReads(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 4_000 {
		c := randomConfig(r)
		q := at(randomRequest(r), pick(r, someAddresses))
		if q.User == "" {
			q.MayIdentify = false // else it may be asked, of which the next test is
		}
		v := compile(t, c, nil).Decide(q)
		if explained, _ := compile(t, c, nil).Explain(q); explained != v {
			t.Fatalf("%+v\n%+v\ndecides %+v, explains %+v", c, q, v, explained)
		}
		if action, i := slow(c, q); v.Action != action || v.Index != i {
			t.Fatalf("%+v\n%+v\ndecides %+v, reads as %v by rule %d", c, q, v, action, i)
		}
	}
}

func TestWhoHasNotSaidWhoTheyAreGetsWhatEverybodyGetsOrIsAsked(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	settled, challenged, differ := 0, 0, 0
	for range 6_000 {
		c := randomConfig(r)
		e := compile(t, c, nil)
		q := asked(randomRequest(r), person{"", nil, true})
		v := e.Decide(q)
		if v.Challenge && !v.Pending && (v.Action != Deny || v.Index < 0 || !identities(append(c.Rules[v.Index].From, c.Rules[v.Index].NotFrom...))) {
			t.Fatalf("%+v\n%+v\nchallenge %+v", c, q, v)
		}
		seen := map[Action]bool{}
		for _, addr := range someAddresses {
			nobody := e.Decide(at(q, addr))
			if v.Challenge && !v.Pending && nobody.Action.Permits() {
				t.Fatalf("%+v\n%+v\nis asked, and would be allowed at %s: %+v", c, q, addr, nobody)
			}
			for _, p := range somePeople[:3] {
				known := e.Decide(asked(at(q, addr), p))
				if known.Challenge || known.Pending {
					t.Fatalf("%+v is known: %+v", p, known)
				}
				seen[known.Action] = true
				if !nobody.Challenge && known.Action != nobody.Action {
					t.Fatalf("%+v\n%+v\nat %s nobody gets %+v, %+v gets %+v", c, q, addr, nobody, p, known)
				}
				if !v.Challenge && !v.Pending && known.Action != v.Action && !(v.ActionPending && known.Action.Permits()) {
					t.Fatalf("%+v\n%+v\nnobody gets %+v, %+v at %s gets %+v", c, q, v, p, addr, known)
				}
			}
		}
		switch {
		case v.Challenge && !v.Pending:
			challenged++
			if len(seen) == 2 {
				differ++
			}
		case !v.Pending:
			settled++
		}
	}
	if settled < 1000 || challenged < 200 || differ < 50 {
		t.Errorf("%d settled, %d asked, of which %d could go either way: too few to tell", settled, challenged, differ)
	}
}

func TestARuleThatIsWarnedAboutNeverDecides(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	warned := 0
	for range 1000 {
		c := randomConfig(r)
		dead := map[string]bool{}
		for _, w := range c.Warnings() {
			dead[w.Key] = true
			warned++
		}
		e := compile(t, c, nil)
		for range 100 {
			v := e.Decide(at(randomRequest(r), pick(r, someAddresses)))
			if v.Index >= 0 && dead[fmt.Sprintf("acl.rule[%d]", v.Index)] {
				t.Fatalf("%+v\n%v\nand yet %+v", c, c.Warnings(), v)
			}
		}
	}
	if warned < 200 {
		t.Errorf("%d warnings are too few to tell", warned)
	}
}
