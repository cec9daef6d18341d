// Package quota counts what clients take against the limits that the policy
// sets them: token buckets for requests, bytes and bandwidth, and how much is
// under way at once.
//
// It decides for nobody which limits hold, and keeps a bounded number of
// counts, whoever asks.
package quota

import (
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Per says who shares what a limit allows.
type Per uint8

// Who may share.
const (
	Client Per = iota // each client address, of IPv6 its /64
	User              // each user; a client that has not said who it is by its address
	All               // everybody together
)

// Bucket holds Burst tokens and gains Rate a second. Its zero value sets no
// limit.
type Bucket struct {
	Rate  float64
	Burst int
}

// Spec is one limit. Its Name tells it from others, over a reload too.
type Spec struct {
	Name       string
	Per        Per
	Requests   Bucket
	Bytes      Bucket // of bodies and tunnels, both ways
	Bandwidth  Bucket // the same, which wait
	Concurrent int    // requests and tunnels under way; 0 sets no limit
}

// Subject is who takes.
type Subject struct {
	Client netip.Addr
	User   string // "" for nobody known
}

// Refusal says which limit leaves nothing.
type Refusal struct {
	Limit string
	What  string // "requests", "bytes" or "concurrent"
	Per   Per
	After time.Duration // when to try again; 0 where nobody can know
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("the limit %q leaves no %s for now", r.Limit, r.What)
}

// maxKept is how many counts a Table keeps, what is under way not counted;
// each takes less than a KiB.
const maxKept = 1 << 16

const shards = 64

// Table keeps the counts. It outlives reloads.
//
// When it is full, of a few entries the one goes that has taken least of what
// it may, so that somebody who is at a limit stays: to be forgotten they would
// need that many others who took more. What is under way is never dropped.
type Table struct {
	seed   maphash.Seed
	most   int // entries in a shard
	shards [shards]shard
}

type shard struct {
	mu     sync.Mutex
	latest time.Time
	kept   map[key]*entry
	order  []*entry // the same, to choose from
}

type key struct {
	limit, user string
	client      netip.Prefix
}

// entry is what one subject took of one limit.
type entry struct {
	key                        key
	at                         int // in the shard's order
	spec                       Spec
	requests, bytes, bandwidth *rate.Limiter // nil: no such limit
	held                       int           // guarded by the shard's mu
}

// NewTable returns a Table in which nobody has taken anything.
func NewTable() *Table { return newTable(maxKept) }

func newTable(kept int) *Table {
	t := &Table{seed: maphash.MakeSeed(), most: kept / shards}
	for i := range t.shards {
		t.shards[i].kept = make(map[key]*entry)
	}
	return t
}

func keyOf(s *Spec, who Subject) key {
	k := key{limit: s.Name}
	switch {
	case s.Per == All:
	case s.Per == User && who.User != "":
		k.user = who.User
	default:
		bits := 64
		if a := who.Client.Unmap(); a.Is4() {
			bits = 32
		}
		k.client, _ = who.Client.Unmap().WithZone("").Prefix(bits)
	}
	return k
}

// Take counts one request, or tunnel, against each of the limits. Where one
// leaves nothing, nothing is counted and a *Refusal comes back. Release must
// follow what it returns.
func (t *Table) Take(limits []Spec, who Subject, now time.Time) (*Hold, error) {
	h := &Hold{}
	var undo []func()
	for i := range limits {
		k := keyOf(&limits[i], who)
		s := &t.shards[maphash.Comparable(t.seed, k)%shards]
		e, cancel, err := s.take(k, &limits[i], now, t.most)
		if err != nil {
			for _, f := range undo {
				f()
			}
			h.Release()
			return nil, err
		}
		undo = append(undo, cancel)
		h.parts = append(h.parts, part{s, e, limits[i].Name, limits[i].Per})
	}
	return h, nil
}

func (s *shard) take(k key, spec *Spec, now time.Time, most int) (e *entry, cancel func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A clock that goes back would fill the buckets twice.
	if now.After(s.latest) {
		s.latest = now
	}
	now = s.latest
	e = s.kept[k]
	switch {
	case e == nil:
		if len(s.kept) >= most {
			s.evict(now)
		}
		e = newEntry(k, spec, len(s.order))
		s.kept[k], s.order = e, append(s.order, e)
	case e.spec != *spec:
		e.change(spec, now)
	}
	refuse := func(what string, after time.Duration) (*entry, func(), error) {
		return nil, nil, &Refusal{Limit: spec.Name, What: what, Per: spec.Per, After: after}
	}
	if spec.Concurrent > 0 && e.held >= spec.Concurrent {
		return refuse("concurrent", 0)
	}
	if wait := missing(e.bytes, now); wait > 0 {
		return refuse("bytes", wait)
	}
	if wait := missing(e.requests, now); wait > 0 {
		return refuse("requests", wait)
	}
	e.held++
	cancel = func() {}
	if e.requests != nil {
		r := e.requests.ReserveN(now, 1)
		cancel = func() { r.CancelAt(now) }
	}
	return e, cancel, nil
}

// missing returns how long it takes until l holds a token.
func missing(l *rate.Limiter, now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	lack := 1 - l.TokensAt(now)
	if lack <= 1e-9 { // what the floating point leaves
		return 0
	}
	return max(1, time.Duration(lack/float64(l.Limit())*float64(time.Second)))
}

func newEntry(k key, s *Spec, at int) *entry {
	return &entry{key: k, at: at, spec: *s, requests: limiter(s.Requests), bytes: limiter(s.Bytes), bandwidth: limiter(s.Bandwidth)}
}

func limiter(b Bucket) *rate.Limiter {
	if b == (Bucket{}) {
		return nil
	}
	return rate.NewLimiter(rate.Limit(b.Rate), b.Burst)
}

// change gives the entry other numbers; what was taken stays taken. What is
// under way keeps the entry, and pays by the new ones where it paid before.
func (e *entry) change(s *Spec, now time.Time) {
	set := func(l **rate.Limiter, b Bucket) {
		if *l == nil || b == (Bucket{}) {
			*l = limiter(b)
			return
		}
		taken := float64((*l).Burst()) - (*l).TokensAt(now)
		*l = rate.NewLimiter(rate.Limit(b.Rate), b.Burst)
		spend(*l, now, int(max(0, math.Ceil(taken))))
	}
	set(&e.requests, s.Requests)
	set(&e.bytes, s.Bytes)
	set(&e.bandwidth, s.Bandwidth)
	e.spec = *s
}

// spend takes n tokens, which may leave a debt, and returns how long it takes
// until that is paid.
func spend(l *rate.Limiter, now time.Time, n int) (wait time.Duration) {
	for burst := l.Burst(); n > 0; n -= burst {
		wait = l.ReserveN(now, min(n, burst)).DelayFrom(now)
	}
	return wait
}

// evict drops, of a few entries with nothing under way, the one that took
// least.
func (s *shard) evict(now time.Time) {
	var least *entry
	lowest := 0.0
	for range 4 {
		e := s.order[rand.IntN(len(s.order))]
		if e.held > 0 {
			continue
		}
		if taken := e.taken(now); least == nil || taken < lowest {
			least, lowest = e, taken
		}
	}
	if least == nil {
		return // what is under way is bounded by the connections
	}
	last := s.order[len(s.order)-1]
	s.order[least.at], last.at = last, least.at
	s.order = s.order[:len(s.order)-1]
	delete(s.kept, least.key)
}

// taken is the largest part that is gone of what the entry's limits allow.
func (e *entry) taken(now time.Time) (part float64) {
	for _, l := range []*rate.Limiter{e.requests, e.bytes, e.bandwidth} {
		if l != nil {
			part = max(part, 1-l.TokensAt(now)/float64(l.Burst()))
		}
	}
	return part
}

// Len returns how many counts are kept.
func (t *Table) Len() (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.kept)
		s.mu.Unlock()
	}
	return n
}

