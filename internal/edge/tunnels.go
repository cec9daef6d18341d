package edge

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"fwdproxy/internal/fault"
)

// Tunnels counts the connections that left net/http's care (tunnels and
// WebSockets), bounds them and waits for them on shutdown. It outlives
// reloads.
type Tunnels struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex
	open     int
	byClient map[netip.Addr]int
	empty    chan struct{} // closed when open falls to zero; nil while nobody waits
}

// NewTunnels returns a Tunnels with none open.
func NewTunnels() *Tunnels {
	ctx, cancel := context.WithCancel(context.Background())
	return &Tunnels{ctx: ctx, cancel: cancel, byClient: map[netip.Addr]int{}}
}

// Begin counts one more for the client, or returns the refusal where that
// would pass a limit. When it returned nil, End must follow.
func (t *Tunnels) Begin(client netip.Addr, l Limits) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.ctx.Err() != nil:
		return fault.New(fault.ConnectionLimitReached, "the proxy is shutting down", nil)
	case t.open >= l.Tunnels:
		return fault.New(fault.ConnectionLimitReached, "as many tunnels are open as limits.tunnels allows; try again later", nil)
	case t.byClient[client] >= l.TunnelsPerClient:
		return &fault.Error{Kind: fault.ConnectionLimitReached, Status: http.StatusTooManyRequests,
			Details: "you have as many tunnels open as limits.tunnels_per_client allows; close some, or try again later"}
	}
	t.open++
	t.byClient[client]++
	return nil
}

// End counts one less for the client.
func (t *Tunnels) End(client netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open--
	if t.byClient[client]--; t.byClient[client] == 0 {
		delete(t.byClient, client)
	}
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
