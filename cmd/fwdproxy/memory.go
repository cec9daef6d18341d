package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"fwdproxy/cache/store"
)

func registerMemory(r prometheus.Registerer, m *store.Memory) {
	counter := func(name, help, label, is string, value func(store.Stats) uint64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: prometheus.Labels{label: is}},
			func() float64 { return float64(value(m.Stats())) }))
	}
	const moves, movesHelp = "fwdproxy_cache_moves_total", "What became of objects that reached the end of a queue of the memory cache."
	counter(moves, movesHelp, "to", "promoted", func(s store.Stats) uint64 { return s.Promoted })
	counter(moves, movesHelp, "to", "kept", func(s store.Stats) uint64 { return s.Kept })
	counter(moves, movesHelp, "to", "evicted", func(s store.Stats) uint64 { return s.Evicted })
	const reads, readsHelp = "fwdproxy_cache_reads_total", "Entries read from a queue of the memory cache."
	counter(reads, readsHelp, "queue", "small", func(s store.Stats) uint64 { return s.SmallReads })
	counter(reads, readsHelp, "queue", "main", func(s store.Stats) uint64 { return s.MainReads })
}
