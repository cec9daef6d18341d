package upstream

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
)

// The pauses before a request is sent again.
const (
	firstPause = 25 * time.Millisecond
	lastPause  = 250 * time.Millisecond
)

// budget bounds repeated requests to a share of those that came.
type budget struct {
	percent int64
	tokens  atomic.Int64 // in hundredths of a repetition
}

// budgetBurst is how many repetitions are there beside the share.
const budgetBurst = 10

func (b *budget) begin() { b.tokens.Store(budgetBurst * 100) }

// earn counts a request that came.
func (b *budget) earn() {
	if b.tokens.Load() < budgetBurst*100 {
		b.tokens.Add(b.percent)
	}
}

// spend reports whether a request may be repeated.
func (b *budget) spend() bool {
	if b.tokens.Add(-100) < 0 {
		b.tokens.Add(100)
		return false
	}
	return true
}

// askPool sends the request to peers of the pool until one answers.
func (t *Transport) askPool(req *http.Request, p *pool, h *hop.Hop, head []byte) (*http.Response, error) {
	done := func(error) {}
	if p.breaker != nil {
		allowed, err := p.breaker.Allow()
		if err != nil {
			closeBody(req)
			f := p.gone("is left alone for a while: too many requests failed")
			f.RetryAfter = p.cfg.Breaker.Open.D()
			return nil, f
		}
		done = allowed
	}
	p.budget.earn()
	a := attempts{t: t, p: p, req: req, h: h, head: head, asking: p.asks(req, h)}
	res, failed, err := a.run()
	if err != nil && failed {
		p.failed.Add(1)
	}
	if req.Context().Err() != nil {
		failed = false // the client's doing
	}
	if failed {
		done(errPoolFailed)
	} else {
		done(nil)
	}
	return res, err
}

var errPoolFailed = errors.New("a request to the pool failed")

// attempts is one request, sent to one peer after another.
type attempts struct {
	t       *Transport
	p       *pool
	req     *http.Request
	h       *hop.Hop
	head    []byte
	asking  *asking
	sent    int
	revived bool // a dead kept connection was replaced
	pauses  *backoff.ExponentialBackOff
}

// run reports beside the answer whether the pool failed the request.
func (a *attempts) run() (res *http.Response, failed bool, err error) {
	c, err := a.connect(false)
	if err != nil {
		closeBody(a.req)
		return nil, !a.p.crowded(err), err
	}
	for {
		a.h.Used(c.addr, c.name)
		peer, reused := c.peer, c.reused
		res, err := c.exchange(a.req, a.head)
		a.sent++
		if err != nil && reused && !c.answered && lost(err) && !a.revived && replayable(a.req) {
			// Nobody's failure: the peer closed a connection that nobody used.
			a.revived = true
			a.sent--
			next, cerr := a.connect(true)
			if cerr != nil {
				return nil, true, err
			}
			c = next
			continue
		}
		if err != nil && (a.req.Context().Err() != nil || atFault(err)) {
			return nil, false, err
		}
		status := 0
		if res != nil {
			status = res.StatusCode
		}
		failed := a.p.note(peer, status, err)
		if !a.again(status, err) {
			return res, failed, err
		}
		a.asking.tried = append(a.asking.tried, peer)
		if !a.pause() {
			return res, failed, err
		}
		next, cerr := a.connect(false)
		if cerr != nil {
			return res, failed, err // what the last peer said says more
		}
		if res != nil {
			res.Body.Close()
		}
		a.p.retries.Add(1)
		c = next
	}
}

// atFault reports whether the request itself was at fault.
func atFault(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) && f.Kind == fault.RequestError
}

// again reports whether the request may be sent once more.
func (a *attempts) again(status int, err error) bool {
	switch {
	case a.sent >= a.p.cfg.Tries || !replayable(a.req):
		return false
	case err == nil && !slices.Contains(a.p.cfg.RetryStatus, status):
		return false
	case err != nil && !lost(err) && !(a.p.cfg.TryTimeout > 0 && late(err)):
		return false
	}
	return a.p.budget.spend()
}

func late(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) && f.Kind == fault.ResponseTimeout
}

// pause waits before the next attempt, and reports false when the client left
// meanwhile.
func (a *attempts) pause() bool {
	if a.pauses == nil {
		a.pauses = &backoff.ExponentialBackOff{InitialInterval: firstPause, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: lastPause}
		a.pauses.Reset()
	}
	timer := time.NewTimer(a.pauses.NextBackOff())
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-a.req.Context().Done():
		return false
	}
}

// connect returns a connection to the next peer that takes one. Nothing was
// sent to those that do not.
func (a *attempts) connect(fresh bool) (*conn, error) {
	ctx := a.req.Context()
	var failure error
	for {
		peer, err := a.p.await(ctx, a.asking)
		if err != nil {
			return nil, a.p.unreached(err, failure)
		}
		c, err := a.t.connectPeer(ctx, a.p, peer, fresh)
		if err == nil {
			return c, nil
		}
		peer.leave()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		a.p.unreachable(peer)
		a.asking.tried = append(a.asking.tried, peer)
		failure = err
	}
}

// unreached is why there is no connection: what came of the last dial, if
// there was one.
func (p *pool) unreached(none, dial error) error {
	var f *fault.Error
	if !errors.As(dial, &f) {
		return none
	}
	told := *f
	told.Details = "no server of the pool " + p.cfg.Name + " can be reached: " + f.Details
	told.RetryAfter = restAfterFailure
	return &told
}

// connectPeer returns a connection to the peer, which was claimed.
func (t *Transport) connectPeer(ctx context.Context, p *pool, peer *peer, fresh bool) (*conn, error) {
	key := idleKey(p, peer.name)
	if !fresh {
		if c := t.idle.take(key, func(netip.AddrPort) bool { return true }); c != nil {
			c.peer = peer
			return c, nil
		}
	}
	c, err := t.dialPeer(ctx, p, peer, key)
	if err == nil {
		c.peer = peer
	}
	return c, err
}

// dialPeer opens a connection to the peer.
func (t *Transport) dialPeer(ctx context.Context, p *pool, peer *peer, key string) (*conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, t.cfg.ConnectTimeout.D(), errConnectTimeout)
	defer cancel()
	// Who runs the pool chose its addresses.
	raw, addr, err := t.connect(ctx, peer.target, func(netip.AddrPort) error { return nil })
	if err != nil {
		return nil, err
	}
	secure := raw
	if p.tls != nil {
		if secure, err = t.secure(ctx, raw, p.tlsFor(t, peer)); err != nil {
			return nil, err
		}
	}
	c := newConn(t, key, raw, secure, addr, p.cfg.Name+"/"+peer.name)
	if p.cfg.TryTimeout > 0 {
		c.patience = p.cfg.TryTimeout.D()
	}
	return c, nil
}
