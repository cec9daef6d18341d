package main

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fwdproxy/cache"
	"fwdproxy/cache/store"
)

// tiers is where the cache keeps what it stores.
type tiers struct {
	memory *store.Memory
	disk   *store.Disk // nil: there is none
	dir    string
	cache  *cache.Cache
	purges *store.Journal // nil without a disk
}

// diskDrain bounds the writing of what still waits for the disk at the end.
const diskDrain = 10 * time.Second

// openTiers opens the store as the configuration says, and the cache on it.
func openTiers(c cache.Config, log *slog.Logger) (*tiers, error) {
	t := &tiers{dir: c.Disk.Dir}
	var err error
	if t.memory, err = store.NewMemory(int64(c.Memory)); err != nil {
		return nil, err
	}
	var kept store.Store = t.memory
	if c.Disk.Dir != "" {
		t.disk, err = store.OpenDisk(store.DiskConfig{Dir: c.Disk.Dir, Size: int64(c.Disk.Size), Log: log})
		if err != nil {
			return nil, fmt.Errorf("cache.disk.dir: %s cannot be used: %w", c.Disk.Dir, err)
		}
		kept = store.NewTiered(t.memory, t.disk)
		t.purges = store.NewJournal(filepath.Join(c.Disk.Dir, "purges"))
	}
	if t.cache, err = openCache(kept, t.purges, log); err != nil {
		_ = t.close()
		return nil, fmt.Errorf("cache.disk.dir: what was purged cannot be read: %w", err)
	}
	return t, nil
}

// close writes what waits for the disk.
func (t *tiers) close() error {
	if t.disk == nil {
		return nil
	}
	return errors.Join(t.disk.Close(diskDrain), t.purges.Close())
}

// cacheSummary says in a few words what there is.
func cacheSummary(c cache.Config) string {
	var parts []string
	if c.Memory > 0 {
		parts = append(parts, c.Memory.String()+" in memory")
	}
	if c.Disk.Dir != "" {
		parts = append(parts, c.Disk.Size.String()+" in "+c.Disk.Dir)
	}
	if len(parts) == 0 {
		return "off"
	}
	return strings.Join(parts, ", ") + ", objects up to " + c.MaxObject.String()
}

// diskInfo is what /api/info tells of the disk.
type diskInfo struct {
	Dir     string `json:"dir"`
	Objects int64  `json:"objects"`
	Bytes   int64  `json:"bytes"`
	Limit   int64  `json:"limit"`
}

func (t *tiers) info() *diskInfo {
	if t.disk == nil {
		return nil
	}
	s := t.disk.Stats()
	return &diskInfo{Dir: t.dir, Objects: s.Objects, Bytes: s.Bytes, Limit: s.Limit}
}

func registerDisk(r prometheus.Registerer, d *store.Disk) {
	if d == nil {
		return
	}
	gauge := func(name, help string, value func(store.DiskStats) int64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value(d.Stats())) }))
	}
	counter := func(name, help string, labels prometheus.Labels, value func(store.DiskStats) int64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return float64(value(d.Stats())) }))
	}
	gauge("fwdproxy_disk_objects", "Objects in the disk cache.", func(s store.DiskStats) int64 { return s.Objects })
	gauge("fwdproxy_disk_bytes", "Bytes that the disk cache takes.", func(s store.DiskStats) int64 { return s.Bytes })
	gauge("fwdproxy_disk_limit_bytes", "Bytes that the disk cache may take.", func(s store.DiskStats) int64 { return s.Limit })
	gauge("fwdproxy_disk_queued_bytes", "Bytes that wait to be written to the disk cache.", func(s store.DiskStats) int64 { return s.Queued })
	gauge("fwdproxy_disk_on", "1 while the disk cache works, 0 when it has turned itself off.", func(s store.DiskStats) int64 {
		if s.Off {
			return 0
		}
		return 1
	})
	counter("fwdproxy_disk_dropped_total", "Objects that were not written, because too much waited or the disk failed.", nil, func(s store.DiskStats) int64 { return s.Dropped })
	counter("fwdproxy_disk_evicted_total", "Objects that made room for others in the disk cache.", nil, func(s store.DiskStats) int64 { return s.Evicted })
	for f := range store.Faults {
		counter("fwdproxy_disk_errors_total", "Trouble with the disk cache, by kind.", prometheus.Labels{"kind": f.String()}, func(s store.DiskStats) int64 { return s.Faults[f] })
	}
}
