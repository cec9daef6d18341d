package auth

import (
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxKept bounds what is kept of clients, users and verified passwords, each.
const maxKept = 10_000

// perUser is how many times more failures one user may have, over all
// addresses, than one address: so that a single address cannot lock a user out.
const perUser = 10

// limits counts failures by address and by user.
type limits struct {
	mu        sync.Mutex
	latest    time.Time
	addresses buckets[netip.Prefix]
	users     buckets[[sha256.Size]byte]
}

func newLimits(perMinute int) *limits {
	return &limits{
		addresses: buckets[netip.Prefix]{perMinute: perMinute, kept: map[netip.Prefix]*rate.Limiter{}},
		users:     buckets[[sha256.Size]byte]{perMinute: perUser * perMinute, kept: map[[sha256.Size]byte]*rate.Limiter{}},
	}
}

// network is what a client's address counts as: whoever has an IPv6 address
// has a /64 of them.
func network(a netip.Addr) netip.Prefix {
	bits := 64
	if a = a.Unmap(); a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits)
	return p
}

// wait returns how long the client must wait before it may try again, as user
// unless that is "".
func (l *limits) wait(client netip.Addr, user string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now = l.forward(now)
	out := l.addresses.wait(network(client), now)
	if user != "" {
		out = max(out, l.users.wait(sha256.Sum256([]byte(user)), now))
	}
	return out
}

// failed counts a failure.
func (l *limits) failed(client netip.Addr, user string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now = l.forward(now)
	l.addresses.take(network(client), now)
	if user != "" {
		l.users.take(sha256.Sum256([]byte(user)), now)
	}
}

// forward keeps the clock from going back, which would fill buckets twice.
func (l *limits) forward(now time.Time) time.Time {
	if now.After(l.latest) {
		l.latest = now
	}
	return l.latest
}

// buckets are token buckets that hold perMinute and fill in a minute.
type buckets[K comparable] struct {
	perMinute int
	kept      map[K]*rate.Limiter
}

func (b *buckets[K]) wait(k K, now time.Time) time.Duration {
	l := b.kept[k]
	if l == nil {
		return 0
	}
	missing := 1 - l.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return time.Duration(missing / float64(l.Limit()) * float64(time.Second))
}

func (b *buckets[K]) take(k K, now time.Time) {
	l := b.kept[k]
	if l == nil {
		if len(b.kept) >= maxKept {
			evict(b.kept, func(l *rate.Limiter) float64 { return float64(b.perMinute) - l.TokensAt(now) })
		}
		l = rate.NewLimiter(rate.Limit(float64(b.perMinute)/60), b.perMinute)
		b.kept[k] = l
	}
	l.AllowN(now, 1)
}

// evict drops the entry that is worth least among a few.
func evict[K comparable, V any](m map[K]V, worth func(V) float64) {
	var least K
	lowest, seen := 0.0, 0
	for k, v := range m {
		if w := worth(v); seen == 0 || w < lowest {
			least, lowest = k, w
		}
		if seen++; seen == 16 {
			break
		}
	}
	delete(m, least)
}
