package conform

import (
	"sync"
	"time"
)

// Pause is how long the suite waits where a case has a pause; lifetimes in its
// data are made for that.
const Pause = 3 * time.Second

// atOnce is how many cases have requests under way at a time. A case keeps its
// place until it pauses, since some have lifetimes of two seconds; all at once
// would take longer than that on a busy machine.
const atOnce = 25

// Result is how a case went.
type Result struct {
	// Failure is nil when all checks of the suite held.
	Failure *Failure
	// AsMeant is what the checks found that the suite has but never makes.
	AsMeant *Failure
}

// Player plays cases through a proxy in front of an origin.
type Player struct {
	Proxy  Proxy
	Origin *Origin
	Pause  time.Duration
	// Between, when not nil, makes all cases go in lock step: it is called after
	// each round of requests, while none is in flight. Its first error is Play's.
	Between func() error
}

// Play plays all cases at once and returns the results in their order.
func (p Player) Play(cases []Case) ([]Result, error) {
	results := make([]Result, len(cases))
	b, places := newBarrier(len(cases), p.Between), make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i := range cases {
		wg.Go(func() {
			defer b.leave()
			results[i] = p.play(&cases[i], b, places)
		})
	}
	wg.Wait()
	return results, b.err
}

func (p Player) play(c *Case, b *barrier, places chan struct{}) (result Result) {
	places <- struct{}{}
	defer func() { <-places }()
	id := newID()
	run := p.Origin.expect(id, c)
	responses := make([]*Response, 0, len(c.Requests))
	var previous *Response
	for i := range c.Requests {
		n := i + 1
		if i > 0 {
			p.rest(c.Requests[i-1].PauseAfter, b, places)
		}
		res, failure := p.Proxy.send(c, id, n, previous)
		if failure == nil {
			if result.AsMeant == nil {
				result.AsMeant = checkAsMeant(c, n, res)
			}
			failure = checkResponse(c, id, n, res)
		}
		if failure != nil {
			result.Failure = failure
			return result
		}
		responses, previous = append(responses, res), res
	}
	result.Failure = checkLog(c, run.entries(), responses)
	return result
}

// rest is what is between two requests of a case. Whoever waits leaves the
// place to others.
func (p Player) rest(pause bool, b *barrier, places chan struct{}) {
	if p.Between == nil && !pause {
		return
	}
	<-places
	b.wait()
	if pause {
		time.Sleep(p.Pause)
	}
	places <- struct{}{}
}

// barrier holds everybody until all who are left have come, and then calls
// between once. Without a between it holds nobody.
type barrier struct {
	between func() error

	mu      sync.Mutex
	left    int
	waiting int
	open    chan struct{}
	err     error // the first of between's
}

func newBarrier(n int, between func() error) *barrier {
	return &barrier{between: between, left: n, open: make(chan struct{})}
}

func (b *barrier) wait() {
	if b.between == nil {
		return
	}
	b.mu.Lock()
	b.waiting++
	open := b.open
	b.passIfComplete()
	b.mu.Unlock()
	<-open
}

// leave is for who takes part no longer.
func (b *barrier) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left--
	b.passIfComplete()
}

// passIfComplete is called with the lock held, which nobody else wants as
// everybody waits.
func (b *barrier) passIfComplete() {
	if b.between == nil || b.waiting == 0 || b.waiting < b.left {
		return
	}
	if err := b.between(); err != nil && b.err == nil {
		b.err = err
	}
	b.waiting = 0
	close(b.open)
	b.open = make(chan struct{})
}
