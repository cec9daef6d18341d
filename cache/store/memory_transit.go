package store

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
)

// transit is what left a queue and is to stay.
type transit struct {
	mu      sync.Mutex
	objects map[Key]*moving
	order   []Key
	bytes   int
	limit   int
	len     atomic.Int64  // of objects
	done    atomic.Uint64 // moves finished
}

// moving is an object that is on its way, or to be dropped as a whole.
type moving struct {
	id        uint64
	parts     map[string][]byte
	bytes     int
	doomed    bool
	head      bool // its head is among the parts
	fromSmall bool
}

// take notes an entry that left, and reports whether it is to stay.
func (t *transit) take(k Key, id uint64, small, stays, head bool, key string, entry []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.objects[k]
	if m != nil && m.id > id {
		return false
	}
	if m == nil || m.id < id {
		if !stays && head {
			return false // its segments lead nowhere now
		}
		t.remove(k)
		m = &moving{id: id, doomed: !stays, fromSmall: small}
		t.objects[k] = m
		t.order = append(t.order, k)
		t.len.Add(1)
	}
	if m.doomed || t.bytes+len(entry) > t.limit {
		m.doomed = true
		return false
	}
	if m.parts == nil {
		m.parts = make(map[string][]byte, 1)
	}
	m.parts[key] = entry
	m.head = m.head || head
	m.bytes += len(entry)
	t.bytes += len(entry)
	return true
}

func (t *transit) remove(k Key) {
	if m := t.objects[k]; m != nil {
		t.bytes -= m.bytes
		delete(t.objects, k)
		if t.len.Add(-1) == 0 {
			t.order = nil
		}
	}
}

// forget drops what is on its way under the key.
func (t *transit) forget(k Key) {
	if t.len.Load() == 0 {
		return
	}
	t.mu.Lock()
	t.remove(k)
	t.mu.Unlock()
}

// get returns a copy of an entry that is on its way.
func (t *transit) get(key string) ([]byte, bool) {
	if t.len.Load() == 0 {
		return nil, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.objects[Key([]byte(key[:len(Key{})]))]
	if m == nil || m.doomed {
		return nil, false
	}
	e, ok := m.parts[key]
	return append([]byte(nil), e...), ok
}

// next returns an object to move.
func (t *transit) next() (Key, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.order) == 0 {
		return Key{}, false
	}
	k := t.order[0]
	t.order = t.order[1:]
	return k, true
}

// peek returns what is known of an object on its way.
func (t *transit) peek(k Key) (m moving, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.objects[k]; p != nil {
		return moving{id: p.id, doomed: p.doomed, head: p.head, fromSmall: p.fromSmall}, true
	}
	return m, false
}

// segment returns the number of a segment of the object that is on its way, or
// -1.
func (t *transit) segment(k Key) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := t.objects[k]; m != nil {
		for key := range m.parts {
			if len(key) == segmentsKey {
				return int(binary.LittleEndian.Uint32([]byte(key[segmentsKey-4:])))
			}
		}
	}
	return -1
}

// written drops the copy of a segment that is in its place again.
func (t *transit) written(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := t.objects[Key([]byte(key[:len(Key{})]))]; m != nil {
		n := len(m.parts[key])
		m.bytes -= n
		t.bytes -= n
		delete(m.parts, key)
	}
}
