package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// gcEvery is how often the collector is set anew; the cache fills slowly.
	gcEvery = 2 * time.Second
	// gcRoom is what the heap may always grow by, in bytes.
	gcRoom  = 32 << 20
	gcLeast = 5
	// manyBytes is from what size of lists on the memory that reading them took is
	// given back at once.
	manyBytes = 16 << 20
)

// gcPercent is a GOGC that does not let the heap grow for what the cache and
// the lists hold: those bytes have no pointers in them, and a collection costs nothing
// for them. All else may double, as is Go's default. Both are in bytes.
func gcPercent(live, flat uint64) int {
	if live == 0 {
		return 100
	}
	rest := live - min(flat, live)
	return int(min(max(100*max(rest, gcRoom)/live, gcLeast), 100))
}

// fitCollector keeps the collector to gcPercent until ctx ends, unless GOGC or
// GOMEMLIMIT say what to do.
func fitCollector(ctx context.Context, flatBytes func() int64) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	tick := time.NewTicker(gcEvery)
	defer tick.Stop()
	sample, now := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}, 100
	for {
		select {
		case <-ctx.Done():
			debug.SetGCPercent(100)
			return
		case <-tick.C:
			metrics.Read(sample)
			if next := gcPercent(sample[0].Value.Uint64(), uint64(flatBytes())); next != now {
				debug.SetGCPercent(next)
				now = next
			}
		}
	}
}

// giveBack returns to the system what a policy with large lists took to load,
// and the lists that it took the place of.
func giveBack(listBytes int64) {
	if listBytes > manyBytes {
		debug.FreeOSMemory()
	}
}
