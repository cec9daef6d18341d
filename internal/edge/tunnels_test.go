package edge

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestTunnelsAreCountedAndBounded(t *testing.T) {
	tt := NewTunnels()
	first, second, third := tt.Begin(2), tt.Begin(2), tt.Begin(2)
	if !first || !second || third || tt.Open() != 2 {
		t.Fatalf("%d are open of at most 2", tt.Open())
	}
	tt.End()
	if !tt.Begin(2) || tt.Open() != 2 {
		t.Error("a place that is free again is not given")
	}
	// A reload may lower the limit below what is open.
	if tt.Begin(1) {
		t.Error("a lower limit is not kept")
	}
}

func TestDrainWaitsForEveryTunnelAndEveryWaiterIsToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tunnels := NewTunnels()
		tunnels.Begin(9)
		tunnels.Begin(9)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var wg sync.WaitGroup
		results := make([]int, 3)
		start := time.Now()
		for i := range results {
			wg.Go(func() { results[i] = tunnels.Drain(ctx) })
		}
		time.Sleep(time.Minute)
		tunnels.End()
		synctest.Wait()
		if tunnels.Context().Err() != nil {
			t.Error("tunnels are cut while there is time")
		}
		time.Sleep(time.Minute)
		tunnels.End()
		wg.Wait()
		if took := time.Since(start); took != 2*time.Minute {
			t.Errorf("the drain took %v", took)
		}
		for i, n := range results {
			if n != 0 {
				t.Errorf("waiter %d was told of %d tunnels cut", i, n)
			}
		}
		if tunnels.Begin(9) {
			t.Error("a tunnel begins behind the drain")
		}
	})
}

func TestDrainCutsWhatIsLeftAndLetsItEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tunnels := NewTunnels()
		var ended atomic.Int32
		for range 3 {
			tunnels.Begin(9)
			go func() {
				<-tunnels.Context().Done()
				time.Sleep(time.Millisecond)
				ended.Add(1)
				tunnels.End()
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
		tunnels.Begin(1)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		if n := tunnels.Drain(ctx); n != 1 || time.Since(start) != lastWords {
			t.Errorf("%d cut after %v", n, time.Since(start))
		}
		tunnels.End()
	})
}
