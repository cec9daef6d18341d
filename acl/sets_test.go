package acl

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

func TestADomainSetHoldsWhatWasAddedAndNothingElse(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	alone, andBelow := map[string]bool{}, map[string]bool{}
	name := func() string {
		labels := make([]string, 1+r.IntN(4))
		for i := range labels {
			labels[i] = pick(r, []string{"a", "b", "c", "dd", "e-e", "0"})
		}
		return strings.Join(labels, ".")
	}
	var d domainSet
	if d.match("a") || d.covers("a", below) {
		t.Error("the empty set holds something")
	}
	for range 400 {
		n, isBelow := name(), r.IntN(3) == 0
		d.add(n, isBelow)
		if isBelow {
			andBelow[n] = true
		} else {
			alone[n] = true
		}
	}
	want := func(n string) bool {
		if alone[n] || andBelow[n] {
			return true
		}
		for above := range andBelow {
			if strings.HasSuffix(n, "."+above) {
				return true
			}
		}
		return false
	}
	for range 5000 {
		if n := name() + pick(r, []string{"", ".a", ".zz"}); d.match(n) != want(n) {
			t.Fatalf("match(%q) = %v", n, !want(n))
		}
	}
}

func TestALargeDomainSetFindsEachOfItsNames(t *testing.T) {
	var d domainSet
	const n = 100_000
	for i := range n {
		d.add(fmt.Sprintf("host-%d.example", i), false)
	}
	for i := range n {
		if !d.match(fmt.Sprintf("host-%d.example", i)) || d.match(fmt.Sprintf("host-%d.example", n+i)) {
			t.Fatalf("name %d", i)
		}
	}
	if d.count != n {
		t.Errorf("%d names, want %d", d.count, n)
	}
}

func TestAnAddressSetHoldsWhatItsPrefixesHold(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	random := func() netip.Addr {
		if r.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{10, byte(r.IntN(2)), byte(r.IntN(4)), byte(r.IntN(256))})
		}
		return netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 14: byte(r.IntN(4)), 15: byte(r.IntN(256))})
	}
	for range 300 {
		var s addressSet
		var all []netip.Prefix
		for range r.IntN(12) {
			a := random()
			p := netip.PrefixFrom(a, a.BitLen()-r.IntN(14)).Masked()
			s.add(p)
			all = append(all, p)
		}
		s.seal()
		for range 200 {
			a, want := random(), false
			for _, p := range all {
				want = want || p.Contains(a)
			}
			if s.contains(a) != want {
				t.Fatalf("%v: contains(%v) = %v", all, a, !want)
			}
		}
	}
	var s addressSet
	s.add(netip.MustParsePrefix("0.0.0.0/0"))
	s.add(netip.MustParsePrefix("::/0"))
	s.seal()
	if s.contains(netip.Addr{}) {
		t.Error("the zero address lies in a prefix")
	}
}

// crowded is a policy with a large list, a rule about addresses, and a verdict from the last rule.
func crowded(t testing.TB, n int) *Engine {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "||host-%d.example-%d.test^\n", i, i%1000)
		if i%10 == 0 {
			fmt.Fprintf(&b, "10.%d.%d.0/24\n", i>>8&0xff, i&0xff)
		}
	}
	return compile(t, Config{
		Lists: map[string]ListConfig{"big": {Files: []string{"big"}}},
		Rules: []RuleConfig{
			{From: []string{"192.0.2.0/24", "fe80::/10"}, Action: "deny"},
			{To: []string{"list:big"}, Action: "deny"},
			{Methods: []string{"POST"}, To: []string{".upload.test"}, Action: "deny"},
			{From: []string{"10.0.0.0/8"}, To: []string{".good.test", "203.0.113.0/24"}, Action: "allow"},
		},
	}, files{"big": b.String()})
}

func TestDecidingAllocatesNothing(t *testing.T) {
	e := crowded(t, 1000)
	public := netip.MustParseAddr("2606:4700::1111")
	for _, q := range []Request{
		ask("10.0.0.1", "a.b.c.good.test"), at(ask("10.0.0.1", "a.b.c.good.test"), "2001:db8::1"), ask("10.0.0.1", "203.0.113.9"),
		ask("fe80::1%eth0", "x.test"), ask("10.0.0.1", "x.host-7.example-7.test"), ask("10.0.0.1", "nowhere.test"), {},
	} {
		if n := testing.AllocsPerRun(100, func() { e.Decide(q) }); n != 0 {
			t.Errorf("%+v: %v allocations", q, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _ = e.Destination(public) }); n != 0 {
		t.Errorf("Destination: %v allocations", n)
	}
}

func BenchmarkDecide(b *testing.B) {
	e := crowded(b, 1_000_000)
	q := at(ask("10.0.0.1", "a.b.c.good.test"), "198.51.100.1")
	if v := e.Decide(q); v.Action != Allow {
		b.Fatalf("%+v", v)
	}
	b.ReportAllocs()
	for b.Loop() {
		e.Decide(q)
	}
}

func BenchmarkDestination(b *testing.B) {
	e := compile(b, Config{}, nil)
	a := netip.MustParseAddr("2606:4700::1111")
	b.ReportAllocs()
	for b.Loop() {
		_ = e.Destination(a)
	}
}

func BenchmarkReadList(b *testing.B) {
	var text strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&text, "0.0.0.0 host-%d.example-%d.test\n", i, i%1000)
	}
	b.ReportAllocs()
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		if out := readList(strings.NewReader(text.String()), &set{}, anyLines); out.err != nil {
			b.Fatal(out.err)
		}
	}
}
