package upstream

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestEachEjectionInARowIsTwiceAsLongUpToTheLongest(t *testing.T) {
	now := time.Now()
	p := &health{}
	for _, want := range []time.Duration{1, 2, 4, 5, 5} {
		p.eject(now, time.Second, 5*time.Second)
		if p.rest(now.Add(want*time.Second-1)) != 1 || p.rest(now.Add(want*time.Second)) != 0 {
			t.Errorf("it is not out for %d s", want)
		}
		p.eject(now, time.Second, 5*time.Second) // others fail at the same time
		now = now.Add(want * time.Second)
	}
	now = now.Add(6 * time.Second)
	p.eject(now, time.Second, 5*time.Second)
	if p.rest(now.Add(time.Second)) != 0 {
		t.Error("a failure long after the last is not taken for the first")
	}
}

func TestAPeerIsUnfitAfterFallFailuresAndFitAfterRiseAnswers(t *testing.T) {
	now, bad := time.Now(), errors.New("no")
	p := &health{}
	for i, tt := range []struct {
		err   error
		unfit bool
	}{{bad, false}, {bad, false}, {nil, false}, {bad, false}, {bad, false}, {bad, true}, {nil, true}, {bad, true}, {nil, true}, {nil, false}} {
		changed := p.checked(now, tt.err, 2, 3)
		if p.unfit.Load() != tt.unfit || changed != (i == 5 || i == 9) {
			t.Errorf("after check %d: unfit %t, changed %t", i, p.unfit.Load(), changed)
		}
	}
}

func TestFailedRequestsEjectAPeerButNeverMoreThanTheShare(t *testing.T) {
	p := poolOf(t, PoolConfig{Peers: at("a:1", "b:1", "c:1", "d:1"), Eject: &EjectConfig{Failures: 3}})
	fails := func(peer *peer, statuses ...int) {
		for _, s := range statuses {
			p.note(peer, s, nil)
		}
	}
	out := func() (s string) {
		for _, peer := range p.peers() {
			if peer.rest(time.Now()) > 0 {
				s += peer.name[:1]
			}
		}
		return s
	}
	fails(p.peers()[0], 503, 503, 200, 503, 500, 503, 503)
	if out() != "" {
		t.Errorf("%q: 200 and 500 are no failures, and end the row", out())
	}
	fails(p.peers()[0], 503, 502, 504)
	fails(p.peers()[1], 503, 502, 504)
	fails(p.peers()[2], 503, 502, 504, 504, 504)
	if out() != "ab" {
		t.Errorf("%q are out, want the half of them", out())
	}
	p.unreachable(p.peers()[2])
	if out() != "abc" {
		t.Errorf("%q: c cannot be connected to", out())
	}
}

func TestTheBestTierIsAsked(t *testing.T) {
	now := time.Now()
	p := poolOf(t, PoolConfig{Peers: []PeerConfig{{Address: "a:1"}, {Address: "b:1"}, {Address: "s:1", Backup: true}}})
	ask := func() string {
		got := shares(p, 200, now, anyone)
		var s strings.Builder
		for _, peer := range p.peers() {
			if got[peer.name] > 0 {
				s.WriteString(peer.name[:1])
			}
		}
		return s.String()
	}
	for _, step := range []struct {
		what string
		do   func()
		want string
	}{
		{"all are fit", func() {}, "ab"},
		{"a is drained", func() { p.peers()[0].drained.Store(true) }, "b"},
		{"b is ejected", func() { p.peers()[1].eject(now, time.Minute, time.Minute) }, "s"},
		{"the backup is ejected", func() { p.peers()[2].eject(now, time.Minute, time.Minute) }, "b"},
		{"b is unfit", func() { p.peers()[1].unfit.Store(true) }, "s"},
		{"the backup is unfit", func() { p.peers()[2].unfit.Store(true) }, ""},
		{"a is restored", func() { p.peers()[0].drained.Store(false) }, "a"},
	} {
		step.do()
		if got := ask(); got != step.want {
			t.Errorf("%s: %q were asked, want %q", step.what, got, step.want)
		}
	}
}

func TestABoundClientStaysWhileItsPeerIsFit(t *testing.T) {
	now := time.Now()
	p := poolOf(t, PoolConfig{Peers: at("a:1", "b:1", "c:1"), StickyCookie: "s"})
	bound := func(int) *asking { return &asking{sticky: p.peers()[1].token} }
	if got := shares(p, 30, now, bound); got["b:1"] != 30 {
		t.Errorf("%v, want all for b", got)
	}
	p.peers()[1].unfit.Store(true)
	if got := shares(p, 30, now, bound); got["b:1"] != 0 || got["a:1"] == 0 || got["c:1"] == 0 {
		t.Errorf("b is unfit: %v", got)
	}
	if got := shares(p, 30, now, func(int) *asking { return &asking{sticky: "guessed"} }); got["a:1"] == 0 || got["c:1"] == 0 {
		t.Errorf("a made-up cookie chose: %v", got)
	}
}

func TestThoseWhoWaitForAPeerComeInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := poolOf(t, PoolConfig{Peers: []PeerConfig{{Address: "a:1", MaxConnections: 1}}, Queue: 2, QueueTimeout: short(time.Second)})
		first, err := p.await(t.Context(), &asking{})
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan string, 9)
		wait := func(name string) {
			go func() {
				peer, err := p.await(t.Context(), &asking{})
				if err != nil {
					got <- name + " was refused"
					return
				}
				got <- name
				time.Sleep(400 * time.Millisecond)
				peer.leave()
			}()
			synctest.Wait()
		}
		wait("one")
		wait("two")
		wait("three") // has no place
		time.Sleep(900 * time.Millisecond)
		first.leave()
		for _, want := range []string{"three was refused", "one", "two was refused"} { // at once; after 0.9 s; after its second
			if s := <-got; s != want {
				t.Errorf("%q, want %q", s, want)
			}
		}
		time.Sleep(time.Second)
		if n, q := p.running.Load(), p.queue.length.Load(); n != 0 || q != 0 || p.queue.waiting.Len() != 0 {
			t.Errorf("%d under way, %d wait", n, q)
		}
	})
}
