package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
)

// pool is a set of peers that serve the same.
type pool struct {
	cfg       PoolConfig // filled
	members   atomic.Pointer[members]
	discovery discovery
	queue     queue
	budget    budget
	breaker   *gobreaker.TwoStepCircuitBreaker[struct{}] // nil for none
	tls       *tls.Config                                // nil for plain peers; each connection has its own ServerName
	cookies   stickyKey

	turn    atomic.Uint64
	running atomic.Int64
	retries atomic.Uint64
	shed    atomic.Uint64 // requests turned away for want of room
	failed  atomic.Uint64 // requests that no peer answered
}

// newPool returns the pool, whose files Validate did not read.
func newPool(c PoolConfig) (*pool, error) {
	c = c.filled()
	p := &pool{cfg: c, queue: queue{most: c.Queue, timeout: c.QueueTimeout.D()}, budget: budget{percent: int64(c.RetryBudget)}}
	p.budget.begin()
	var err error
	if p.cookies, err = newStickyKey(c.StickyKeyFile); err != nil {
		return nil, err
	}
	p.settle(nil, time.Now())
	p.breaker = newBreaker(c)
	p.tls, err = c.TLS.load()
	return p, err
}

// newBreaker returns the pool's breaker, nil where it has none.
func newBreaker(c PoolConfig) *gobreaker.TwoStepCircuitBreaker[struct{}] {
	b := c.Breaker
	if b == nil {
		return nil
	}
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: c.Name, MaxRequests: 3, Timeout: b.Open.D(), Interval: b.Window.D(), BucketPeriod: max(b.Window.D()/10, time.Millisecond),
		ReadyToTrip: func(n gobreaker.Counts) bool {
			return n.Requests >= uint32(b.Requests) && uint64(n.TotalFailures)*100 >= uint64(b.Failures)*uint64(n.Requests)
		},
	})
}

// asking is one request on its way through a pool.
type asking struct {
	key    uint64  // for "hash"
	sticky string  // the token of the peer that it is bound to
	tried  []*peer // which failed it
}

func (p *pool) asks(req *http.Request, h *hop.Hop) *asking {
	a := &asking{sticky: h.Sticky}
	if p.cfg.Balance == byHash {
		a.key = keyOf(p.cfg.HashBy, req, h)
	}
	return a
}

// next claims the peer that comes next for the request; nil where none is left
// that is fit, or, as full says, where all that are have as much as they may.
func (p *pool) next(a *asking, now time.Time) (chosen *peer, full bool) {
	turn := p.turn.Add(1) - 1
	var space [16]*peer
	for {
		members := p.members.Load()
		peers, full := candidates(members.peers, a, now, space[:0])
		if len(peers) == 0 {
			return nil, full
		}
		chosen := bound(peers, a.sticky)
		if chosen == nil {
			chosen = members.selector.choose(peers, turn, a.key, now)
		}
		if chosen.claim() {
			p.running.Add(1)
			return chosen, false
		}
	}
}

// bound returns the peer of the token.
func bound(peers []*peer, token string) *peer {
	if token != "" {
		for _, p := range peers {
			if p.token == token {
				return p
			}
		}
	}
	return nil
}

// candidates appends the peers with room of the best tier that the request did
// not try yet.
func candidates(peers []*peer, a *asking, now time.Time, out []*peer) (_ []*peer, full bool) {
	best := tierNever
	for _, peer := range peers {
		t := peer.tier(now)
		if t > best || t == tierNever || slices.Contains(a.tried, peer) {
			continue
		}
		if t < best {
			best, out, full = t, out[:0], false
		}
		if peer.room() {
			out = append(out, peer)
		} else {
			full = true
		}
	}
	return out, full
}

// await is next, which waits in the queue where every fit peer is full. Only
// what has not been tried yet waits.
func (p *pool) await(ctx context.Context, a *asking) (*peer, error) {
	if m := int64(p.cfg.MaxRequests); m > 0 && p.running.Load() >= m {
		return nil, p.turnAway("has as many requests under way as it may")
	}
	if err := p.known(ctx); err != nil {
		return nil, err
	}
	chosen, full := p.next(a, time.Now())
	if chosen == nil && full && len(a.tried) == 0 && p.cfg.Queue > 0 {
		ready, err := p.queue.wait(ctx, func() bool {
			chosen, full = p.next(a, time.Now())
			return chosen != nil || !full
		})
		if err != nil {
			return nil, err
		}
		full = !ready
	}
	switch {
	case chosen != nil:
		return chosen, nil
	case full:
		return nil, p.turnAway("has no server with room")
	}
	return nil, p.gone("has no server that is fit")
}

// turnAway is what is told where there is no room.
func (p *pool) turnAway(why string) error {
	f := fault.New(fault.ConnectionLimitReached, "the pool "+p.cfg.Name+" "+why, nil)
	f.RetryAfter = time.Second
	return f
}

// crowded reports, and counts, that a request was turned away.
func (p *pool) crowded(err error) bool {
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind != fault.ConnectionLimitReached {
		return false
	}
	p.shed.Add(1)
	return true
}

// gone is what is told where no peer can be asked.
func (p *pool) gone(why string) *fault.Error {
	f := fault.New(fault.DestinationUnavailable, "the pool "+p.cfg.Name+" "+why, nil)
	f.RetryAfter = restAfterFailure
	return f
}

// note records what came of asking the peer: its status, or 0 and the error.
func (p *pool) note(peer *peer, status int, err error) (failed bool) {
	e := p.cfg.Eject
	if err == nil && !slices.Contains(e.Status, status) {
		peer.up()
		return false
	}
	peer.failed.Add(1)
	now := time.Now()
	if int(peer.failures.Add(1)) >= e.Failures && p.mayEject(now) {
		peer.eject(now, e.Time.D(), e.MaxTime.D())
	}
	return true
}

// unreachable puts aside a peer that could not be connected to.
func (p *pool) unreachable(peer *peer) {
	peer.failed.Add(1)
	peer.eject(time.Now(), p.cfg.Eject.Time.D(), p.cfg.Eject.MaxTime.D())
}

// mayEject reports whether one peer more may be put aside.
func (p *pool) mayEject(now time.Time) bool {
	out, peers := 1, p.peers()
	for _, peer := range peers {
		out += peer.rest(now)
	}
	return out*100 <= p.cfg.Eject.MaxShare*len(peers)
}
