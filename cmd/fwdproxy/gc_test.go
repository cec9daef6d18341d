package main

import "testing"

func TestTheHeapGrowsByWhatIsNotTheCache(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		live, cache uint64
		want        int
	}{
		{0, 0, 100},
		{4 * mib, 0, 100},
		{4 * mib, 8 * mib, 100}, // the cache counts before the collector does
		{280 * mib, 256 * mib, 11},
		{456 * mib, 256 * mib, 43},
		{20_000 * mib, 20_000 * mib, gcLeast},
		{200 * mib, 0, 100},
	} {
		if got := gcPercent(c.live, c.cache); got != c.want {
			t.Errorf("%d MiB live, %d in the cache: got %d, want %d", c.live/mib, c.cache/mib, got, c.want)
		}
	}
}
