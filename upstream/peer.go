package upstream

import (
	"sync"
	"sync/atomic"
	"time"

	"fwdproxy/internal/target"
)

// restAfterFailure is how long a peer or parent that could not be dialled comes
// last.
const restAfterFailure = 5 * time.Second

// peer is one server of a pool, or a parent proxy.
type peer struct {
	name   string // as configured
	target target.Target
	pool   *pool // nil for a parent
	weight int
	backup bool
	most   int64  // requests under way; 0: no bound
	token  string // in the sticky cookie
	member        // what it was made of
	*health
}

// health is what is known about a peer. It outlives a reload, and a change of
// the peer's weight.
type health struct {
	active   atomic.Int64 // requests under way
	tried    atomic.Uint64
	failed   atomic.Uint64
	outTil   atomic.Int64 // Unix nanoseconds until which it is put aside; 0 when the last request went well
	backAt   atomic.Int64 // Unix nanoseconds since which it is fit again; 0 when it always was
	failures atomic.Int32 // requests that failed in a row
	unfit    atomic.Bool  // so the checks say
	drained  atomic.Bool  // so a person says

	mu        sync.Mutex
	ejections int // in a row
	streak    int // checks in a row that contradict unfit
	why       string
}

// rest returns 1 while the peer is put aside.
func (p *health) rest(now time.Time) int {
	if p.outTil.Load() > now.UnixNano() {
		return 1
	}
	return 0
}

func (p *health) down(now time.Time) { p.eject(now, restAfterFailure, restAfterFailure) }

// eject puts the peer aside for base, and for twice as long each time that
// follows within longest of the one before.
func (p *health) eject(now time.Time, base, longest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rest(now) > 0 {
		return
	}
	if out := p.outTil.Load(); out == 0 && p.ejections > 0 && now.UnixNano()-p.backAt.Load() > int64(longest) ||
		out > 0 && now.UnixNano()-out > int64(longest) {
		p.ejections = 0
	}
	d := longest
	if p.ejections < 30 {
		d = min(longest, base<<p.ejections)
	}
	p.ejections++
	p.failures.Store(0)
	p.outTil.Store(now.Add(d).UnixNano())
}

// up notes that a request went well.
func (p *health) up() {
	if p.failures.Load() != 0 {
		p.failures.Store(0)
	}
	if out := p.outTil.Load(); out != 0 && p.outTil.CompareAndSwap(out, 0) {
		p.backAt.Store(min(out, time.Now().UnixNano()))
	}
}

// warmth returns the part of its weight that the peer has: all of it but for
// the time in which it starts slowly.
func (p *health) warmth(now time.Time, slow time.Duration) float64 {
	from := max(p.backAt.Load(), p.outTil.Load())
	if slow <= 0 || from == 0 {
		return 1
	}
	return min(1, max(0.1, float64(now.UnixNano()-from)/float64(slow)))
}

// checked notes what a check found, nil for a fit peer, and reports whether
// that changed anything.
func (p *health) checked(now time.Time, err error, rise, fall int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	unfit := p.unfit.Load()
	if (err != nil) == unfit {
		p.streak = 0
		return false
	}
	need := rise
	if err != nil {
		need = fall
	}
	if p.streak++; p.streak < need {
		return false
	}
	p.streak, p.why = 0, ""
	if err != nil {
		p.why = err.Error()
	} else {
		p.backAt.Store(now.UnixNano())
		p.outTil.Store(0)
	}
	p.unfit.Store(err != nil)
	return true
}

func (p *health) reason() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.why
}

// The tiers of peers, best first.
const (
	tierFirst = iota
	tierBackup
	tierEjected
	tierEjectedBackup
	tierNever
)

func (p *peer) tier(now time.Time) int {
	if p.drained.Load() || p.unfit.Load() {
		return tierNever
	}
	t := 2 * p.rest(now)
	if p.backup {
		t++
	}
	return t
}

func (p *peer) room() bool { return p.most == 0 || p.active.Load() < p.most }

// claim counts a request in, unless the peer has as many as it may.
func (p *peer) claim() bool {
	if n := p.active.Add(1); p.most > 0 && n > p.most {
		p.active.Add(-1)
		return false
	}
	p.tried.Add(1)
	return true
}

// leave counts a request out.
func (p *peer) leave() {
	p.active.Add(-1)
	if p.pool != nil {
		p.pool.running.Add(-1)
		p.pool.queue.wake()
	}
}
