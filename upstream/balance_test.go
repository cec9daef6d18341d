package upstream

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fwdproxy/internal/hop"
)

// poolOf returns a pool whose chance is the same each time.
func poolOf(t testing.TB, c PoolConfig) *pool {
	t.Helper()
	c.Name = "app"
	if p := ValidatePools([]PoolConfig{c}); len(p) > 0 {
		t.Fatal(p)
	}
	p, err := newPool(c)
	if err != nil {
		t.Fatal(err)
	}
	p.members.Load().selector.roll = rand.New(rand.NewPCG(1, 2)).Float64
	return p
}

func weighted(weights ...int) (peers []PeerConfig) {
	for i, w := range weights {
		peers = append(peers, PeerConfig{Address: fmt.Sprintf("%c:1", 'a'+i), Weight: w, Weighted: true})
	}
	return peers
}

// shares gives the pool n requests, each over before the next, and returns who
// got how many.
func shares(p *pool, n int, now time.Time, ask func(i int) *asking) map[string]int {
	got := map[string]int{}
	for i := range n {
		if peer, _ := p.next(ask(i), now); peer != nil {
			got[peer.name]++
			peer.leave()
		}
	}
	return got
}

func anyone(int) *asking { return &asking{} }

func TestPeersTakeTurnsByTheirWeights(t *testing.T) {
	now := time.Now()
	p := poolOf(t, PoolConfig{Peers: weighted(5, 1, 1)})
	var order strings.Builder
	for range 14 {
		peer, _ := p.next(&asking{}, now)
		order.WriteString(peer.name[:1])
		peer.leave()
	}
	if order.String() != "aabacaaaabacaa" {
		t.Errorf("%s: not spread as evenly as may be", order.String())
	}
}

func TestWhatAPeerDoesNotTakeIsSharedByAllOthers(t *testing.T) {
	now := time.Now()
	for _, balance := range []string{roundRobin, leastConn, twoChoices, byHash} {
		p := poolOf(t, PoolConfig{Peers: at("a:1", "b:1", "c:1", "d:1"), Balance: balance})
		p.peers()[1].down(now)
		got := shares(p, 9000, now, func(i int) *asking { return &asking{key: hashOf(fmt.Sprint(i))} })
		for _, name := range []string{"a:1", "c:1", "d:1"} {
			if n := got[name]; n < 2700 || n > 3300 { // 3000 within a tenth
				t.Errorf("%s: %s got %d of 9000", balance, name, n)
			}
		}
	}
}

func TestEveryWayToChooseKeepsToTheWeights(t *testing.T) {
	now := time.Now()
	for _, balance := range []string{roundRobin, byHash} {
		p := poolOf(t, PoolConfig{Peers: weighted(1, 2, 5), Balance: balance})
		got := shares(p, 8000, now, func(i int) *asking { return &asking{key: hashOf(fmt.Sprint(i))} })
		for name, want := range map[string]int{"a:1": 1000, "b:1": 2000, "c:1": 5000} {
			if math.Abs(float64(got[name]-want)) > 150 {
				t.Errorf("%s: %s got %d, want %d within 150", balance, name, got[name], want)
			}
		}
	}
	for _, balance := range []string{leastConn, twoChoices} { // these go by what is under way
		p := poolOf(t, PoolConfig{Peers: weighted(1, 2, 5), Balance: balance})
		for range 800 {
			p.next(&asking{}, now)
		}
		for i, want := range []int64{100, 200, 500} {
			if n := p.peers()[i].active.Load(); math.Abs(float64(n-want)) > 40 {
				t.Errorf("%s: %s has %d under way, want %d within 40", balance, p.peers()[i].name, n, want)
			}
		}
	}
}

func TestThePeerWithTheFewestRequestsIsChosen(t *testing.T) {
	now := time.Now()
	p := poolOf(t, PoolConfig{Peers: at("a:1", "b:1", "c:1"), Balance: leastConn})
	p.peers()[0].active.Store(2)
	p.peers()[1].active.Store(1)
	p.peers()[2].active.Store(3)
	if got := shares(p, 4, now, anyone); got["b:1"] != 4 {
		t.Errorf("%v, want all for b", got)
	}
	p.peers()[1].down(now)
	if got := shares(p, 4, now, anyone); got["a:1"] != 4 {
		t.Errorf("b rests: %v, want all for a", got)
	}
}

func TestTwoChoicesKeepTheBusiestWithinTwoOfTheLeast(t *testing.T) {
	p := poolOf(t, PoolConfig{Peers: weighted(1, 1, 1, 1, 1, 1, 1, 1), Balance: twoChoices})
	for range 8000 {
		p.next(&asking{}, time.Now())
	}
	low, high := int64(math.MaxInt64), int64(0)
	for _, peer := range p.peers() {
		low, high = min(low, peer.active.Load()), max(high, peer.active.Load())
	}
	if high-low > 8 { // by chance alone it would be about 90
		t.Errorf("from %d to %d", low, high)
	}
}

