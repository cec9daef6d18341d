package store

import (
	"context"
	"encoding/binary"
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/allegro/bigcache/v3"
)

const (
	smallPart   = 10      // the small queue is this part of the whole
	mainShard   = 4 << 20 // bytes at least; room for some sixty segments
	smallShard  = 1 << 20
	maxShards   = 256
	writeLocks  = 256
	segmentsKey = len(Key{}) + 12
)

// queues are the two queues and what is on its way between them.
//
// An object is one for the policy, however many entries it has: the first of
// them that reaches the end of its queue decides for all. bigcache calls left
// under the lock of a shard, where no shard may be touched; so left only notes
// what is to move, and the caller of set moves it afterwards.
//
// Locks: a write lock, then a shard of bigcache, then transit.mu.
type queues struct {
	small, main *bigcache.BigCache
	seed        maphash.Seed
	uses        counters
	ghosts      ghosts
	locks       [writeLocks]sync.Mutex // by object: whoever changes what is under its key
	transit     transit
	mainFull    atomic.Bool
	counts      moves
	overdraft   int // bytes beyond its budget that settle moves for large objects
}

// moves counts what the policy did with objects.
type moves struct {
	promoted, kept, evicted atomic.Uint64
}

func newQueues(mib int) (*queues, error) {
	small := max(mib/smallPart, 1)
	q := &queues{seed: maphash.MakeSeed(), uses: newCounters(mib << 11), ghosts: newGhosts(mib << 8), overdraft: mib << 20 / 2}
	q.transit.objects = make(map[Key]*moving)
	q.transit.limit = max(mib<<20/32, 1<<20)
	var err error
	if q.small, err = q.queue(small, smallShard, true); err != nil {
		return nil, err
	}
	q.main, err = q.queue(mib-small, mainShard, false)
	return q, err
}

func (q *queues) queue(mib, shard int, small bool) (*bigcache.BigCache, error) {
	shards := min(powerOfTwo(max(mib<<20/shard, 1)), maxShards)
	return bigcache.New(context.Background(), bigcache.Config{
		Shards:           shards,
		LifeWindow:       math.MaxInt64 * time.Nanosecond, // freshness is the cache's; see Set in bigcache
		HardMaxCacheSize: mib,
		// Both only size what is allocated at once.
		MaxEntriesInWindow: shards,
		MaxEntrySize:       512,
		Hasher:             seeded{maphash.MakeSeed()},
		OnRemoveWithReason: func(key string, entry []byte, _ bigcache.RemoveReason) { q.left(small, key, entry) },
	}.OnRemoveFilterSet(bigcache.NoSpace))
}

// seeded is a hash that nobody outside of the process can predict.
type seeded struct{ seed maphash.Seed }

func (s seeded) Sum64(key string) uint64 { return max(maphash.String(s.seed, key), 1) }

func (q *queues) hash(k Key) uint64 { return maphash.Bytes(q.seed, k[:]) }

// lock is held by whoever changes what is under a key with that hash.
func (q *queues) lock(h uint64) *sync.Mutex { return &q.locks[h%writeLocks] }

// get returns a copy of an entry, and whether it comes from the main queue.
func (q *queues) get(key string) (e []byte, main, ok bool) {
	for range 3 {
		done := q.transit.done.Load()
		if e, err := q.main.Get(key); err == nil {
			return e, true, true
		}
		if e, err := q.small.Get(key); err == nil {
			return e, false, true
		}
		if e, ok := q.transit.get(key); ok {
			return e, true, true
		}
		if done == q.transit.done.Load() {
			break
		}
	}
	return nil, false, false
}

// left is told what a queue had no more room for, under a shard's lock.
func (q *queues) left(small bool, key string, entry []byte) {
	k, id, head, ok := nameOf(key, entry)
	if !ok {
		return
	}
	h := q.hash(k)
	if !small {
		q.mainFull.Store(true)
	}
	stays := q.uses.get(h) > 0 || small && !q.mainFull.Load()
	if q.transit.take(k, id, small, stays, head, key, entry) {
		return
	}
	if head {
		q.counts.evicted.Add(1)
	}
	if small {
		q.ghosts.add(h)
	}
}

// nameOf tells which object an entry is of.
func nameOf(key string, entry []byte) (k Key, id uint64, head, ok bool) {
	copy(k[:], key)
	switch {
	case len(key) == segmentsKey:
		return k, binary.LittleEndian.Uint64([]byte(key[len(k):])), false, true
	case len(key) == len(k) && len(entry) >= entryPrefix:
		return k, binary.LittleEndian.Uint64(entry[1:]), true, true
	}
	return k, 0, false, false
}
