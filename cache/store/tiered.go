package store

import (
	"errors"
	"sync"
)

// Tiered is memory in front of a disk. What memory takes is in both, the rest
// on the disk alone; what is hit on the disk again moves up. An object has one
// ID in both.
type Tiered struct {
	memory *Memory
	disk   *Disk
	// A change of both tiers under one key holds its lock, so that they agree,
	// and so that nothing moves up that has just been removed.
	locks [256]sync.Mutex
}

// NewTiered returns the two as one Store.
func NewTiered(m *Memory, d *Disk) *Tiered {
	d.setHot(m.has)
	return &Tiered{memory: m, disk: d}
}

func (t *Tiered) lock(k Key) *sync.Mutex { return &t.locks[k[2]] }

// Get implements Store.
func (t *Tiered) Get(k Key) (Object, bool) {
	if o, ok := t.memory.Get(k); ok {
		return o, true
	}
	o, again, ok := t.disk.get(k)
	if ok && again {
		t.promote(k, o)
	}
	return o, ok
}

// Used counts an object as read that was served without Get.
func (t *Tiered) Used(k Key) { t.memory.Used(k) }

// promote puts into memory what Get has read of an object anyway.
func (t *Tiered) promote(k Key, o Object) {
	body, ok := o.Body.(inlineBody)
	if !ok {
		return
	}
	l := t.lock(k)
	if !l.TryLock() {
		return // it is being changed
	}
	defer l.Unlock()
	if t.disk.has(k, o.ID) {
		var segs [][]byte
		if len(body) > 0 {
			segs = [][]byte{body}
		}
		_ = t.memory.put(k, o.ID, o.Head, segs) // else it stays where it is
	}
}

// Put implements Store. It is an error only when neither tier takes the object.
func (t *Tiered) Put(k Key, head []byte, body [][]byte) error {
	l := t.lock(k)
	l.Lock()
	defer l.Unlock()
	id := t.disk.newID()
	inMemory := t.memory.put(k, id, head, body)
	if inMemory != nil {
		t.memory.Delete(k)
	}
	onDisk := t.disk.put(k, id, head, body)
	if inMemory == nil || onDisk == nil {
		return nil
	}
	if errors.Is(inMemory, ErrOff) {
		return onDisk
	}
	return inMemory
}

// SetHead implements Store.
func (t *Tiered) SetHead(k Key, o Object, head []byte) error {
	l := t.lock(k)
	l.Lock()
	defer l.Unlock()
	inMemory := ErrLost
	if m, ok := t.memory.Get(k); ok && m.ID == o.ID {
		inMemory = t.memory.SetHead(k, m, head)
	}
	if inMemory != nil {
		t.memory.Delete(k)
	}
	onDisk := t.disk.SetHead(k, o, head)
	if inMemory == nil || onDisk == nil {
		return nil
	}
	return onDisk
}

// Delete implements Store.
func (t *Tiered) Delete(k Key) {
	l := t.lock(k)
	l.Lock()
	defer l.Unlock()
	t.memory.Delete(k)
	t.disk.Delete(k)
}

// Create begins an object that is too large for memory, on the disk alone.
func (t *Tiered) Create(size int64) (*Spool, error) { return t.disk.Create(size) }

// Commit stores what the spool has under the key.
func (t *Tiered) Commit(s *Spool, k Key, head []byte) error {
	if err := s.Wait(); err != nil {
		return err
	}
	l := t.lock(k)
	l.Lock()
	defer l.Unlock()
	t.memory.Delete(k)
	return s.Commit(k, head)
}
