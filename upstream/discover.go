package upstream

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// soonest is the least time between two look-ups, whatever the TTL.
const soonest = time.Second

// discovery is what is known about a pool's source. Its zero value has none.
type discovery struct {
	source source
	limit  time.Duration // for one look-up
	first  chan struct{} // closed when the first look-up is over
	once   sync.Once
	row    int // failures in a row; of the goroutine that looks

	ok, failed     atomic.Uint64 // look-ups
	added, removed atomic.Uint64 // peers
	problem        atomic.Pointer[string]
}

func (d *discovery) begin(s source, limit time.Duration) {
	d.source, d.limit, d.first = s, limit, make(chan struct{})
}

func (d *discovery) begun() { d.once.Do(func() { close(d.first) }) }

// inherit takes over what the same source said before a reload.
func (p *pool) inherit(was *pool) {
	d, before := &p.discovery, &was.discovery
	d.ok.Store(before.ok.Load())
	d.failed.Store(before.failed.Load())
	d.added.Store(before.added.Load())
	d.removed.Store(before.removed.Load())
	if p.cfg.PeersFrom != was.cfg.PeersFrom {
		return
	}
	d.problem.Store(before.problem.Load())
	if found := was.members.Load().found; len(found) > 0 {
		p.settle(found, time.Now())
		d.begun()
	}
}

// known waits for the first look-up where no peer is known before it.
func (p *pool) known(ctx context.Context) error {
	if p.discovery.source == nil || len(p.peers()) > 0 {
		return nil
	}
	select {
	case <-p.discovery.first:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// discover keeps the pool's peers as its source says until the context ends;
// changed is called after each look-up with the names of those that went.
func (p *pool) discover(ctx context.Context, log *slog.Logger, changed func(removed []string)) {
	for {
		removed, wait := p.look(ctx, log)
		changed(removed)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// look asks the source once, and returns who went and when to ask again. What
// fails, and an answer without a server, changes nothing.
func (p *pool) look(ctx context.Context, log *slog.Logger) (removed []string, wait time.Duration) {
	d, refresh := &p.discovery, p.cfg.PeersRefresh.D()
	limited, cancel := context.WithTimeout(ctx, d.limit)
	defer cancel()
	found, ttl, err := d.source.look(limited)
	if ctx.Err() != nil {
		return nil, refresh
	}
	defer d.begun()
	log = log.With("pool", p.cfg.Name, "from", p.cfg.PeersFrom)
	if err != nil {
		d.failed.Add(1)
		why := err.Error()
		if was := d.problem.Swap(&why); was == nil || *was != why {
			log.Warn("peers cannot be looked up; those that are known stay", "peers", len(p.peers()), "error", err)
		}
		d.row++
		return nil, min(refresh, soonest<<min(d.row-1, 8))
	}
	d.ok.Add(1)
	d.row = 0
	if d.problem.Swap(nil) != nil {
		log.Info("peers can be looked up again")
	}
	added, removed := p.settle(found, time.Now())
	d.added.Add(uint64(len(added)))
	d.removed.Add(uint64(len(removed)))
	if len(added)+len(removed) > 0 {
		log.Info("peers changed", "added", added, "removed", removed, "peers", len(p.peers()))
	}
	for range p.queue.length.Load() {
		p.queue.wake()
	}
	return removed, min(refresh, max(ttl, soonest))
}
