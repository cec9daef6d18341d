package edge

import (
	"context"
	"maps"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"fwdproxy/internal/fault"
)

// Tunnels counts the connections that left net/http's care (tunnels and
// WebSockets), bounds them, decides about them again on a reload and waits for them on
// shutdown. It outlives reloads.
type Tunnels struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex
	open     int
	byClient map[netip.Addr]int
	empty    chan struct{} // closed when open falls to zero; nil while nobody waits

	latest  *Door // of the last reload; nil before the first
	running map[*Exchange]context.CancelCauseFunc
	cut     atomic.Uint64
}

// NewTunnels returns a Tunnels with none open.
func NewTunnels() *Tunnels {
	ctx, cancel := context.WithCancel(context.Background())
	return &Tunnels{ctx: ctx, cancel: cancel, byClient: map[netip.Addr]int{}, running: map[*Exchange]context.CancelCauseFunc{}}
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

// Cut returns how many a reload has ever cut.
func (t *Tunnels) Cut() uint64 { return t.cut.Load() }

// cutByReload is why a tunnel ended that a new policy denies.
type cutByReload struct{ why *fault.Error }

func (c cutByReload) Error() string { return "cut on a reload of the policy: " + c.why.Details }

// enter notes a tunnel through which bytes are about to pass; leave must follow
// when they have. One that was decided under a policy from before the last
// reload is decided again, so that it does not slip in behind it.
func (t *Tunnels) enter(x *Exchange, cut context.CancelCauseFunc) (leave func()) {
	t.mu.Lock()
	latest := t.latest
	t.running[x] = cut
	t.mu.Unlock()
	if latest != nil && latest != x.door {
		t.decide(latest, x, cut)
	}
	return func() {
		t.mu.Lock()
		delete(t.running, x)
		t.mu.Unlock()
	}
}

// Redecide asks d's policy about every tunnel that is open, and cuts those
// that it denies unless forward.tunnel.on_reload keeps them. It must be called
// before any request is handled under d. It returns how many are open, and how
// many of them d denies.
func (t *Tunnels) Redecide(d *Door) (open, denied int) {
	t.mu.Lock()
	t.latest = d
	running := maps.Clone(t.running)
	t.mu.Unlock()
	for x, cut := range running {
		if t.decide(d, x, cut) {
			denied++
		}
	}
	return len(running), denied
}

// decide reports whether d's policy denies the tunnel, and cuts it then.
func (t *Tunnels) decide(d *Door, x *Exchange, cut context.CancelCauseFunc) (denied bool) {
	err := x.again(d, d.Now())
	if err == nil {
		return false
	}
	if d.Tunnel.CutsOnReload() {
		t.cut.Add(1)
		cut(cutByReload{fault.From(err)})
	}
	return true
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
