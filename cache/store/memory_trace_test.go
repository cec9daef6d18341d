package store

import (
	"container/list"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// A trace is requests for objects, each of one size for ever. Popularity is
// Zipf's, sizes are log-normal between 1 KiB and 1 MiB, as on the web, and now
// and then somebody walks through what nobody asks for again.
type trace struct {
	objects, requests int
	scans             int // runs of requests for new objects
	scanLength        int
	memory            int64
}

var (
	shortTrace = trace{objects: 10_000, requests: 40_000, scans: 10, scanLength: 800, memory: 32 << 20}
	longTrace  = trace{objects: 200_000, requests: 1_000_000, scans: 40, scanLength: 5000, memory: 512 << 20}
)

// sizeOf is the size in bytes of an object's body.
func sizeOf(id uint64) int {
	r := rand.New(rand.NewPCG(id, 7))
	return int(min(max(math.Exp(r.NormFloat64()*1.4+9.4), 1<<10), 1<<20))
}

func (tr trace) each(visit func(id uint64)) {
	r := rand.New(rand.NewPCG(42, 1))
	zipf := newZipf(tr.objects, 0.9)
	every, next := tr.requests/(tr.scans+1), uint64(1)<<40
	for i := range tr.requests {
		if i%every == every-1 {
			for range tr.scanLength {
				visit(next)
				next++
			}
		}
		visit(zipf.draw(r))
	}
}

// zipf draws rank i with a likelihood of 1/i^s; rand.Zipf wants s above 1,
// which the web is not.
type zipf []float64

func newZipf(n int, s float64) zipf {
	z, sum := make(zipf, n), 0.0
	for i := range z {
		sum += math.Pow(float64(i+1), -s)
		z[i] = sum
	}
	return z
}

func (z zipf) draw(r *rand.Rand) uint64 {
	x, lo, hi := r.Float64()*z[len(z)-1], 0, len(z)-1
	for lo < hi {
		if mid := (lo + hi) / 2; z[mid] < x {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return uint64(lo)
}

// ratios of requests and of bytes that were hits.
type ratios struct{ hits, bytes float64 }

// run asks a cache for everything in the trace; ask reports a hit.
func (tr trace) run(ask func(id uint64, size int) bool) ratios {
	var hits, bytes, all, allBytes float64
	tr.each(func(id uint64) {
		n := sizeOf(id)
		all++
		allBytes += float64(n)
		if ask(id, n) {
			hits++
			bytes += float64(n)
		}
	})
	return ratios{hits / all, bytes / allBytes}
}

// traceHead is the length of the head of a response, and what an entry costs
// the two simulated caches.
const traceHead, traceEntry = 400, 400 + 75

// listCache is LRU, or FIFO when a hit moves nothing. It is given its budget
// to the byte, without the loss of a real one.
type listCache struct {
	room  int64
	moves bool
	order *list.List
	at    map[uint64]*list.Element
}

type listed struct {
	id   uint64
	size int64
}

func newListCache(room int64, moves bool) *listCache {
	return &listCache{room: room, moves: moves, order: list.New(), at: map[uint64]*list.Element{}}
}

func (c *listCache) ask(id uint64, n int) bool {
	if e, ok := c.at[id]; ok {
		if c.moves {
			c.order.MoveToFront(e)
		}
		return true
	}
	size := int64(n + traceEntry)
	for c.room < size {
		e := c.order.Back()
		old := c.order.Remove(e).(listed)
		c.room += old.size
		delete(c.at, old.id)
	}
	c.room -= size
	c.at[id] = c.order.PushFront(listed{id, size})
	return false
}

// asker asks a real Memory, as the cache does: what is missing is put.
func asker(t testing.TB, m *Memory) func(uint64, int) bool {
	blank, head := make([]byte, SegmentSize), make([]byte, traceHead)
	return func(id uint64, n int) bool {
		var k Key
		binary.LittleEndian.PutUint64(k[:], id)
		if o, ok := m.Get(k); ok {
			if o.Size != int64(n) {
				t.Fatalf("object %d has %d bytes, want %d", id, o.Size, n)
			}
			if o.Size > inline {
				r, err := o.Body.Open(0, o.Size)
				if err == nil {
					r.Close()
					return true
				}
			} else {
				return true
			}
		}
		var body [][]byte
		for ; n > 0; n -= SegmentSize {
			body = append(body, blank[:min(n, SegmentSize)])
		}
		if err := m.Put(k, head, body); err != nil {
			t.Fatal(err)
		}
		return false
	}
}

func (tr trace) compare(t testing.TB) (fifo, lru, ours ratios, s Stats) {
	m := newMemory(t, tr.memory)
	ours = tr.run(asker(t, m))
	return tr.run(newListCache(tr.memory, false).ask), tr.run(newListCache(tr.memory, true).ask), ours, m.Stats()
}

func TestScansDoNotPushOutWhatIsPopular(t *testing.T) {
	const margin = 0.02 // of all requests
	fifo, lru, ours, s := shortTrace.compare(t)
	t.Logf("hits: FIFO %.3f, LRU %.3f, here %.3f; %+v", fifo.hits, lru.hits, ours.hits, s)
	if ours.hits < fifo.hits+margin || ours.hits < lru.hits+margin {
		t.Errorf("of all requests %.3f are hits; FIFO has %.3f, LRU %.3f", ours.hits, fifo.hits, lru.hits)
	}
	if ours.bytes < fifo.bytes || ours.bytes < lru.bytes {
		t.Errorf("of all bytes %.3f are hits; FIFO has %.3f, LRU %.3f", ours.bytes, fifo.bytes, lru.bytes)
	}
}

// BenchmarkTrace prints the table of docs/decisions/0010-memory-tier.md.
func BenchmarkTrace(b *testing.B) {
	if b.N > 1 {
		return // once is all
	}
	var out strings.Builder
	fmt.Fprintf(&out, "\n| memory | policy | hits | bytes |\n| --- | --- | --- | --- |\n")
	for _, memory := range []int64{128 << 20, 512 << 20, 1 << 30} {
		tr := longTrace
		tr.memory = memory
		fifo, lru, ours, s := tr.compare(b)
		for _, row := range []struct {
			name string
			r    ratios
		}{{"FIFO", fifo}, {"LRU", lru}, {"fwdproxy", ours}} {
			fmt.Fprintf(&out, "| %d MiB | %s | %.1f %% | %.1f %% |\n", memory>>20, row.name, 100*row.r.hits, 100*row.r.bytes)
		}
		b.Logf("%d MiB: %+v", memory>>20, s)
	}
	fmt.Fprint(os.Stderr, out.String())
}
