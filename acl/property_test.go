package acl

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"fwdproxy/internal/unit"
)

// A small world, so that random rules and requests meet often.
var (
	someHosts     = []string{"test", "a.test", "b.a.test", "c.b.a.test", "b.test", "192.0.2.1", "192.0.2.130", "2001:db8::1"}
	someAddresses = []string{"192.0.2.1", "192.0.2.130", "192.0.2.200", "198.51.100.1", "2001:db8::1", "2001:db8:1::1", "::ffff:192.0.2.1"}
	someEntries   = []string{"*", "test", "a.test", ".a.test", "b.a.test", ".b.a.test", ".test", "192.0.2.0/24", "192.0.2.128/25",
		"192.0.2.1", "2001:db8::/32", "2001:db8::1", "list:names", "list:nets", "list:both"}
	someClients = []string{"10.0.0.1", "10.0.0.2", "10.1.0.1", "fe80::1"}
	someFrom    = []string{"10.0.0.0/8", "10.0.0.1", "10.0.0.0/16", "fe80::/10", "list:nets"}
	someMethods = []string{"GET", "POST", "CONNECT"}
	someActions = []string{"allow", "deny"}
)

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
		"both":  {Domains: []string{"c.b.a.test"}, Addresses: []string{"2001:db8:1::/48", "198.51.100.1"}},
	}}
	for range r.IntN(6) {
		rule := RuleConfig{Action: pick(r, someActions), To: some(r, someEntries, 3), From: some(r, someFrom, 1), Methods: some(r, someMethods, 1)}
		if r.IntN(4) == 0 {
			rule.Ports = []unit.PortRange{{First: 80, Last: uint16(80 + r.IntN(2))}}
		}
		c.Rules = append(c.Rules, rule)
	}
	return c
}

func randomRequest(r *rand.Rand) Request {
	q := ask(pick(r, someClients), pick(r, someHosts))
	q.Method, q.Port = pick(r, someMethods), uint16(80+r.IntN(3))
	return q
}

func TestASettledActionIsTheOneThatEveryAddressGets(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	settled, pending, differ := 0, 0, 0
	for range 4_000 {
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
			if !v.Pending && known.Action != v.Action {
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
		if !any(u.From, q.Client, "not a name") || !any(u.To, addr, host) ||
			len(u.Methods) > 0 && u.Methods[0] != q.Method ||
			len(u.Ports) > 0 && !u.Ports[0].Contains(q.Port) {
			continue
		}
		if u.Action == "allow" {
			return Allow, i
		}
		return Deny, i
	}
	if c.Default == "allow" {
		return Allow, -1
	}
	return Deny, -1
}

func TestTheEngineDecidesAsThePolicyReads(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 4_000 {
		c := randomConfig(r)
		q := at(randomRequest(r), pick(r, someAddresses))
		v := compile(t, c, nil).Decide(q)
		if action, i := slow(c, q); v.Action != action || v.Index != i {
			t.Fatalf("%+v\n%+v\ndecides %+v, reads as %v by rule %d", c, q, v, action, i)
		}
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
