package edge

import (
	"context"
	"sync"
	"time"
)

// Tunnels counts the connections that left net/http's care (tunnels and
// WebSockets), bounds them and waits for them on shutdown. It outlives
// reloads.
type Tunnels struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex
	open  int
	empty chan struct{} // closed when open falls to zero; nil while nobody waits
}

// NewTunnels returns a Tunnels with none open.
func NewTunnels() *Tunnels {
	ctx, cancel := context.WithCancel(context.Background())
	return &Tunnels{ctx: ctx, cancel: cancel}
}

// Begin counts one more, unless that would pass limit. End must follow.
func (t *Tunnels) Begin(limit int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open >= limit || t.ctx.Err() != nil {
		return false
	}
	t.open++
	return true
}

// End counts one less.
func (t *Tunnels) End() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open--
	if t.open == 0 && t.empty != nil {
		close(t.empty)
		t.empty = nil
	}
}

// Open returns how many there are now.
func (t *Tunnels) Open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open
}

// Context is done when tunnels are to be cut.
func (t *Tunnels) Context() context.Context { return t.ctx }

// lastWords is how long tunnels that were cut have to write their log records.
const lastWords = time.Second

// Drain waits until none is open, at most until ctx is done; then it cuts
// those that are left and returns their number. No tunnel begins after that.
func (t *Tunnels) Drain(ctx context.Context) int {
	select {
	case <-t.wait():
	case <-ctx.Done():
	}
	t.mu.Lock()
	left := t.open
	t.cancel()
	t.mu.Unlock()
	select {
	case <-t.wait():
	case <-time.After(lastWords):
	}
	return left
}

// wait returns a channel that is closed when none is open.
func (t *Tunnels) wait() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == 0 {
		none := make(chan struct{})
		close(none)
		return none
	}
	if t.empty == nil {
		t.empty = make(chan struct{})
	}
	return t.empty
}
