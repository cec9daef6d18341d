package store

import (
	"math/rand/v2"
	"runtime"
	"testing"
)

// overhead is what a Memory may take beyond its size: a sixteenth, what the
// shards copy through, and the index, by entry. docs/operating.md states it.
func overhead(s Stats) int64 { return s.Limit/16 + 1<<20 + 48*int64(s.Entries) }

func heap() int64 {
	runtime.GC()
	runtime.GC() // what has a finalizer goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestFilledTenTimesOverItStaysWithinItsSizeAndTheStatedOverhead(t *testing.T) {
	const size = 8 << 20
	for name, length := range map[string]func(*rand.Rand) int{
		"tiny ones":  func(*rand.Rand) int { return 0 },
		"large ones": func(r *rand.Rand) int { return size/8 + r.IntN(size/8) },
		"mixed": func(r *rand.Rand) int {
			if r.IntN(50) == 0 {
				return r.IntN(size / 8)
			}
			return r.IntN(3000)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			blank, head := make([]byte, size/4), make([]byte, 300)
			before := heap()
			m := newMemory(t, size)
			for i, total := 0, 0; total < 10*size; i++ {
				n := length(r)
				total += n + len(head)
				if err := m.Put(key(i), head, split(blank[:n])); err != nil {
					t.Fatal(err)
				}
				m.Get(key(r.IntN(i + 1)))
			}
			taken, s := heap()-before, m.Stats()
			runtime.KeepAlive(blank)
			t.Logf("%.1f MiB taken, %d entries of %d bytes on average; beyond the size: %d bytes, %.1f an entry", float64(taken)/(1<<20),
				s.Entries, s.Bytes/int64(s.Entries), taken-s.Limit, float64(taken-s.Limit)/float64(s.Entries))
			if s.Bytes > s.Limit || s.Limit != size {
				t.Errorf("got %+v", s)
			}
			if taken > size+overhead(s) {
				t.Errorf("it takes %d bytes, more than %d and %d", taken, size, overhead(s))
			}
			if n := m.q.transit.len.Load(); n != 0 || m.q.transit.bytes != 0 || len(m.q.transit.order) != 0 {
				t.Errorf("%d objects with %d bytes are still on their way", n, m.q.transit.bytes)
			}
		})
	}
}

// flood puts n bytes of what nobody asks for again.
func flood(t *testing.T, m *Memory, from, n int) int {
	t.Helper()
	for ; n > 0; n -= 20_000 {
		if err := m.Put(key(from), make([]byte, 400), split(make([]byte, 20_000))); err != nil {
			t.Fatal(err)
		}
		from++
	}
	return from
}

func TestWhatIsUsedOutlivesAFloodTogetherWithItsPrimary(t *testing.T) {
	const size = 32 << 20
	m := newMemory(t, size)
	primary, small, large := key(1), key(2), key(3)
	body := content(3, 3<<20)
	for k, b := range map[Key][]byte{primary: nil, small: []byte("small"), large: body} {
		if err := m.Put(k, []byte("head"), split(b)); err != nil {
			t.Fatal(err)
		}
	}
	next := 100
	for round := range 8 {
		for _, k := range []Key{primary, small, large} {
			o, ok := m.Get(k)
			if !ok {
				t.Fatalf("round %d: object %d is gone", round, k[0])
			}
			if err := m.SetHead(k, o, []byte{byte(round)}); err != nil { // as a 304 does
				t.Fatal(err)
			}
		}
		o, _ := m.Get(large)
		if got, err := read(t, o, 0, o.Size); err != nil || string(got) != string(body) || o.Head[0] != byte(round) {
			t.Fatalf("round %d: %d bytes, %v", round, len(got), err)
		}
		next = flood(t, m, next, size/2)
	}
	if s := m.Stats(); s.Promoted == 0 || s.Kept == 0 || s.Evicted == 0 {
		t.Errorf("got %+v", s)
	}
}

func TestABodyIsReadToItsEndWhileAFloodPassesByASlowReader(t *testing.T) {
	m := newMemory(t, 8<<20)
	body := content(1, 2<<20)
	if err := m.Put(key(1), nil, split(body)); err != nil {
		t.Fatal(err)
	}
	o, _ := m.Get(key(1))
	r, err := o.Body.Open(0, o.Size)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	next, got, buf := 100, 0, make([]byte, SegmentSize)
	for got < len(body) {
		n, err := r.Read(buf)
		if err != nil || string(buf[:n]) != string(body[got:got+n]) {
			t.Fatalf("after %d bytes: %v", got, err)
		}
		got += n
		for range 5 { // of what is used once, and so passes through the main queue
			if err := m.Put(key(next), nil, split(make([]byte, 60_000))); err != nil {
				t.Fatal(err)
			}
			m.Get(key(next))
			m.Get(key(next))
			next++
		}
	}
}

func TestOneUnusedRunThroughTheSmallQueueLeavesTheMainQueueAlone(t *testing.T) {
	const size = 32 << 20
	m := newMemory(t, size)
	next := flood(t, m, 100, 2*size) // full
	before := m.Stats()
	flood(t, m, next, size)
	if s := m.Stats(); s.Promoted != before.Promoted || s.Kept != before.Kept {
		t.Errorf("what nobody asks for again goes on to the main queue: %+v, then %+v", before, s)
	}
}
