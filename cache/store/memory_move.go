package store

import (
	"encoding/binary"

	"github.com/allegro/bigcache/v3"
)

// leastMove is what a move counts for at least, in bytes: many small ones take
// time as well.
const leastMove = 16 << 10

func (q *queues) at(main bool) *bigcache.BigCache {
	if main {
		return q.main
	}
	return q.small
}

// belongs reports whether what is put under the key goes to the main queue: it
// takes the place of something there, or is asked for again soon after the
// small queue dropped it.
func (q *queues) belongs(k Key, h uint64) bool {
	_, main, _ := q.get(string(k[:]))
	return main || q.ghosts.has(h)
}

// replace puts an entry in the place of all that is under the key.
func (q *queues) replace(k Key, h uint64, main bool, e []byte) error {
	key := string(k[:])
	l := q.lock(h)
	l.Lock()
	defer l.Unlock()
	err := q.at(main).Set(key, e)
	q.transit.done.Add(1)
	_ = q.at(!main).Delete(key) // an error says that it was not there
	q.transit.forget(k)
	return err
}

// rewrite puts another entry of the same object in its place; ErrLost says
// that the object is no longer there.
func (q *queues) rewrite(k Key, h, id uint64, e []byte) error {
	key := string(k[:])
	l := q.lock(h)
	l.Lock()
	defer l.Unlock()
	old, main, ok := q.get(key)
	if !ok || len(old) < entryPrefix || idOf(old) != id {
		return ErrLost
	}
	err := q.at(main).Set(key, e)
	q.transit.forget(k)
	return err
}

// remove removes all that is under the key.
func (q *queues) remove(k Key, h uint64) {
	l := q.lock(h)
	l.Lock()
	defer l.Unlock()
	q.drop(k)
}

// lost removes the object of that id.
func (q *queues) lost(k Key, id uint64) {
	l := q.lock(q.hash(k))
	l.Lock()
	defer l.Unlock()
	if e, _, ok := q.get(string(k[:])); ok && len(e) >= entryPrefix && idOf(e) == id {
		q.drop(k)
	}
}

// drop is remove under the write lock. A move can put nothing back: it takes
// the same lock, and finds its note gone.
func (q *queues) drop(k Key) {
	key := string(k[:])
	_ = q.small.Delete(key) // an error says that it was not there
	_ = q.main.Delete(key)
	q.transit.forget(k)
}

// settle moves what left a queue and is to stay, until it has written budget
// bytes; it returns what is left of that.
func (q *queues) settle(budget int) int {
	for q.transit.len.Load() > 0 {
		k, ok := q.transit.next()
		if !ok {
			break
		}
		budget -= q.move(k, budget)
	}
	return budget
}

// move puts an object at the end of the main queue, whole, or drops it. It
// returns how much of the budget that took.
func (q *queues) move(k Key, budget int) int {
	h := q.hash(k)
	l := q.lock(h)
	l.Lock()
	defer l.Unlock()
	m, ok := q.transit.peek(k)
	if !ok {
		return 0
	}
	defer q.transit.forget(k)
	defer q.transit.done.Add(1)
	key := string(k[:])
	head, _, ok := q.get(key)
	if !ok && m.doomed && m.head {
		q.count(&m, h, true)
		return 0
	}
	if !ok || len(head) < entryPrefix || idOf(head) != m.id {
		return 0 // another has taken its place, or it was removed
	}
	size := int(binary.LittleEndian.Uint64(head[9:])) + len(head)
	// A large object may have readers, who would be cut off.
	spent := budget <= 0 && head[0] == layoutInline || budget < -q.overdraft
	if m.doomed || spent || !q.write(k, m.id, key, head) {
		q.drop(k)
		q.count(&m, h, true)
		return 0
	}
	q.count(&m, h, false)
	return max(size, leastMove)
}

// write puts all entries of an object into the main queue. What that pushes
// out may be more of the same object; such a segment is the next.
func (q *queues) write(k Key, id uint64, key string, head []byte) bool {
	if head[0] == layoutSegments {
		size := binary.LittleEndian.Uint64(head[9:])
		written := make([]bool, (size+SegmentSize-1)/SegmentSize)
		write := func(i int) bool {
			written[i] = q.writeSegment(segmentKey(k, id, i))
			return written[i]
		}
		for i := range written {
			if !written[i] && !write(i) {
				return false
			}
			for next := q.transit.segment(k); next >= 0; next = q.transit.segment(k) {
				if next >= len(written) || written[next] || !write(next) {
					return false // it pushes itself out
				}
			}
		}
	}
	if m, ok := q.transit.peek(k); !ok || m.doomed || q.main.Set(key, head) != nil {
		return false
	}
	_ = q.small.Delete(key) // an error says that it was not there
	return true
}

func (q *queues) writeSegment(sk string) bool {
	seg, _, ok := q.get(sk)
	if !ok || q.main.Set(sk, seg) != nil {
		return false
	}
	_ = q.small.Delete(sk)
	q.transit.written(sk)
	return true
}

// count notes what became of an object that left its queue.
func (q *queues) count(m *moving, h uint64, gone bool) {
	switch {
	case gone:
		q.counts.evicted.Add(1)
		if m.fromSmall {
			q.ghosts.add(h)
		}
	case m.fromSmall:
		q.counts.promoted.Add(1)
		q.uses.less(h)
	default:
		q.counts.kept.Add(1)
		q.uses.less(h)
	}
}
