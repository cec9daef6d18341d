package upstream

import (
	"cmp"
	"math"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"fwdproxy/internal/hop"
)

// boundedLoad is how much more than its share of the requests under way a peer
// may have before "hash" passes further ones on: consistent hashing with
// bounded loads, as Mirrokni, Thorup and Zadimoghaddam describe it.
const boundedLoad = 1.25

// selector chooses among peers. It has no clock and no luck of its own.
type selector struct {
	balance string
	slow    time.Duration
	roll    func() float64 // in [0, 1)
	wheel   []*peer        // each as often as its weight says, spread evenly
}

func newSelector(balance string, slow time.Duration, peers []*peer, roll func() float64) *selector {
	return &selector{balance: balance, slow: slow, roll: roll, wheel: wheel(peers)}
}

// wheel spreads the peers as often as their weights say: the smooth weighted
// round robin.
func wheel(peers []*peer) []*peer {
	total := 0
	for _, p := range peers {
		total += p.weight
	}
	current := make([]int, len(peers))
	out := make([]*peer, 0, total)
	for range total {
		best := 0
		for i, p := range peers {
			if current[i] += p.weight; current[i] > current[best] {
				best = i
			}
		}
		current[best] -= total
		out = append(out, peers[best])
	}
	return out
}

// choose returns one of the peers, of which there is at least one; turn counts
// the choices, key is what "hash" goes by.
func (s *selector) choose(peers []*peer, turn uint64, key uint64, now time.Time) *peer {
	if len(peers) == 1 {
		return peers[0]
	}
	switch s.balance {
	case leastConn:
		return s.least(peers, turn, now)
	case twoChoices:
		a := s.random(peers, nil, now)
		b := s.random(peers, a, now)
		if s.load(b, now) < s.load(a, now) {
			return b
		}
		return a
	case byHash:
		return s.hashed(peers, key, now)
	}
	next := s.wheel[turn%uint64(len(s.wheel))]
	for _, p := range peers {
		if p == next && s.starts(p, now) {
			return p
		}
	}
	// Whose turn it is cannot: the others share it by weight, where the next on the
	// wheel would get all of it.
	return s.random(peers, next, now)
}

// starts reports whether a peer takes its turn, which a slow start leaves to
// chance.
func (s *selector) starts(p *peer, now time.Time) bool {
	w := p.warmth(now, s.slow)
	return w >= 1 || s.roll() < w
}

// weight is that of the peer now.
func (s *selector) weight(p *peer, now time.Time) float64 {
	return float64(p.weight) * p.warmth(now, s.slow)
}

// load is what the peer would have under way for its weight.
func (s *selector) load(p *peer, now time.Time) float64 {
	return float64(p.active.Load()+1) / s.weight(p, now)
}

// random picks by weight one that is not other.
func (s *selector) random(peers []*peer, other *peer, now time.Time) *peer {
	total := 0.0
	for _, p := range peers {
		if p != other {
			total += s.weight(p, now)
		}
	}
	at := s.roll() * total
	var last *peer
	for _, p := range peers {
		if p == other {
			continue
		}
		if last = p; at < s.weight(p, now) {
			break
		}
		at -= s.weight(p, now)
	}
	return last
}

// least is the least loaded; of equals the next in turn.
func (s *selector) least(peers []*peer, turn uint64, now time.Time) *peer {
	var best *peer
	lowest := math.Inf(1)
	for i := range peers {
		p := peers[(turn+uint64(i))%uint64(len(peers))]
		if l := s.load(p, now); l < lowest {
			best, lowest = p, l
		}
	}
	return best
}

// hashed is the peer with the highest score for the key (rendezvous hashing)
// among those within their share of the load.
func (s *selector) hashed(peers []*peer, key uint64, now time.Time) *peer {
	under, weights := 1.0, 0.0
	for _, p := range peers {
		under += float64(p.active.Load())
		weights += s.weight(p, now)
	}
	var best *peer
	highest := math.Inf(-1)
	for _, p := range peers {
		w := s.weight(p, now)
		if float64(p.active.Load()+1) > math.Ceil(boundedLoad*under*w/weights) {
			continue
		}
		if score := -w / math.Log(unit01(mix(key^hashOf(p.name)))); score > highest {
			best, highest = p, score
		}
	}
	return cmp.Or(best, peers[0])
}

// unit01 maps a hash to (0, 1).
func unit01(h uint64) float64 { return (float64(h>>11) + 0.5) / (1 << 53) }

// hashOf is FNV-1a: other proxies, and this one after a restart, come to the
// same.
func hashOf(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix spreads every bit over all others (the finalizer of SplitMix64).
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// keyOf returns what "hash" goes by.
func keyOf(by string, req *http.Request, h *hop.Hop) uint64 {
	kind, name, _ := strings.Cut(by, ":")
	switch kind {
	case "header":
		if v := req.Header.Get(name); v != "" {
			return hashOf(v)
		}
	case "cookie":
		if c, err := req.Cookie(name); err == nil && c.Value != "" {
			return hashOf(c.Value)
		}
	}
	return hashOf(clientKey(h.Client))
}

// clientKey is the address, of IPv6 the network: a host there changes its
// address as it likes.
func clientKey(a netip.Addr) string {
	if a.Is6() && !a.Is4In6() {
		if p, err := a.Prefix(64); err == nil {
			a = p.Addr()
		}
	}
	return a.String()
}