func TestAPeerThatGoesMovesItsOwnKeysAlone(t *testing.T) {
	now := time.Now()
	const keys, n = 10000, 10
	p := poolOf(t, PoolConfig{Peers: weighted(1, 1, 1, 1, 1, 1, 1, 1, 1, 1), Balance: byHash})
	where := func() []string {
		out := make([]string, keys)
		for i := range out {
			peer, _ := p.next(&asking{key: hashOf(fmt.Sprint(i))}, now)
			out[i] = peer.name
			peer.leave()
		}
		return out
	}
	before := where()
	p.peers()[3].drained.Store(true)
	moved, wronged := 0, 0
	for i, name := range where() {
		if name != before[i] {
			moved++
			if before[i] != p.peers()[3].name {
				wronged++
			}
		}
	}
	if wronged > 0 || moved < keys/n*9/10 || moved > keys/n*11/10 {
		t.Errorf("%d of %d keys moved, %d of them from peers that stayed", moved, keys, wronged)
	}
}

func TestAPeerOfAPopularKeyPassesOnWhatIsAboveItsShare(t *testing.T) {
	p := poolOf(t, PoolConfig{Peers: weighted(1, 1, 1, 1), Balance: byHash})
	for range 400 {
		p.next(&asking{key: 7}, time.Now())
	}
	for _, peer := range p.peers() {
		if n := peer.active.Load(); n > 126 { // 1.25 times its 100, rounded up
			t.Errorf("%s has %d of 400 under way", peer.name, n)
		}
	}
}

func TestAHashGoesByFieldCookieOrAddress(t *testing.T) {
	req := func(field, cookie string) *http.Request {
		r := &http.Request{Header: http.Header{}}
		if field != "" {
			r.Header.Set("X-User", field)
		}
		if cookie != "" {
			r.Header.Set("Cookie", "a=b; sid="+cookie)
		}
		return r
	}
	from := func(a string) *hop.Hop { return &hop.Hop{Client: netip.MustParseAddr(a)} }
	for _, tt := range []struct {
		by         string
		a, b       *http.Request
		from, also string
		same       bool
	}{
		{"header:x-user", req("1", ""), req("1", ""), "192.0.2.1", "192.0.2.2", true},
		{"header:x-user", req("1", ""), req("2", ""), "192.0.2.1", "192.0.2.1", false},
		{"header:x-user", req("", ""), req("", ""), "192.0.2.1", "192.0.2.1", true},
		{"header:x-user", req("", ""), req("", ""), "192.0.2.1", "192.0.2.2", false},
		{"cookie:sid", req("", "1"), req("", "1"), "192.0.2.1", "192.0.2.2", true},
		{"cookie:sid", req("", "1"), req("", "2"), "192.0.2.1", "192.0.2.1", false},
		{"", req("1", "1"), req("2", "2"), "192.0.2.1", "192.0.2.1", true},
		{"client", req("", ""), req("", ""), "2001:db8::1", "2001:db8::2", true},
		{"client", req("", ""), req("", ""), "2001:db8::1", "2001:db8:0:1::1", false},
	} {
		if got := keyOf(tt.by, tt.a, from(tt.from)) == keyOf(tt.by, tt.b, from(tt.also)); got != tt.same {
			t.Errorf("by %q, %s and %s: the same %t", tt.by, tt.from, tt.also, got)
		}
	}
}

func TestAPeerThatIsBackStartsSlowly(t *testing.T) {
	now := time.Now()
	p := poolOf(t, PoolConfig{Peers: at("a:1", "b:1"), SlowStart: short(time.Minute)})
	p.peers()[1].eject(now, time.Second, time.Second)
	back := now.Add(time.Second)
	for _, tt := range []struct {
		after     time.Duration
		low, high int
	}{{0, 400, 600}, {30 * time.Second, 2300, 2700}, {time.Minute, 5000, 5000}} {
		// Of its turns, half of all, it takes its part and gives the rest away.
		if n := shares(p, 10000, back.Add(tt.after), anyone)["b:1"]; n < tt.low || n > tt.high {
			t.Errorf("after %s it got %d of 10000", tt.after, n)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	for _, balance := range []string{roundRobin, leastConn, twoChoices, byHash} {
		b.Run(balance, func(b *testing.B) {
			p := poolOf(b, PoolConfig{Peers: weighted(1, 1, 1, 1, 1, 1, 1, 1), Balance: balance})
			p.members.Load().selector.roll = rand.Float64
			a, now := &asking{key: 7}, time.Now()
			b.ReportAllocs()
			for b.Loop() {
				peer, _ := p.next(a, now)
				peer.leave()
			}
		})
	}
}
