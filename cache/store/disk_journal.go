package store

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"
)

// journal remembers deletions until the index has them, so that a deletion
// costs one write and still holds after a crash. Its file is written over in
// place and never grows: a full disk does not stop a deletion.
type journal struct {
	mu   sync.Mutex
	free sync.Cond // slots were freed, or the journal failed
	f    *os.File
	used []bool
	next int
	left int
	dead bool
}

const (
	journalSlots = 4096
	journalEntry = halfKey + 8 + 4 // half a key, the id up to which it is deleted, a checksum
)

var errJournalFull = errors.New("store: too many deletions wait for the index")

// deletion says that what is under the half key and not newer than id is gone.
type deletion struct {
	half [halfKey]byte
	id   uint64
}

func (d deletion) encode() []byte {
	b := append(make([]byte, 0, journalEntry), d.half[:]...)
	b = binary.LittleEndian.AppendUint64(b, d.id)
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

// openJournal returns the journal, and the deletions that the index may lack.
func openJournal(path string) (*journal, []deletion, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	b := make([]byte, journalSlots*journalEntry)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		f.Close()
		return nil, nil, err
	}
	var pending []deletion
	for e := b[:n]; len(e) >= journalEntry; e = e[journalEntry:] {
		if binary.LittleEndian.Uint32(e[halfKey+8:]) != checksum(e[:halfKey+8]) {
			continue
		}
		d := deletion{id: binary.LittleEndian.Uint64(e[halfKey:])}
		copy(d.half[:], e)
		pending = append(pending, d)
	}
	j := &journal{f: f, used: make([]bool, journalSlots), left: journalSlots}
	j.free.L = &j.mu
	return j, pending, nil
}

// reset empties the file and takes up all the room that it will ever need.
func (j *journal) reset() error {
	_, err := j.f.WriteAt(make([]byte, journalSlots*journalEntry), 0)
	return err
}

// write returns when the deletion holds, and the slot to free when the index
// has it. While all slots are taken it calls full and waits, or returns
// errJournalFull where full is nil.
func (j *journal) write(d deletion, full func()) (slot int, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.left == 0 && !j.dead {
		if full == nil {
			return noSlot, errJournalFull
		}
		full()
		j.free.Wait()
	}
	if j.dead {
		return 0, os.ErrClosed
	}
	for j.used[j.next] {
		j.next = (j.next + 1) % journalSlots
	}
	slot = j.next
	if _, err := j.f.WriteAt(d.encode(), int64(slot)*journalEntry); err != nil {
		return 0, err
	}
	j.used[slot] = true
	j.left--
	j.next = (j.next + 1) % journalSlots
	return slot, nil
}

// release frees slots whose deletions the index has.
func (j *journal) release(slots []int) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var zero [journalEntry]byte
	for _, s := range slots {
		if j.dead {
			return nil
		}
		// A deletion that stays is done again after a restart, which would not
		// hurt: what is stored by then has a later id.
		if _, err := j.f.WriteAt(zero[:], int64(s)*journalEntry); err != nil {
			return err
		}
		j.used[s] = false
		j.left++
	}
	j.free.Broadcast()
	return nil
}

func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.dead = true
	j.f.Close()
	j.free.Broadcast()
}
