package cache

import (
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// maxOriginGroups bounds the groups of one origin whose invalidation is
	// remembered, maxOrigins the origins. Beyond the first all groups of that
	// origin count as invalidated, beyond the second those of the origins that
	// invalidated least recently.
	maxOriginGroups = 64
	maxOrigins      = 4096
)

// groups remembers the invalidations of groups (RFC 9875). What one origin
// invalidates concerns no other, however much it is.
type groups struct {
	latest atomic.Uint64

	mu      sync.RWMutex
	floor   uint64 // where an origin is not in the map, it invalidated all its groups then
	origins map[string]*originGroups
}

type originGroups struct {
	floor  uint64 // all groups were invalidated then
	latest uint64
	groups map[uint64]uint64
}

// invalidate notes under the number seq that the groups, or all of them, of
// the origin are invalid.
func (g *groups) invalidate(origin string, hashes []uint64, all bool, seq uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.latest.Store(seq)
	o := g.origins[origin]
	if o == nil {
		if len(g.origins) >= maxOrigins {
			g.forgetOldest()
		}
		o = &originGroups{floor: g.floor, groups: map[uint64]uint64{}}
		if g.origins == nil {
			g.origins = map[string]*originGroups{}
		}
		g.origins[origin] = o
	}
	o.latest = seq
	for _, h := range hashes {
		o.groups[h] = seq
	}
	if all || len(o.groups) > maxOriginGroups {
		o.floor = seq
		clear(o.groups)
	}
}

// forgetOldest drops a quarter of the origins, so that the sorting is paid for
// by many.
func (g *groups) forgetOldest() {
	latest := make([]uint64, 0, len(g.origins))
	for _, o := range g.origins {
		latest = append(latest, o.latest)
	}
	slices.Sort(latest)
	g.floor = latest[len(latest)/4]
	for origin, o := range g.origins {
		if o.latest <= g.floor {
			delete(g.origins, origin)
		}
	}
}

// raise makes invalid all that has a group and began before the number seq.
func (g *groups) raise(seq uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.floor, g.origins = seq, nil
	g.latest.Store(seq)
}

// hit reports whether a group of m was invalidated since its fetch began.
func (g *groups) hit(m *mark) bool {
	if !m.grouped() || m.began >= g.latest.Load() {
		return false
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	o := g.origins[string(originOf(m.url))]
	switch {
	case o == nil:
		return g.floor > m.began
	case o.floor > m.began:
		return true
	case m.anyGroup:
		return o.latest > m.began
	}
	for h := range hashes(m.groups) {
		if o.groups[h] > m.began {
			return true
		}
	}
	return false
}
