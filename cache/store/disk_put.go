package store

import (
	"errors"
	"fmt"
)

// noSlot is the slot of a deletion that the list does not have.
const noSlot = -1

var (
	errSlow = errors.New("store: the disk is too slow")
	errBusy = errors.New("store: too much waits to be written")
)

// Put implements Store. It returns as soon as the object is pending; the body
// must not be changed afterwards. When too much waits already the object is
// not stored, and one that was there before is removed.
func (d *Disk) Put(k Key, head []byte, body [][]byte) error {
	return d.put(k, d.newID(), head, body)
}

func (d *Disk) newID() uint64 { return d.ids.Add(1) }

func (d *Disk) put(k Key, id uint64, head []byte, body [][]byte) error {
	if d.off.Load() {
		return ErrOff
	}
	var size int64
	for _, s := range body {
		size += int64(len(s))
	}
	if len(head) > MaxHead || size > MaxDiskObject(d.limit) {
		d.Delete(k)
		return ErrTooLarge
	}
	return d.change(&change{key: k, kind: changePut, id: id, head: head, body: body, size: size, cost: size + int64(len(head)) + 256, slot: noSlot})
}

// change makes c pending. What cannot be written is as if it had been, and
// removed since: an older object does not come back.
func (d *Disk) change(c *change) error {
	d.pending.set(c)
	if d.enqueue(c, c.kind != changeOwn) {
		return nil
	}
	if c.kind == changeOwn {
		d.unlink(c.id, fileSize(c.size))
	}
	d.dropped.Add(1)
	d.retract(c)
	return errBusy
}

// retract removes what is under the key of a change that is not written. It
// never waits: the writer calls it as well.
func (d *Disk) retract(c *change) {
	if d.pending.get(c.key) == c {
		d.remove(c.key, c.id, nil)
	}
}

// SetHead implements Store.
func (d *Disk) SetHead(k Key, o Object, head []byte) error {
	switch {
	case d.off.Load():
		return ErrOff
	case len(head) > MaxHead:
		return ErrTooLarge
	}
	next := &change{key: k, kind: changeHead, id: o.ID, head: head, size: o.Size, cost: int64(len(head)) + 256, slot: noSlot}
	if c := d.pending.get(k); c != nil {
		if c.id != o.ID || c.kind == changeRemove {
			return ErrLost
		}
		next.kind, next.body, next.from, next.ofSums = c.kind, c.body, c.from, c.ofSums
		next.cost += c.cost // the body waits as long as this change does
		return d.change(next)
	}
	p, ok := d.find(k)
	if !ok || p.id != o.ID {
		return ErrLost
	}
	next.from = p
	return d.change(next)
}

// Delete implements Store. When it returns, the object does not come back
// after a crash either.
func (d *Disk) Delete(k Key) {
	if d.off.Load() {
		return
	}
	if d.pending.get(k) == nil {
		if _, ok := d.find(k); !ok {
			return
		}
	}
	d.remove(k, d.newID(), d.hurry)
}

// remove deletes what is under the key and not newer than id. While the
// list is full it calls full and waits; where full is nil, a crash may bring
// back what it removes.
func (d *Disk) remove(k Key, id uint64, full func()) {
	c := &change{key: k, kind: changeRemove, id: id, slot: noSlot}
	d.pending.set(c)
	del := deletion{id: id}
	copy(del.half[:], k[:])
	slot, err := d.deletions.write(del, full)
	if err != nil && err != errManyDeletions {
		d.condemn(fmt.Errorf("a deletion cannot be noted: %w", err))
		return
	}
	c.slot = slot
	d.enqueue(c, false)
}

// enqueue gives c to the writer; false when it does not take any more.
func (d *Disk) enqueue(c *change, mayDrop bool) bool {
	d.mu.Lock()
	if d.closed || (mayDrop && d.queued > maxQueued) {
		d.mu.Unlock()
		return false
	}
	d.queue = append(d.queue, c)
	d.queued += c.cost
	urgent := d.queued > maxQueued/8
	d.mu.Unlock()
	signal(d.wake)
	if urgent {
		signal(d.urgent)
	}
	return true
}

// hurry makes the writer begin at once.
func (d *Disk) hurry() {
	signal(d.wake)
	signal(d.urgent)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
