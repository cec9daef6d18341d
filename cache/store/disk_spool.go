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

// Create begins an object of size bytes, -1 when that is not known. It does not
// wait for the disk. The Spool must be closed in the end.
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
	go s.write()
	return s, nil
}

// Append adds a piece of the body, which must not be changed afterwards; all
// but the last have SegmentSize bytes. It never waits, and takes more than Full
// says. An error says that the object will not be stored; what Written says can
// still be read.
func (s *Spool) Append(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case s.closed || s.committed || s.taken%SegmentSize != 0 || len(b) > SegmentSize:
		s.err = errors.New("store: a piece that does not belong")
	case s.taken+int64(len(b)) > MaxDiskObject(s.d.limit):
		s.err = ErrTooLarge
	}
	if s.err != nil {
		s.gave.Store(true)
		s.wake.Broadcast()
		return s.err
	}
	s.queue = append(s.queue, b)
	s.ahead += int64(len(b))
	s.taken += int64(len(b))
	s.wake.Broadcast()
	return nil
}

// Full reports whether so much waits for the disk that more had better wait
// where it is.
func (s *Spool) Full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ahead > spoolAhead
}

// GiveUp says that the object will not be stored, the disk being too slow for
// it.
func (s *Spool) GiveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail(errSlow)
}

// Written returns how many bytes can be read.
func (s *Spool) Written() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written
}

// Block reads the block with that number, which is SegmentSize bytes long but
// for the last, into buf, whose capacity has to be as much.
func (s *Spool) Block(i int64, buf []byte) ([]byte, error) {
	s.mu.Lock()
	n := min(SegmentSize, s.written-i*SegmentSize)
	var sum []byte
	if n > 0 {
		sum = s.sums[4*i : 4*i+4]
	}
	s.mu.Unlock()
	if n <= 0 {
		return nil, io.ErrUnexpectedEOF
	}
	err := readFull(s.f, buf[:n], i*SegmentSize)
	if err == nil {
		err = verify(buf[:n], sum, 0)
	}
	if err != nil {
		s.d.faults.note("an object that is being stored cannot be read", err)
		return nil, ErrLost
	}
	return buf[:n], nil
}

// write writes what is appended, in a goroutine of its own.
func (s *Spool) write() {
	defer s.unref()
	f, err := os.OpenFile(filePath(s.d.dir, s.id), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.fail(err)
		return
	}
	s.f = f
	s.wake.Broadcast()
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
			s.fail(err)
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

// fail gives the object up, unless it is given up already.
func (s *Spool) fail(err error) {
	if s.err == nil && !s.closed {
		s.err = err
		s.d.dropped.Add(1)
		s.d.faults.note("an object is not stored", err)
	}
	s.gave.Store(true)
	s.wake.Broadcast()
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
	for (len(s.queue) > 0 || s.f == nil) && s.err == nil && !s.closed {
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
	case s.closed || s.committed || s.f == nil || len(s.queue) > 0:
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
	if s.f == nil {
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