// Hold is a request or tunnel under way. A nil Hold limits nothing.
type Hold struct {
	parts []part
}

type part struct {
	shard *shard
	entry *entry
	limit string
	per   Per
}

// limiters returns the entry's buckets for bytes; a reload may replace them.
func (p part) limiters() (bytes, bandwidth *rate.Limiter) {
	p.shard.mu.Lock()
	defer p.shard.mu.Unlock()
	return p.entry.bytes, p.entry.bandwidth
}

// Release ends it; it must be called once.
func (h *Hold) Release() {
	if h == nil {
		return
	}
	for _, p := range h.parts {
		p.shard.mu.Lock()
		p.entry.held--
		p.shard.mu.Unlock()
	}
}

// Metered reports whether bytes count.
func (h *Hold) Metered() bool {
	if h == nil {
		return false
	}
	for _, p := range h.parts {
		if bytes, bandwidth := p.limiters(); bytes != nil || bandwidth != nil {
			return true
		}
	}
	return false
}

// Pass counts n bytes and waits until the bandwidth allows them. It returns
// ctx's error when that is done first.
func (h *Hold) Pass(ctx context.Context, n int) error {
	if h == nil || n <= 0 {
		return nil
	}
	var wait time.Duration
	now := time.Now()
	for _, p := range h.parts {
		bytes, bandwidth := p.limiters()
		if bytes != nil {
			spend(bytes, now, n)
		}
		if bandwidth != nil {
			wait = max(wait, spend(bandwidth, now, n))
		}
	}
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Spent returns a *Refusal when a limit leaves no bytes to whatever is under
// way.
func (h *Hold) Spent() error {
	if h == nil {
		return nil
	}
	now := time.Now()
	for _, p := range h.parts {
		if bytes, _ := p.limiters(); bytes != nil && bytes.TokensAt(now) <= 0 {
			return &Refusal{Limit: p.limit, What: "bytes", Per: p.per, After: missing(bytes, now)}
		}
	}
	return nil
}
