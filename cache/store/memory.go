package store

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync/atomic"
)

// MinMemory is the least size, in bytes, of a Memory that keeps anything.
const MinMemory = 4 << 20

const (
	// An object may take this part of the whole at most. Its segments fall on
	// the shards at random, and no shard may have to drop one for another.
	maxShare = 4
	// An object above this part of the small queue goes past it.
	smallShare = 8
	// preload is the size up to which a body is read whole before its first
	// byte is given out, so that it cannot be lost halfway.
	preload = 1 << 20
	// inline is the size up to which head and body are one entry.
	inline = SegmentSize
	// A Put writes this many times its own size to keep what is in use, and this
	// part of the whole on top, before it drops what it would have to keep.
	moveTimes  = 4
	spareShare = 8
)

// Memory is the memory tier. It takes its size for entries, and on top of that
// about a sixteenth for copying and the index. What is used stays, what is
// asked for once goes first (S3-FIFO). It allocates as it fills.
type Memory struct {
	q     *queues // nil: off
	limit int64
	ids   atomic.Uint64
}

// Stats says how full a Memory is, and what it did since the start.
type Stats struct {
	Entries  int    // objects and segments
	Bytes    int64  // allocated for entries
	Limit    int64  // of Bytes
	Small    int64  // of Bytes, for what is new
	Promoted uint64 // objects that went on to the main queue
	Kept     uint64 // objects that the main queue kept for another round
	Evicted  uint64 // objects dropped for want of room
	// Entries that were read from the queue for what is new, and from the main one.
	SmallReads, MainReads uint64
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
	q, err := newQueues(mib)
	if err != nil {
		return nil, err
	}
	return &Memory{q: q, limit: int64(mib) << 20}, nil
}

// Stats returns how full the memory is and what it did.
func (m *Memory) Stats() Stats {
	q := m.q
	if q == nil {
		return Stats{}
	}
	small := int64(q.small.Capacity())
	return Stats{
		Entries:    q.small.Len() + q.main.Len(),
		Bytes:      small + int64(q.main.Capacity()),
		Limit:      m.limit,
		Small:      small,
		Promoted:   q.counts.promoted.Load(),
		Kept:       q.counts.kept.Load(),
		Evicted:    q.counts.evicted.Load(),
		SmallReads: uint64(q.small.Stats().Hits),
		MainReads:  uint64(q.main.Stats().Hits),
	}
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
	if m.q == nil {
		return Object{}, false
	}
	e, _, ok := m.q.get(string(k[:]))
	if !ok {
		return Object{}, false
	}
	o, ok := m.object(k, e)
	if ok {
		m.q.uses.use(m.q.hash(k))
	}
	return o, ok
}

// Used counts an object as read that was served without Get.
func (m *Memory) Used(k Key) {
	if m.q != nil {
		m.q.uses.use(m.q.hash(k))
	}
}

// object reads an entry.
func (m *Memory) object(k Key, e []byte) (Object, bool) {
	if len(e) < entryPrefix {
		return Object{}, false
	}
	layout, id, size := e[0], idOf(e), binary.LittleEndian.Uint64(e[9:])
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

func idOf(e []byte) uint64 { return binary.LittleEndian.Uint64(e[1:]) }

// Put implements Store.
func (m *Memory) Put(k Key, head []byte, body [][]byte) error {
	return m.put(k, m.ids.Add(1), head, body)
}

// has reports whether there is an object under the key.
func (m *Memory) has(k Key) bool {
	if m.q == nil {
		return false
	}
	_, _, ok := m.q.get(string(k[:]))
	return ok
}

// put is Put of an object that has its id already.
func (m *Memory) put(k Key, id uint64, head []byte, body [][]byte) error {
	if m.q == nil {
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
	h := m.q.hash(k)
	budget := m.budget(size + int64(len(head)))
	toMain := size > m.limit/smallPart/smallShare || m.q.belongs(k, h)
	if len(body) <= 1 && int64(len(head))+size <= inline {
		e := prefix(layoutInline, id, size, head, int(size))
		for _, s := range body {
			e = append(e, s...)
		}
		err := m.q.replace(k, h, toMain, e)
		m.q.settle(budget)
		return err
	}
	for i, s := range body {
		if err := m.q.at(toMain).Set(segmentKey(k, id, i), s); err != nil {
			return err
		}
		budget = m.q.settle(budget)
	}
	// The head comes last: it makes the object.
	err := m.q.replace(k, h, toMain, prefix(layoutSegments, id, size, head, 0))
	m.q.settle(budget)
	return err
}

func (m *Memory) budget(n int64) int { return int(n*moveTimes + m.limit/spareShare) }

// SetHead implements Store.
func (m *Memory) SetHead(k Key, o Object, head []byte) error {
	if m.q == nil {
		return ErrOff
	}
	if len(head) > MaxHead {
		return ErrTooLarge
	}
	e := prefix(layoutSegments, o.ID, o.Size, head, 0)
	if b, ok := o.Body.(inlineBody); ok {
		e = append(prefix(layoutInline, o.ID, o.Size, head, len(b)), b...)
	}
	err := m.q.rewrite(k, m.q.hash(k), o.ID, e)
	m.q.settle(m.budget(int64(len(e))))
	return err
}

// Delete implements Store. Segments stay until they are the oldest; without
// the head nothing leads to them, save a reader that began before.
func (m *Memory) Delete(k Key) {
	if m.q != nil {
		m.q.remove(k, m.q.hash(k))
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
