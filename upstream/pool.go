package upstream

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"fwdproxy/internal/target"
)

// restAfterFailure is how long a peer that could not be dialled comes last.
const restAfterFailure = 5 * time.Second

// pool is a set of peers that serve the same.
type pool struct {
	name  string
	least bool
	peers []*peer
	turn  atomic.Uint64
}

// peer is one server of a pool.
type peer struct {
	name     string // as configured
	target   target.Target
	active   atomic.Int64 // requests under way
	restsTil atomic.Int64 // Unix nanoseconds; 0 when the last dial succeeded
}

func newPool(c PoolConfig) *pool {
	p := &pool{name: c.Name, least: c.Balance == leastConn}
	for _, s := range c.Peers {
		if t, err := target.FromAuthority(s, ""); err == nil {
			p.peers = append(p.peers, &peer{name: s, target: t})
		}
	}
	return p
}

// order returns the peers as they are to be tried: round about from the next
// in turn, or those with the fewest requests first; peers at rest come last.
func (p *pool) order(now time.Time) []*peer {
	out := make([]*peer, len(p.peers))
	first := p.turn.Add(1) - 1
	for i := range out {
		out[i] = p.peers[(first+uint64(i))%uint64(len(p.peers))]
	}
	if len(out) == 1 {
		return out
	}
	busy := make(map[*peer]int64, len(out)) // as they stand now, lest the order change while it is made
	for _, p := range out {
		busy[p] = p.active.Load()
	}
	slices.SortStableFunc(out, func(a, b *peer) int {
		if c := cmp.Compare(a.rest(now), b.rest(now)); c != 0 || !p.least {
			return c
		}
		return cmp.Compare(busy[a], busy[b])
	})
	return out
}

// rest returns 1 while the peer rests.
func (p *peer) rest(now time.Time) int {
	if p.restsTil.Load() > now.UnixNano() {
		return 1
	}
	return 0
}

func (p *peer) down(now time.Time) { p.restsTil.Store(now.Add(restAfterFailure).UnixNano()) }

func (p *peer) up() { p.restsTil.Store(0) }
