package store

import "sync/atomic"

// The policy is S3-FIFO (Yang and others, SOSP 2023): what is new goes through
// a small queue, and only what is used there goes on to the main one, which
// puts what is used at its end again. Both tables here have a fixed size and
// may be wrong about an object that shares its place with another; then that
// stays too long or goes too soon, and no more.

// mostUses is where counting ends; a popular object's counter is only read.
const mostUses = 3

// counters counts the uses of objects, four bits each.
type counters struct {
	words []atomic.Uint32
	mask  uint64
}

func newCounters(n int) counters {
	n = powerOfTwo(max(n, 64))
	return counters{words: make([]atomic.Uint32, n/8), mask: uint64(n - 1)}
}

func (c *counters) at(h uint64) (*atomic.Uint32, uint) {
	i := h >> 8 & c.mask
	return &c.words[i/8], uint(i%8) * 4
}

func (c *counters) get(h uint64) uint32 {
	w, shift := c.at(h)
	return w.Load() >> shift & 15
}

// change replaces the count by what f makes of it.
func (c *counters) change(h uint64, f func(uint32) uint32) {
	w, shift := c.at(h)
	for {
		old := w.Load()
		n := old >> shift & 15
		next := f(n)
		if next == n || w.CompareAndSwap(old, old&^(15<<shift)|next<<shift) {
			return
		}
	}
}

// use counts one use.
func (c *counters) use(h uint64) {
	c.change(h, func(n uint32) uint32 { return min(n+1, mostUses) })
}

// keep sees to it that there is a use to count on.
func (c *counters) keep(h uint64) { c.change(h, func(n uint32) uint32 { return max(n, 1) }) }

// less takes one use back.
func (c *counters) less(h uint64) { c.change(h, func(n uint32) uint32 { return max(n, 1) - 1 }) }

// ghosts remembers what left the small queue unused of late: in each set the
// marks of four objects, the oldest of which goes first.
type ghosts struct {
	sets []atomic.Uint64
	mask uint64
}

func newGhosts(n int) ghosts {
	n = powerOfTwo(max(n, 64)) / 4
	return ghosts{sets: make([]atomic.Uint64, n), mask: uint64(n - 1)}
}

func (g *ghosts) at(h uint64) (*atomic.Uint64, uint64) {
	return &g.sets[h>>8&g.mask], max(h>>48, 1)
}

func (g *ghosts) add(h uint64) {
	set, mark := g.at(h)
	for {
		old := set.Load()
		for v := old; v != 0; v >>= 16 {
			if v&0xffff == mark {
				return
			}
		}
		if set.CompareAndSwap(old, old<<16|mark) {
			return
		}
	}
}

// has reports whether the object is remembered. The mark stays until others
// push it out.
func (g *ghosts) has(h uint64) bool {
	set, mark := g.at(h)
	for v := set.Load(); v != 0; v >>= 16 {
		if v&0xffff == mark {
			return true
		}
	}
	return false
}

func powerOfTwo(n int) int {
	p := 1
	for 2*p <= n {
		p *= 2
	}
	return p
}
