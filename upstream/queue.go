package upstream

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// queue is those who wait for a peer to have room, the first to come first.
type queue struct {
	most    int
	timeout time.Duration
	length  atomic.Int32

	mu      sync.Mutex
	waiting list.List // of chan struct{}
}

// wake lets the first in the queue look again.
func (q *queue) wake() {
	if q.length.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if first := q.waiting.Front(); first != nil {
		q.waiting.Remove(first)
		close(first.Value.(chan struct{}))
	}
}

// wait calls try, which reports whether there is nothing more to wait for,
// whenever something may have changed. It reports false where the queue is
// full or the time is over.
func (q *queue) wait(ctx context.Context, try func() bool) (bool, error) {
	if int(q.length.Add(1)) > q.most {
		q.length.Add(-1)
		return false, nil
	}
	defer q.length.Add(-1)
	timer := time.NewTimer(q.timeout)
	defer timer.Stop()
	for again := false; ; again = true {
		woken := make(chan struct{})
		place := q.join(woken, again)
		// What came free before this place was taken woke nobody.
		if try() {
			q.quit(place, woken)
			return true, nil
		}
		select {
		case <-woken:
			if try() {
				return true, nil
			}
		case <-timer.C:
			q.quit(place, woken)
			return false, nil
		case <-ctx.Done():
			q.quit(place, woken)
			return false, context.Cause(ctx)
		}
	}
}

// join takes the last place, or the first for who was woken for nothing.
func (q *queue) join(woken chan struct{}, first bool) *list.Element {
	q.mu.Lock()
	defer q.mu.Unlock()
	if first {
		return q.waiting.PushFront(woken)
	}
	return q.waiting.PushBack(woken)
}

// quit gives the place up, and hands on what it was woken for.
func (q *queue) quit(place *list.Element, woken chan struct{}) {
	q.mu.Lock()
	select {
	case <-woken:
		q.mu.Unlock()
		q.wake()
	default:
		q.waiting.Remove(place)
		q.mu.Unlock()
	}
}
