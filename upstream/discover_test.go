package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/proxytest"
)

// found is members at these addresses.
func found(addrs ...string) (out []member) {
	for _, a := range addrs {
		out = append(out, member{PeerConfig{Address: a}, "app.test"})
	}
	return out
}

// script is a source whose answers a test changes; it is asked in a bubble of
// synctest.
type script struct {
	mu    sync.Mutex
	found []member
	ttl   time.Duration
	err   error
	take  time.Duration
	at    []time.Duration // when it was asked
	began time.Time
}

func (s *script) set(ttl time.Duration, err error, addrs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ttl, s.err, s.found = ttl, err, found(addrs...)
}

func (s *script) look(ctx context.Context) ([]member, time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = append(s.at, time.Since(s.began))
	select {
	case <-time.After(s.take):
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
	return s.found, s.ttl, s.err
}

func (s *script) asked() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.at)
}

// discovering is a Transport with the pool "app", whose peers are from s.
func discovering(t *testing.T, s *script, c PoolConfig) (*Transport, *pool) {
	t.Helper()
	c.Name, c.PeersFrom = "app", "dns+a://app.test:80"
	tr := newTransport(t, nil, c)
	p := tr.pools["app"]
	p.discovery.source, s.began = s, time.Now()
	return tr, p
}

// names is the peers of the pool.
func names(p *pool) string {
	var out []string
	for _, q := range p.peers() {
		out = append(out, q.name)
	}
	return strings.Join(out, " ")
}

func TestPeersAreLookedUpAgainWhenTheTTLIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.set(10*time.Second, nil, "a:1")
		tr, p := discovering(t, s, PoolConfig{PeersRefresh: short(time.Minute)})
		tr.Watch(slog.New(slog.DiscardHandler))
		synctest.Wait()
		s.set(0, nil, "a:1", "b:1")
		time.Sleep(10 * time.Second) // 10: asked; the TTL of 0 is taken for a second
		synctest.Wait()
		if names(p) != "a:1 b:1" {
			t.Errorf("the peers are %q", names(p))
		}
		s.set(time.Hour, nil, "b:1")
		time.Sleep(time.Second) // 11; the hour is taken for peers_refresh
		synctest.Wait()
		s.set(time.Hour, errors.New("no"))
		time.Sleep(time.Minute) // 71, 72, 74, 78: failures are repeated ever later
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if names(p) != "b:1" {
			t.Errorf("the peers are %q", names(p))
		}
		if got := fmt.Sprint(s.asked()); got != "[0s 10s 11s 1m11s 1m12s 1m14s 1m18s]" {
			t.Errorf("asked at %s", got)
		}
		tr.Close()
	})
}

func TestARequestWaitsForTheFirstLookUpAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{take: 3 * time.Second}
		s.set(time.Minute, nil, "a:1")
		tr, p := discovering(t, s, PoolConfig{})
		tr.Watch(slog.New(slog.DiscardHandler))
		began := time.Now()
		q, err := p.await(t.Context(), &asking{})
		if err != nil || q.name != "a:1" || time.Since(began) != 3*time.Second {
			t.Errorf("%v, %v, after %s", q, err, time.Since(began))
		}
		tr.Close()

		failing := &script{take: 3 * time.Second, err: errors.New("no")}
		tr, p = discovering(t, failing, PoolConfig{})
		tr.Watch(slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.await(ctx, &asking{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		for range 2 {
			_, err := p.await(t.Context(), &asking{})
			wantFault(t, err, fault.DestinationUnavailable, 503)
		}
		if time.Since(began) != 6*time.Second {
			t.Errorf("the look-up that failed held requests up for %s", time.Since(began)-3*time.Second)
		}
		tr.Close()
	})
}

