package upstream

import (
	"math/rand/v2"
	"slices"
	"time"

	"fwdproxy/internal/target"
)

// members is the peers of a pool at one moment.
type members struct {
	peers    []*peer
	selector *selector
	found    []member // those that the source named
}

// peers returns the peers as they stand now.
func (p *pool) peers() []*peer { return p.members.Load().peers }

// settle makes the peers of the policy and those found the pool's, and returns
// the names of those that came and went. Who stays keeps all that is known
// about it; who comes to others starts slowly. Only one caller at a time may.
func (p *pool) settle(found []member, now time.Time) (added, removed []string) {
	var was []*peer
	if m := p.members.Load(); m != nil {
		was = m.peers
	}
	all := make([]member, 0, len(p.cfg.Peers)+len(found))
	for _, c := range p.cfg.Peers {
		all = append(all, member{PeerConfig: c})
	}
	for _, m := range found {
		m.MaxConnections = p.cfg.PeersMaxConnections
		all = append(all, m)
	}
	next := &members{found: found}
	for _, m := range all {
		to, err := target.FromAuthority(m.Address, "")
		if err != nil || named(next.peers, m.Address) != nil {
			continue
		}
		before := named(was, m.Address)
		if before != nil && before.member == m {
			next.peers = append(next.peers, before)
			continue
		}
		q := p.newPeer(m, to)
		if before != nil {
			q.health = before.health
		} else if added = append(added, q.name); len(was) > 0 {
			q.backAt.Store(now.UnixNano())
		}
		next.peers = append(next.peers, q)
	}
	for _, q := range was {
		if named(next.peers, q.name) == nil {
			removed = append(removed, q.name)
		}
	}
	if p.members.Load() == nil || !slices.Equal(was, next.peers) {
		next.selector = newSelector(p.cfg.Balance, p.cfg.SlowStart.D(), next.peers, rand.Float64)
		p.members.Store(next)
	}
	return added, removed
}

func (p *pool) newPeer(m member, to target.Target) *peer {
	return &peer{name: m.Address, target: to, pool: p, member: m, weight: max(1, m.Weight), backup: m.Backup,
		most: int64(m.MaxConnections), token: p.cookies.token(p.cfg.Name, m.Address), health: &health{}}
}

// named returns the peer of that name, nil for none.
func named(peers []*peer, name string) *peer {
	if i := slices.IndexFunc(peers, func(p *peer) bool { return p.name == name }); i >= 0 {
		return peers[i]
	}
	return nil
}
