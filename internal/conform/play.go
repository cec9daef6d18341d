package conform

import (
	"sync"
	"time"
)

// pause is how long a case waits where it has a pause.
const pause = 3 * time.Second

// Result is how a case went.
type Result struct {
	// Failure is nil when all checks of the suite held.
	Failure *Failure
	// AsMeant is what the checks found that the suite has but never makes.
	AsMeant *Failure
}

// Play plays all cases at once through the proxy and returns the results in
// their order. With a between, which may be nil, all cases go in lock step, and
// between is called after each round of requests while none is in flight.
func Play(p Proxy, o *Origin, cases []Case, between func() error) ([]Result, error) {
	results := make([]Result, len(cases))
	var b *barrier
	if between != nil {
		b = newBarrier(len(cases), between)
	}
	var wg sync.WaitGroup
	for i := range cases {
		wg.Go(func() {
			if b != nil {
				defer b.leave()
			}
			results[i] = playCase(p, o, &cases[i], b)
		})
	}
	wg.Wait()
	if b != nil {
		return results, b.err
	}
	return results, nil
}

func playCase(p Proxy, o *Origin, c *Case, b *barrier) Result {
	id := newID()
	run := o.expect(id, c)
	var result Result
	var responses []*Response
	var previous *Response
	for i := range c.Requests {
		n := i + 1
		res, failure := p.send(c, id, n, previous)
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
		if b != nil && n < len(c.Requests) {
			b.wait()
		}
		if c.Requests[i].PauseAfter {
			time.Sleep(pause)
		}
	}
	result.Failure = checkLog(c, run.entries(), responses)
	return result
}

// barrier holds everybody until all who are left have come, and then calls
// between once.
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
	if b.waiting == 0 || b.waiting < b.left {
		return
	}
	if err := b.between(); err != nil && b.err == nil {
		b.err = err
	}
	b.waiting = 0
	close(b.open)
	b.open = make(chan struct{})
}
