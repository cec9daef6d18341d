package acl

import (
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"
)

func TestALargeSetHasEveryNameAndNoOther(t *testing.T) {
	s := &set{}
	name := func(i int) string { return fmt.Sprintf("host-%d.example-%d.test", i, i%1000) }
	const n = 100_000 // several pieces
	for i := range n {
		s.add(entry{name: name(i), below: i%2 == 0})
	}
	for _, state := range []string{"growing", "sealed", "grown after that"} {
		for i := range n {
			if !s.domains.match(name(i)) || s.domains.match("x."+name(i)) != (i%2 == 0) || s.domains.match(name(i+n)) {
				t.Fatalf("%s: %s", state, name(i))
			}
		}
		if s.domains.count != n || len(s.domains.names) < 2 {
			t.Fatalf("%s: %d names in %d pieces", state, s.domains.count, len(s.domains.names))
		}
		s.seal()
		s.add(entry{name: name(0), below: true})
	}
}

// manyLines is a list of different names that is made while it is read.
type manyLines struct {
	left, i uint64
	rest    []byte
}

func (m *manyLines) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(m.rest) == 0 {
			if m.i == m.left {
				if n == 0 {
					return 0, io.EOF
				}
				return n, nil
			}
			m.i++
			m.rest = fmt.Appendf(m.rest, "%x.ads-%d.test\n", m.i*0x9e3779b97f4a7c15, m.i%1000)
		}
		c := copy(p[n:], m.rest)
		n, m.rest = n+c, m.rest[c:]
	}
	return n, nil
}

// BenchmarkMillionNames loads a list of a million names and looks hosts up that
// are in it and that are not: what a name costs in memory, to load and to find.
func BenchmarkMillionNames(b *testing.B) {
	const names = 1_000_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	s := &set{}
	if out := readList(&manyLines{left: names}, s, anyLines); out.err != nil || s.domains.count != names {
		b.Fatal(out, s.domains.count)
	}
	s.seal()
	took := time.Since(start)
	runtime.GC()
	runtime.ReadMemStats(&after)
	hosts := make([]string, 1<<16)
	for i := range hosts {
		n := uint64(i)*15 + 1
		hosts[i] = fmt.Sprintf("%x.ads-%d.test", n*0x9e3779b97f4a7c15, n%1000)
		if i%2 == 0 {
			hosts[i] = fmt.Sprintf("www.%d.example.test", i)
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		s.domains.match(hosts[i&(len(hosts)-1)])
		i++
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/names, "B/name")
	b.ReportMetric(float64(took.Nanoseconds())/names, "ns/load")
	runtime.KeepAlive(s)
}
