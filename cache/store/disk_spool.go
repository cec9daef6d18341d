package store

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
)

// spoolAhead is how many bytes may be ahead of the disk in one Spool.
const spoolAhead = 4 << 20

// Spool is an object on its way to a file of its own. What has been written
// can be read behind, also when the object is given up.
type Spool struct {
	d   *Disk
	id  uint64
	f   *os.File
	gen int64 // of the tier's accounts

	mu        sync.Mutex
	wake      sync.Cond
	queue     [][]byte
	ahead     int64 // bytes in the queue
	taken     int64 // bytes appended
	written   int64 // bytes that can be read
	reserved  int64 // of the tier's room
	sums      []byte
	err       error // why it is not stored
	committed bool
	closed    bool
	gave      atomic.Bool  // err is set, or it is closed
	refs      atomic.Int32 // whoever has it, and its goroutine
}

// Create begins an object of size bytes, -1 when that is not known. It must be
// closed in the end.
func (d *Disk) Create(size int64) (*Spool, error) {
	switch {
	case d.off.Load():
		return nil, ErrOff
	case size > MaxDiskObject(d.limit):
		return nil, ErrTooLarge
	}
	s := &Spool{d: d, id: d.newID(), gen: d.accounts.Load()}
	s.refs.Store(2)
	s.wake.L = &s.mu
	f, err := os.OpenFile(filePath(d.dir, s.id), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		d.faults.note("an object is not stored", err)
		d.dropped.Add(1)
		return nil, err
	}
	s.f = f
	go s.write()
	return s, nil
}

// Append adds a piece of the body, which must not be changed afterwards; all
// but the last have SegmentSize bytes. It never waits. An error says that the
// object will not be stored; what Written says can still be read.
func (s *Spool) Append(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case s.closed || s.committed || s.taken%SegmentSize != 0 || len(b) > SegmentSize:
		s.err = errors.New("store: a piece that does not belong")
	case s.ahead > spoolAhead:
		s.err = errSlow
	case s.taken+int64(len(b)) > MaxDiskObject(s.d.limit):
		s.err = ErrTooLarge
	}
	if s.err != nil {
		if s.err == errSlow {
			s.d.dropped.Add(1)
		}
		s.gave.Store(true)
		s.wake.Broadcast()
		s.d.freed()
		return s.err
	}
	s.queue = append(s.queue, b)
	s.ahead += int64(len(b))
	s.taken += int64(len(b))
	s.wake.Broadcast()
	return nil
}

// Written returns how many bytes can be read.
func (s *Spool) Written() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written
}

// ReadAt implements io.ReaderAt over what Written says.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) {
	left := s.Written() - off
	if left <= 0 {
		return 0, io.EOF
	}
	return s.f.ReadAt(p[:min(int64(len(p)), left)], off)
}

// write writes what is appended, in a goroutine of its own.
func (s *Spool) write() {
	defer s.unref()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for len(s.queue) == 0 && s.err == nil && !s.closed {
			s.wake.Wait()
		}
		if s.err != nil || s.closed {
			return
		}
		b, at := s.queue[0], s.written
		s.mu.Unlock()
		err := s.reserve(at + int64(len(b)))
		if err == nil {
			_, err = s.f.WriteAt(b, at)
		}
		sums := appendSums(nil, b)
		s.mu.Lock()
		if err != nil {
			if s.err == nil {
				s.err = err
				s.d.dropped.Add(1)
				s.d.faults.note("an object is not stored", err)
			}
			s.wake.Broadcast()
			return
		}
		s.sums = append(s.sums, sums...)
		s.queue[0] = nil
		s.queue = s.queue[1:]
		s.ahead -= int64(len(b))
		s.written += int64(len(b))
		s.wake.Broadcast()
	}
}

// reserve sees to it that the tier has room for a file of that length.
func (s *Spool) reserve(length int64) error {
	const step = 1 << 20
	for s.reserved < length {
		if err := s.d.reserve(step, s.gave.Load); err != nil {
			return err
		}
		s.mu.Lock()
		s.reserved += step
		s.mu.Unlock()
	}
	return nil
}

// Wait waits until all that was appended is on the disk. The error says why the
// object will not be stored.
func (s *Spool) Wait() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 && s.err == nil && !s.closed {
		s.wake.Wait()
	}
	if s.closed {
		return os.ErrClosed
	}
	return s.err
}

// Commit stores the object under the key. All of it has to be on the disk.
func (s *Spool) Commit(k Key, head []byte) error {
	if len(head) > MaxHead {
		return ErrTooLarge
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case s.closed || s.committed || len(s.queue) > 0:
		return os.ErrClosed
	}
	if _, err := s.f.WriteAt(s.sums, s.written); err != nil {
		s.err = err
		s.d.faults.note("an object is not stored", err)
		return err
	}
	s.committed = true
	s.d.used.Add(fileSize(s.written) - s.reserved)
	s.reserved = 0
	return s.d.change(&change{
		key: k, kind: changeOwn, id: s.id, head: head, size: s.written, ofSums: checksum(s.sums), cost: int64(len(head)) + 256, slot: noSlot,
	})
}

// Close lets go of the file. An object that was not committed is given up.
func (s *Spool) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	s.gave.Store(true)
	s.wake.Broadcast()
	s.mu.Unlock()
	s.d.freed() // it may be waiting for room
	s.unref()
}

func (s *Spool) unref() {
	if s.refs.Add(-1) > 0 {
		return
	}
	s.f.Close()
	if s.committed {
		return
	}
	if err := os.Remove(filePath(s.d.dir, s.id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.d.faults.note("the file of an object cannot be removed", err)
	}
	if s.gen == s.d.accounts.Load() {
		s.d.used.Add(-s.reserved)
	}
	s.d.freed()
}

// reserve takes n bytes of the tier's room, waiting until there are as many,
// or until given says that nobody wants them any more.
func (d *Disk) reserve(n int64, given func() bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	tries := d.tries
	for {
		switch {
		case d.closed || given():
			return os.ErrClosed
		case d.used.Load()+d.indexed.Load()+n <= d.limit-d.segSize:
			d.used.Add(n)
			return nil
		case d.tries > tries+1:
			return errFull
		}
		d.wanted = max(d.wanted, n)
		signal(d.wake)
		signal(d.urgent)
		d.room.Wait()
	}
}

// serveSpools makes the room that spools wait for.
func (d *Disk) serveSpools() error {
	d.mu.Lock()
	n := d.wanted
	d.wanted = 0
	d.mu.Unlock()
	if n == 0 {
		return nil
	}
	// Ahead, so that not every piece has to wait.
	err := d.makeRoom(min(max(n, d.segSize), d.limit/8))
	d.mu.Lock()
	if err != nil {
		d.tries++
	}
	d.mu.Unlock()
	d.freed()
	return err
}

// freed wakes those who wait for room.
func (d *Disk) freed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room.Broadcast()
}
