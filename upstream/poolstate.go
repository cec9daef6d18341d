package upstream

import (
	"fmt"
	"time"
)

// PoolState is a pool as it stands now.
type PoolState struct {
	Name    string      `json:"name"`
	Balance string      `json:"balance"`
	Active  int64       `json:"active"`
	Queued  int         `json:"queued"`
	Retries uint64      `json:"retries"`           // requests sent again
	Shed    uint64      `json:"shed"`              // turned away for want of room
	Failed  uint64      `json:"failed"`            // that no peer answered
	Breaker string      `json:"breaker,omitempty"` // closed, half-open or open
	Peers   []PeerState `json:"peers"`
	// Discovery is nil where the peers are only those of the policy.
	Discovery *DiscoveryState `json:"discovery,omitempty"`
}

// DiscoveryState is what came of looking peers up.
type DiscoveryState struct {
	From     string `json:"from"`
	Lookups  uint64 `json:"lookups"`
	Failures uint64 `json:"failures"`
	Added    uint64 `json:"added"`
	Removed  uint64 `json:"removed"`
	Problem  string `json:"problem,omitempty"` // of the last look-up
}

// PeerState is a peer as it stands now.
type PeerState struct {
	Name     string `json:"name"`
	State    string `json:"state"` // up, ejected, unfit or drained
	Why      string `json:"why,omitempty"`
	Weight   int    `json:"weight"`
	Backup   bool   `json:"backup,omitempty"`
	Active   int64  `json:"active"`
	Requests uint64 `json:"requests"`
	Failures uint64 `json:"failures"`
}

// The states of a peer.
const (
	PeerUp      = "up"
	PeerEjected = "ejected" // put aside; asked when no other is left
	PeerUnfit   = "unfit"   // so the checks say
	PeerDrained = "drained" // so a person says
)

// Pools returns the pools as they stand now, in the order of the policy.
func (t *Transport) Pools() []PoolState {
	now := time.Now()
	out := make([]PoolState, 0, len(t.poolOrder))
	for _, p := range t.poolOrder {
		s := PoolState{Name: p.cfg.Name, Balance: p.cfg.Balance, Active: p.running.Load(), Queued: int(p.queue.length.Load()),
			Retries: p.retries.Load(), Shed: p.shed.Load(), Failed: p.failed.Load()}
		if s.Balance == "" {
			s.Balance = roundRobin
		}
		if p.breaker != nil {
			s.Breaker = p.breaker.State().String()
		}
		s.Discovery = p.discovery.describe(p.cfg.PeersFrom)
		s.Peers = []PeerState{} // in JSON no null
		for _, peer := range p.peers() {
			s.Peers = append(s.Peers, peer.describe(now))
		}
		out = append(out, s)
	}
	return out
}

func (d *discovery) describe(from string) *DiscoveryState {
	if d.source == nil {
		return nil
	}
	s := &DiscoveryState{From: from, Failures: d.failed.Load(), Added: d.added.Load(), Removed: d.removed.Load()}
	s.Lookups = d.ok.Load() + s.Failures
	if why := d.problem.Load(); why != nil {
		s.Problem = *why
	}
	return s
}

func (p *peer) describe(now time.Time) PeerState {
	s := PeerState{Name: p.name, State: PeerUp, Weight: p.weight, Backup: p.backup, Active: p.active.Load(),
		Requests: p.tried.Load(), Failures: p.failed.Load()}
	switch {
	case p.drained.Load():
		s.State = PeerDrained
	case p.unfit.Load():
		s.State, s.Why = PeerUnfit, p.reason()
	case p.rest(now) > 0:
		s.State = PeerEjected
		s.Why = fmt.Sprintf("for %s more", time.Duration(p.outTil.Load()-now.UnixNano()).Round(time.Second))
	}
	return s
}

// Drain takes a peer out of its pool, or puts it back: it gets no new request,
// and finishes those that it has. It holds until it is taken back, over
// reloads that keep the peer.
func (t *Transport) Drain(pool, peer string, drained bool) error {
	p := t.pools[pool]
	if p == nil {
		return fmt.Errorf("there is no pool %q", pool)
	}
	q := named(p.peers(), peer)
	if q == nil {
		return fmt.Errorf("the pool %q has no peer %q", pool, peer)
	}
	if was := q.drained.Swap(drained); was && !drained {
		q.backAt.Store(time.Now().UnixNano())
		p.queue.wake()
	}
	return nil
}

// Inherit takes over what is known about the peers that old has as well: the
// pool and the address decide. The counters go on.
func (t *Transport) Inherit(old *Transport) {
	for name, p := range t.pools {
		was := old.pools[name]
		if was == nil {
			continue
		}
		p.retries.Store(was.retries.Load())
		p.shed.Store(was.shed.Load())
		p.failed.Store(was.failed.Load())
		p.inherit(was)
		for _, peer := range p.peers() {
			if before := named(was.peers(), peer.name); before != nil {
				peer.health = before.health
			}
			if p.cfg.Check == nil {
				peer.unfit.Store(false)
			}
		}
	}
}