func TestALookUpThatFailsOrNamesNobodyChangesNothing(t *testing.T) {
	s := proxytest.StartNameServer(t)
	good := proxytest.DNSAnswer{TTL: 5, Data: []string{"192.0.2.1", "192.0.2.2"}}
	s.Set("app.test", "A", good)
	tr := newTransport(t, func(c *Config) { c.Resolver, c.ConnectTimeout = s.Addr, short(300*time.Millisecond) },
		PoolConfig{Name: "app", PeersFrom: "dns+a://app.test:80"})
	p := tr.pools["app"]
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	said := func() string { defer text.Reset(); return text.String() }
	look := func(a proxytest.DNSAnswer) time.Duration {
		s.Set("app.test", "A", a)
		_, wait := p.look(t.Context(), log)
		return wait
	}
	if wait := look(good); wait != 5*time.Second || names(p) != "192.0.2.1:80 192.0.2.2:80" {
		t.Fatalf("%s, %q", wait, names(p))
	}
	if line := said(); !strings.Contains(line, `msg="peers changed" pool=app from=dns+a://app.test:80 added="[192.0.2.1:80 192.0.2.2:80]" removed=[] peers=2`) {
		t.Errorf("%s", line)
	}
	for _, tt := range []struct {
		what   string
		answer proxytest.DNSAnswer
		says   string
	}{
		{"SERVFAIL", proxytest.DNSAnswer{Code: dnsmessage.RCodeServerFailure}, "ServerFailure"},
		{"NXDOMAIN", proxytest.DNSAnswer{Code: dnsmessage.RCodeNameError}, "no name server knows app.test"},
		{"no record", proxytest.DNSAnswer{}, "has no record of type A"},
		{"nowhere", proxytest.DNSAnswer{Data: []string{"0.0.0.0"}}, "names no server"},
		{"silence", proxytest.DNSAnswer{Silent: true}, "did not answer in time"},
	} {
		look(tt.answer)
		if line := said(); !strings.Contains(line, "level=WARN") || !strings.Contains(line, "peers=2") || !strings.Contains(line, tt.says) {
			t.Errorf("%s: %s", tt.what, line)
		}
		if why := tr.Pools()[0].Discovery.Problem; !strings.Contains(why, tt.says) {
			t.Errorf("%s: told %q", tt.what, why)
		}
		look(tt.answer)
		if line := said(); line != "" {
			t.Errorf("%s is said again: %s", tt.what, line)
		}
		if names(p) != "192.0.2.1:80 192.0.2.2:80" {
			t.Errorf("%s left %q", tt.what, names(p))
		}
	}
	look(good)
	if line := said(); !strings.Contains(line, "peers can be looked up again") || strings.Contains(line, "changed") {
		t.Errorf("%s", line)
	}
	want := DiscoveryState{From: "dns+a://app.test:80", Lookups: 12, Failures: 10, Added: 2}
	if got := *tr.Pools()[0].Discovery; got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestPeersThatStayKeepTheirStateAndNewOnesStartSlowly(t *testing.T) {
	s := &script{}
	_, p := discovering(t, s, PoolConfig{Peers: at("static:1"), SlowStart: short(time.Minute), PeersMaxConnections: 7})
	log := slog.New(slog.DiscardHandler)
	look := func(addrs ...string) []string {
		s.set(time.Minute, nil, addrs...)
		removed, _ := p.look(t.Context(), log)
		return removed
	}
	look("a:1", "b:1")
	a, b := named(p.peers(), "a:1"), named(p.peers(), "b:1")
	b.drained.Store(true)
	b.tried.Store(5)
	a.claim()
	p.running.Add(1)
	if a.most != 7 || named(p.peers(), "static:1").most != 0 {
		t.Error("peers_max_connections is not of those that were looked up alone")
	}
	if removed := look("b:1", "c:1"); !slices.Equal(removed, []string{"a:1"}) || names(p) != "static:1 b:1 c:1" {
		t.Errorf("%q went, %q are left", removed, names(p))
	}
	if named(p.peers(), "b:1") != b || !b.drained.Load() || b.tried.Load() != 5 {
		t.Error("b is another")
	}
	now := time.Now()
	if w := named(p.peers(), "c:1").warmth(now, time.Minute); w > 0.2 {
		t.Errorf("c has %v of its weight at once", w)
	}
	for range 50 {
		q, _ := p.next(&asking{sticky: a.token}, now)
		if q == nil || q == a {
			t.Fatalf("%v was chosen", q)
		}
		q.leave()
	}
	a.leave() // the request that it had ends as any
	if p.running.Load() != 0 || a.active.Load() != 0 {
		t.Error("a request is counted for ever")
	}
	// A new weight is no new peer.
	c := named(p.peers(), "c:1")
	c.claim()
	s.found = []member{{PeerConfig{Address: "c:1", Weight: 9}, "app.test"}}
	p.look(t.Context(), log)
	again := named(p.peers(), "c:1")
	if again.weight != 9 || again.active.Load() != 1 || p.discovery.added.Load() != 3 {
		t.Errorf("weight %d, %d under way, %d added", again.weight, again.active.Load(), p.discovery.added.Load())
	}
}

func TestTheFirstPeersDoNotStartSlowly(t *testing.T) {
	s := &script{}
	s.set(time.Minute, nil, "a:1")
	_, p := discovering(t, s, PoolConfig{SlowStart: short(time.Minute)})
	p.look(t.Context(), slog.New(slog.DiscardHandler))
	if w := p.peers()[0].warmth(time.Now(), time.Minute); w != 1 {
		t.Errorf("it has %v of its weight", w)
	}
}

func TestAReloadKeepsThePeersThatWereLookedUp(t *testing.T) {
	s := &script{}
	s.set(time.Minute, nil, "a:1", "b:1")
	old, p := discovering(t, s, PoolConfig{})
	log := slog.New(slog.DiscardHandler)
	p.look(t.Context(), log)
	p.peers()[1].drained.Store(true)

	next, q := discovering(t, s, PoolConfig{Balance: leastConn})
	next.Inherit(old)
	if names(q) != "a:1 b:1" || !q.peers()[1].drained.Load() || q.peers()[0].health != p.peers()[0].health {
		t.Errorf("%q after the reload", names(q))
	}
	if got, err := q.await(t.Context(), &asking{}); err != nil || got.name != "a:1" {
		t.Errorf("%v, %v", got, err)
	}
	q.look(t.Context(), log)
	if d := *next.Pools()[0].Discovery; d.Lookups != 2 || d.Added != 2 || d.Removed != 0 {
		t.Errorf("%+v", d)
	}
	// Another source begins anew.
	third := newTransport(t, nil, PoolConfig{Name: "app", PeersFrom: "dns+a://other.test:80"})
	third.Inherit(next)
	if names(third.pools["app"]) != "" {
		t.Errorf("%q are of another source", names(third.pools["app"]))
	}
}

func TestPeersThatGoAreCheckedNoMoreAndTheirKeptConnectionsClose(t *testing.T) {
	one, two := answering(t, ok("one")), answering(t, ok("two"))
	s := &script{}
	s.set(time.Millisecond, nil, one.addr)
	tr, p := discovering(t, s, PoolConfig{PeersRefresh: short(5 * time.Millisecond), Check: &CheckConfig{Interval: short(5 * time.Millisecond)}})
	tr.Watch(slog.New(slog.DiscardHandler))
	eventually := func(what string, holds func() bool) {
		t.Helper()
		for began := time.Now(); !holds(); time.Sleep(time.Millisecond) {
			if time.Since(began) > 30*time.Second {
				t.Fatal(what)
			}
		}
	}
	if _, body := do(t, tr, viaPool(t, "GET", "site.test")); body != "one" {
		t.Errorf("%q", body)
	}
	eventually("one is not checked", func() bool { return one.conns.Load() > 3 })
	s.set(time.Millisecond, nil, two.addr)
	eventually("two did not come", func() bool { return names(p) == two.addr })
	if _, body := do(t, tr, viaPool(t, "GET", "site.test")); body != "two" {
		t.Errorf("%q", body)
	}
	eventually("two is not checked", func() bool { return two.conns.Load() > 3 })
	eventually("the connection to one is kept", func() bool { idle, _ := tr.Stats(); return idle == 1 })
	before := one.conns.Load()
	eventually("two is not checked", func() bool { return two.conns.Load() > 20 })
	if n := one.conns.Load(); n > before+1 { // one check may have been under way
		t.Errorf("one was checked %d times more", n-before)
	}
}
