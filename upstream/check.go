package upstream

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Watch looks peers up and checks those of the pools that say so until Close,
// and logs who comes, goes, and becomes unfit or fit. It is called once, when the Transport goes into
// service.
func (t *Transport) Watch(log *slog.Logger) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.unwatch = func() { cancel(); running.Wait() }
	for _, p := range t.pools {
		running.Go(func() { t.tend(ctx, p, log) })
	}
}

// tend keeps the pool's peers as its source says, and has each checked while it
// is one.
func (t *Transport) tend(ctx context.Context, p *pool, log *slog.Logger) {
	checked := map[*peer]context.CancelFunc{}
	var running sync.WaitGroup
	defer running.Wait()
	follow := func(removed []string) {
		for _, name := range removed {
			t.idle.drop(idleKey(p, name))
		}
		if p.cfg.Check == nil {
			return
		}
		peers := p.peers()
		for peer, stop := range checked {
			if !slices.Contains(peers, peer) {
				stop()
				delete(checked, peer)
			}
		}
		for _, peer := range peers {
			if checked[peer] == nil {
				one, stop := context.WithCancel(ctx)
				checked[peer] = stop
				running.Go(func() { t.watch(one, p, peer, log) })
			}
		}
	}
	follow(nil)
	if p.discovery.source != nil {
		defer p.discovery.begun() // nobody waits for a look-up that will not come
		p.discover(ctx, log, follow)
	}
}

// idleKey is that of the kept connections to a peer.
func idleKey(p *pool, peer string) string { return "pool " + p.cfg.Name + " " + peer }

// watch checks one peer at each interval, of which the first is cut short by
// chance: not all peers are asked at once.
func (t *Transport) watch(ctx context.Context, p *pool, peer *peer, log *slog.Logger) {
	k := p.cfg.Check
	wait := time.Duration(rand.Float64() * float64(min(k.Interval.D(), time.Second)))
	for {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		err := t.check(ctx, p, peer)
		if ctx.Err() != nil {
			return
		}
		if peer.checked(time.Now(), err, k.Rise, k.Fall) {
			if err != nil {
				log.Warn("peer is unfit", "pool", p.cfg.Name, "peer", peer.name, "error", err)
			} else {
				log.Info("peer is fit again", "pool", p.cfg.Name, "peer", peer.name)
				p.queue.wake()
			}
		}
		wait = k.Interval.D()
	}
}

// checkBody is how much of an answer to a check is read at most.
const checkBody = 64 << 10

// check asks the peer whether it is fit.
func (t *Transport) check(ctx context.Context, p *pool, peer *peer) error {
	k := p.cfg.Check
	ctx, cancel := context.WithTimeout(ctx, k.Timeout.D())
	defer cancel()
	c, err := t.dialPeer(ctx, p, peer, "")
	if err != nil {
		return err
	}
	if k.Path == "" {
		c.close()
		return nil
	}
	u, err := url.ParseRequestURI(k.Path)
	if err != nil {
		c.close()
		return err
	}
	u.Scheme, u.Host = "http", peer.target.HostPort()
	req := (&http.Request{Method: http.MethodGet, URL: u, Host: k.Host, Header: http.Header{"User-Agent": {"fwdproxy-check"}}}).WithContext(ctx)
	head, err := encodeHead(req, new(outgoing))
	if err != nil {
		c.close()
		return err
	}
	c.once = true
	res, err := c.exchange(req, head)
	if err != nil {
		return err
	}
	_, _ = io.CopyN(io.Discard, res.Body, checkBody)
	res.Body.Close()
	if len(k.Status) == 0 && res.StatusCode < 400 || slices.Contains(k.Status, res.StatusCode) {
		return nil
	}
	return fmt.Errorf("it answers with status %d", res.StatusCode)
}
