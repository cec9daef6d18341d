package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/allegro/bigcache/v3"
)

// MinMemory is the least size, in bytes, of a Memory that keeps anything.
const MinMemory = 4 << 20

const (
	maxShards = 256
	minShard  = 4 << 20 // bytes; room for some sixty segments
	// An object may take this part of the whole at most. Its segments fall on
	// the shards at random, and no shard may have to drop one for another.
	maxShare = 4
	// preload is the size up to which a body is read whole before its first
	// byte is given out, so that it cannot be lost halfway.
	preload = 1 << 20
	// inline is the size up to which head and body are one entry.
	inline = SegmentSize
)

// Memory is the memory tier. It takes its size for entries, and on top of that
// about a sixteenth for copying and the index; it drops what is oldest first.
// It allocates as it fills.
type Memory struct {
	cache *bigcache.BigCache // nil: off
	limit int64
	ids   atomic.Uint64
}

// Stats says how full a Memory is.
type Stats struct {
	Entries int   // objects and segments
	Bytes   int64 // allocated for entries
	Limit   int64 // of Bytes
}

// MaxObject returns the size in bytes of the largest body that a Memory of
// that size keeps.
func MaxObject(size int64) int64 { return size / maxShare }

// NewMemory returns a Memory of size bytes, rounded down to whole MiB; 0 turns
// it off, and anything below MinMemory is an error.
func NewMemory(size int64) (*Memory, error) {
	if size == 0 {
		return &Memory{}, nil
	}
	if size < MinMemory {
		return nil, fmt.Errorf("cache memory of %d bytes is below the least, %d", size, int64(MinMemory))
	}
	mib := int(min(size>>20, math.MaxInt32))
	shards := shardsFor(mib)
	c, err := bigcache.New(context.Background(), bigcache.Config{
		Shards:           shards,
		LifeWindow:       math.MaxInt64 * time.Nanosecond, // freshness is the cache's; see Set in bigcache
		HardMaxCacheSize: mib,
		// Both only size what is allocated at once.
		MaxEntriesInWindow: shards,
		MaxEntrySize:       512,
		Hasher:             seeded{maphash.MakeSeed()},
	})
	if err != nil {
		return nil, err
	}
	return &Memory{cache: c, limit: int64(mib) << 20}, nil
}

// shardsFor returns how many shards share that many MiB: a power of two, so
// that every shard has at least minShard.
func shardsFor(mib int) int {
	n := max(1, mib/(minShard>>20))
	return min(maxShards, 1<<(bits.Len(uint(n))-1))
}

// seeded hashes with a seed of this process, so that nobody can craft keys
// that fall on one shard or one slot.
type seeded struct{ seed maphash.Seed }

func (s seeded) Sum64(key string) uint64 { return maphash.String(s.seed, key) }

// Stats returns how full the memory is.
func (m *Memory) Stats() Stats {
	if m.cache == nil {
		return Stats{}
	}
	return Stats{Entries: m.cache.Len(), Bytes: int64(m.cache.Capacity()), Limit: m.limit}
}

// An entry is a layout byte, the object's id, the size of its body, then the
// head's length and the head; the body follows where the layout says so.
const (
	layoutInline   = 1
	layoutSegments = 2
	entryPrefix    = 1 + 8 + 8 + 4
)

// Get implements Store.
func (m *Memory) Get(k Key) (Object, bool) {
	if m.cache == nil {
		return Object{}, false
	}
	e, err := m.cache.Get(string(k[:]))
	if err != nil || len(e) < entryPrefix {
		return Object{}, false
	}
	layout := e[0]
	id, size := binary.LittleEndian.Uint64(e[1:]), binary.LittleEndian.Uint64(e[9:])
	head, rest := uint64(binary.LittleEndian.Uint32(e[17:])), e[entryPrefix:]
	if head > uint64(len(rest)) || size > math.MaxInt64 {
		return Object{}, false
	}
	o := Object{Head: rest[:head:head], Size: int64(size), ID: id}
	switch layout {
	case layoutInline:
		if uint64(len(rest))-head != size {
			return Object{}, false
		}
		o.Body = inlineBody(rest[head:])
	case layoutSegments:
		o.Body = &segments{m: m, key: k, id: id, size: int64(size)}
	default:
		return Object{}, false
	}
	return o, true
}

// Put implements Store.
func (m *Memory) Put(k Key, head []byte, body [][]byte) error {
	return m.put(k, m.ids.Add(1), head, body)
}

// has reports whether there is an object under the key.
func (m *Memory) has(k Key) bool {
	if m.cache == nil {
		return false
	}
	_, err := m.cache.Get(string(k[:]))
	return err == nil
}

// put is Put of an object that has its id already.
func (m *Memory) put(k Key, id uint64, head []byte, body [][]byte) error {
	if m.cache == nil {
		return ErrOff
	}
	var size int64
	for i, s := range body {
		if len(s) > SegmentSize || (len(s) < SegmentSize && i < len(body)-1) {
			return fmt.Errorf("store: segment %d of %d has %d bytes", i, len(body), len(s))
		}
		size += int64(len(s))
	}
	if len(head) > MaxHead || size > MaxObject(m.limit) {
		return ErrTooLarge
	}
	if len(body) <= 1 && int64(len(head))+size <= inline {
		e := prefix(layoutInline, id, size, head, int(size))
		for _, s := range body {
			e = append(e, s...)
		}
		return m.cache.Set(string(k[:]), e)
	}
	for i, s := range body {
		if err := m.cache.Set(segmentKey(k, id, i), s); err != nil {
			return err
		}
	}
	// The head comes last: it makes the object.
	return m.cache.Set(string(k[:]), prefix(layoutSegments, id, size, head, 0))
}

// SetHead implements Store.
func (m *Memory) SetHead(k Key, o Object, head []byte) error {
	if m.cache == nil {
		return ErrOff
	}
	if len(head) > MaxHead {
		return ErrTooLarge
	}
	if b, ok := o.Body.(inlineBody); ok {
		return m.cache.Set(string(k[:]), append(prefix(layoutInline, o.ID, o.Size, head, len(b)), b...))
	}
	return m.cache.Set(string(k[:]), prefix(layoutSegments, o.ID, o.Size, head, 0))
}

// Delete implements Store. Segments stay until they are the oldest; without
// the head nothing leads to them, save a reader that began before.
func (m *Memory) Delete(k Key) {
	if m.cache != nil {
		_ = m.cache.Delete(string(k[:])) // an error says that it was not there
	}
}

func prefix(layout byte, id uint64, size int64, head []byte, room int) []byte {
	e := make([]byte, 0, entryPrefix+len(head)+room)
	e = append(e, layout)
	e = binary.LittleEndian.AppendUint64(e, id)
	e = binary.LittleEndian.AppendUint64(e, uint64(size))
	e = binary.LittleEndian.AppendUint32(e, uint32(len(head)))
	return append(e, head...)
}

// segmentKey is unlike any other: bigcache compares it on every read, so that
// a segment cannot stand in for another.
func segmentKey(k Key, id uint64, i int) string {
	var b [len(k) + 12]byte
	copy(b[:], k[:])
	binary.LittleEndian.PutUint64(b[len(k):], id)
	binary.LittleEndian.PutUint32(b[len(k)+8:], uint32(i))
	return string(b[:])
}
