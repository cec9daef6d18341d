package edge

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fwdproxy/internal/fault"
)

var one, other = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")

// atMost are limits of n tunnels in all.
func atMost(n int) Limits { return Limits{Tunnels: n, TunnelsPerClient: n} }

func begin(t *testing.T, tunnels *Tunnels) {
	t.Helper()
	if err := tunnels.Begin(one, atMost(9)); err != nil {
		t.Fatal(err)
	}
}

func TestTunnelsAreCountedAndBounded(t *testing.T) {
	tt := NewTunnels()
	first, second, third := tt.Begin(one, atMost(2)), tt.Begin(other, atMost(2)), tt.Begin(other, atMost(2))
	if first != nil || second != nil || fault.From(third).HTTPStatus() != http.StatusServiceUnavailable || tt.Open() != 2 {
		t.Fatalf("%d are open of at most 2: %v %v %v", tt.Open(), first, second, third)
	}
	tt.End(one)
	if err := tt.Begin(other, atMost(2)); err != nil || tt.Open() != 2 {
		t.Errorf("a place that is free again is not given: %v", err)
	}
	// A reload may lower the limit below what is open.
	if tt.Begin(one, atMost(1)) == nil {
		t.Error("a lower limit is not kept")
	}
}

func TestOneClientCannotTakeEveryTunnel_RFC6585_4(t *testing.T) {
	tt, l := NewTunnels(), Limits{Tunnels: 9, TunnelsPerClient: 2}
	first, second, third := tt.Begin(one, l), tt.Begin(one, l), tt.Begin(one, l)
	if first != nil || second != nil || fault.From(third).HTTPStatus() != http.StatusTooManyRequests {
		t.Errorf("%v %v %v", first, second, third)
	}
	if err := tt.Begin(other, l); err != nil {
		t.Errorf("another client: %v", err)
	}
	tt.End(one)
	if err := tt.Begin(one, l); err != nil {
		t.Errorf("a place that is free again is not given: %v", err)
	}
	tt.End(one)
	tt.End(one)
	tt.End(other)
	if len(tt.byClient) != 0 {
		t.Errorf("clients without a tunnel are remembered: %v", tt.byClient)
	}
}

func TestDrainWaitsForEveryTunnelAndEveryWaiterIsToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tunnels := NewTunnels()
		begin(t, tunnels)
		begin(t, tunnels)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var wg sync.WaitGroup
		results := make([]int, 3)
		start := time.Now()
		for i := range results {
			wg.Go(func() { results[i] = tunnels.Drain(ctx) })
		}
		time.Sleep(time.Minute)
		tunnels.End(one)
		synctest.Wait()
		if tunnels.Context().Err() != nil {
			t.Error("tunnels are cut while there is time")
		}
		time.Sleep(time.Minute)
		tunnels.End(one)
		wg.Wait()
		if took := time.Since(start); took != 2*time.Minute {
			t.Errorf("the drain took %v", took)
		}
		for i, n := range results {
			if n != 0 {
				t.Errorf("waiter %d was told of %d tunnels cut", i, n)
			}
		}
		if tunnels.Begin(one, atMost(9)) == nil {
			t.Error("a tunnel begins behind the drain")
		}
	})
}

func TestDrainCutsWhatIsLeftAndLetsItEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tunnels := NewTunnels()
		var ended atomic.Int32
		for range 3 {
			begin(t, tunnels)
			go func() {
				<-tunnels.Context().Done()
				time.Sleep(time.Millisecond)
				ended.Add(1)
				tunnels.End(one)
			}()
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		if n := tunnels.Drain(ctx); n != 3 || ended.Load() != 3 || tunnels.Open() != 0 {
			t.Errorf("%d cut, %d ended, %d open", n, ended.Load(), tunnels.Open())
		}
		if took := time.Since(start); took != time.Minute+time.Millisecond {
			t.Errorf("the drain took %v", took)
		}
	})
}

func TestDrainDoesNotWaitForWhatIgnoresItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tunnels := NewTunnels()
		begin(t, tunnels)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		if n := tunnels.Drain(ctx); n != 1 || time.Since(start) != lastWords {
			t.Errorf("%d cut after %v", n, time.Since(start))
		}
		tunnels.End(one)
	})
}
