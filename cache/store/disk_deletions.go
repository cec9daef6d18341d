package store

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"
)

// deletions remembers deletions until the index has them, so that a deletion
// costs one write and still holds after a crash. Its file is written over in
// place and never grows: a full disk does not stop a deletion.
type deletions struct {
	mu   sync.Mutex
	free sync.Cond // slots were freed, or it was closed
	f    *os.File
	used []bool
	next int
	left int
	dead bool
}

const (
	deletionSlots = 4096
	deletionSize  = halfKey + 8 + 4 // half a key, the id up to which it is deleted, a checksum
)

var errManyDeletions = errors.New("store: too many deletions wait for the index")

// deletion says that what is under the half key and not newer than id is gone.
type deletion struct {
	half [halfKey]byte
	id   uint64
}

func (d deletion) encode() []byte {
	b := append(make([]byte, 0, deletionSize), d.half[:]...)
	b = binary.LittleEndian.AppendUint64(b, d.id)
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

// openDeletions returns them, and the deletions that the index may lack.
func openDeletions(path string) (*deletions, []deletion, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	b := make([]byte, deletionSlots*deletionSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		f.Close()
		return nil, nil, err
	}
	var pending []deletion
	for e := b[:n]; len(e) >= deletionSize; e = e[deletionSize:] {
		if binary.LittleEndian.Uint32(e[halfKey+8:]) != checksum(e[:halfKey+8]) {
			continue
		}
		d := deletion{id: binary.LittleEndian.Uint64(e[halfKey:])}
		copy(d.half[:], e)
		pending = append(pending, d)
	}
	l := &deletions{f: f, used: make([]bool, deletionSlots), left: deletionSlots}
	l.free.L = &l.mu
	return l, pending, nil
}

// reset empties the file and takes up all the room that it will ever need.
func (l *deletions) reset() error {
	_, err := l.f.WriteAt(make([]byte, deletionSlots*deletionSize), 0)
	return err
}

// write returns when the deletion holds, and the slot to free when the index
// has it. While all slots are taken it calls full and waits, or returns
// errManyDeletions where full is nil.
func (l *deletions) write(d deletion, full func()) (slot int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.left == 0 && !l.dead {
		if full == nil {
			return noSlot, errManyDeletions
		}
		full()
		l.free.Wait()
	}
	if l.dead {
		return 0, os.ErrClosed
	}
	for l.used[l.next] {
		l.next = (l.next + 1) % deletionSlots
	}
	slot = l.next
	if _, err := l.f.WriteAt(d.encode(), int64(slot)*deletionSize); err != nil {
		return 0, err
	}
	l.used[slot] = true
	l.left--
	l.next = (l.next + 1) % deletionSlots
	return slot, nil
}

// release frees slots whose deletions the index has.
func (l *deletions) release(slots []int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var zero [deletionSize]byte
	for _, s := range slots {
		if l.dead {
			return nil
		}
		// A deletion that stays is done again after a restart, which would not
		// hurt: what is stored by then has a later id.
		if _, err := l.f.WriteAt(zero[:], int64(s)*deletionSize); err != nil {
			return err
		}
		l.used[s] = false
		l.left++
	}
	l.free.Broadcast()
	return nil
}

func (l *deletions) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	l.f.Close()
	l.free.Broadcast()
}
