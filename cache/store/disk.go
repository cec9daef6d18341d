package store

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// MinDisk is the least size, in bytes, of a Disk.
const MinDisk = 64 << 20

const (
	// diskShare is the part of the whole that one object may take at most.
	diskShare = 2
	// bytesPerObject bounds how many objects there are, and so the index.
	bytesPerObject = 2 << 10
	// maxQueued is how many bytes may wait to be written.
	maxQueued = 32 << 20
	// oneRead is the size up to which a body is read together with its head.
	oneRead = 16 << 10
)

// MaxDiskObject returns the size in bytes of the largest body that a Disk of
// that size keeps.
func MaxDiskObject(size int64) int64 { return size / diskShare }

// Disk is the disk tier: records in segments, bodies above inlineMax in files
// of their own, and an index that leads to them. One goroutine writes; nobody
// else ever waits for the disk but to read, and for a deletion's few bytes.
//
// What it returns was checked against checksums since it was read. It keeps a
// process that uses the same folder out. docs/decisions/0009 says why it is as
// it is.
type Disk struct {
	dir     string
	limit   int64
	segSize int64
	faults  faults
	lock    io.Closer
	state   *state

	index     atomic.Pointer[index]
	deletions *deletions
	pending   *pending
	segs      table
	ids       atomic.Uint64
	off       atomic.Bool                    // for good: nothing is kept or returned
	hot       atomic.Pointer[func(Key) bool] // whether an object is in use elsewhere

	used     atomic.Int64 // bytes of segments, as long as they may become, and of files
	indexed  atomic.Int64 // bytes of the index
	objects  atomic.Int64
	accounts atomic.Int64 // how often the figures above began anew
	dropped  atomic.Int64
	evicted  atomic.Int64

	mu     sync.Mutex
	room   sync.Cond // bytes were freed, or it closes
	wanted int64     // bytes that spools wait for
	tries  int       // that ended without room for them
	queue  []*change
	queued int64
	closed bool
	wake   chan struct{} // there is something in the queue
	urgent chan struct{} // and it should not wait for more
	ended  chan struct{} // the writer is done
	sweeps sync.WaitGroup

	filesInIndex map[uint64]int64 // while it opens: the files of objects by id
	firstSegment uint32           // of this run

	w writer
}

// DiskConfig says where a Disk is and how large.
type DiskConfig struct {
	Dir  string
	Size int64 // bytes, MinDisk or more
	Log  *slog.Logger
}

// DiskStats says how full a Disk is, and what became of what it was given.
type DiskStats struct {
	Objects  int64
	Bytes    int64 // on the disk, of Limit
	Limit    int64
	Queued   int64 // bytes that wait to be written
	Dropped  int64 // objects that were not written because too much waited, or the disk failed
	Evicted  int64 // objects that made room for others
	Segments int
	Off      bool          // it has turned itself off, until the next start
	Faults   [Faults]int64 // by kind
}

// Stats returns the figures.
func (d *Disk) Stats() DiskStats {
	s := DiskStats{
		Objects: d.objects.Load(), Bytes: d.used.Load() + d.indexed.Load(), Limit: d.limit,
		Dropped: d.dropped.Load(), Evicted: d.evicted.Load(), Off: d.off.Load(),
	}
	for i := range s.Faults {
		s.Faults[i] = d.faults.counts[i].Load()
	}
	d.mu.Lock()
	s.Queued = d.queued
	d.mu.Unlock()
	d.segs.mu.RLock()
	s.Segments = len(d.segs.m)
	d.segs.mu.RUnlock()
	return s
}

// Get implements Store.
func (d *Disk) Get(k Key) (Object, bool) {
	o, _, ok := d.get(k)
	return o, ok
}

// get also reports whether the object was hit before.
func (d *Disk) get(k Key) (o Object, again, ok bool) {
	if d.off.Load() {
		return Object{}, false, false
	}
	if c := d.pending.get(k); c != nil {
		o, ok := d.ofChange(c)
		return o, true, ok
	}
	p, ok := d.find(k)
	if !ok {
		return Object{}, false, false
	}
	s := d.segs.acquire(p.seg)
	if s == nil {
		return Object{}, false, false
	}
	defer s.release()
	o, err := d.load(s, k, p)
	if err != nil {
		d.lost(k, p, err)
		return Object{}, false, false
	}
	return o, s.hit(p.off), true
}

// has reports whether the object under the key has that id.
func (d *Disk) has(k Key, id uint64) bool {
	if c := d.pending.get(k); c != nil {
		return c.kind != changeRemove && c.id == id
	}
	p, ok := d.find(k)
	return ok && p.id == id
}

// setHot tells which objects are in use though they are not asked for here.
func (d *Disk) setHot(hot func(Key) bool) { d.hot.Store(&hot) }

// find looks the key up in the index.
func (d *Disk) find(k Key) (place, bool) {
	x := d.index.Load()
	p, ok, err := x.get(k)
	if err != nil {
		d.indexFailed(x, err)
		return place{}, false
	}
	return p, ok
}

// load reads a record.
func (d *Disk) load(s *segment, k Key, p place) (Object, error) {
	n := p.front()
	whole := !p.own && p.size <= oneRead
	if whole {
		n += p.size
	}
	b := make([]byte, n)
	if err := readFull(s.f, b, int64(p.off)); err != nil {
		return Object{}, err
	}
	head, sums, ofSums, err := p.readFront(b[:p.front()], k)
	if err != nil {
		return Object{}, err
	}
	o := Object{Head: head, Size: p.size, ID: p.id}
	switch {
	case whole:
		body := b[p.front():]
		if err := verify(body, sums, 0); err != nil {
			return Object{}, err
		}
		o.Body = inlineBody(body)
	case p.own:
		o.Body = &fileBody{d: d, key: k, at: p, ofSums: ofSums}
	default:
		o.Body = &recordBody{d: d, key: k, at: p, sums: sums}
	}
	return o, nil
}

// ofChange returns the object that a pending change makes.
func (d *Disk) ofChange(c *change) (Object, bool) {
	o := Object{Head: bytes.Clone(c.head), Size: c.size, ID: c.id}
	switch c.kind {
	case changePut:
		o.Body = pieces{segs: c.body, size: c.size}
	case changeOwn:
		o.Body = &fileBody{d: d, key: c.key, at: place{size: c.size, id: c.id, own: true}, ofSums: c.ofSums}
	case changeHead:
		s := d.segs.acquire(c.from.seg)
		if s == nil {
			return Object{}, false
		}
		defer s.release()
		old, err := d.load(s, c.key, c.from)
		if err != nil {
			d.lost(c.key, c.from, err)
			return Object{}, false
		}
		o.Body = old.Body
	default:
		return Object{}, false
	}
	return o, true
}

// lost takes note of an object that cannot be read, and has it removed.
func (d *Disk) lost(k Key, p place, err error) {
	if err == errGone || d.off.Load() {
		return
	}
	if s := d.segs.acquire(p.seg); s != nil {
		s.release()
	} else if !p.own {
		return // it was evicted while it was read
	}
	if now, ok := d.find(k); !ok || now.id != p.id {
		return // it was removed while it was read
	}
	d.faults.note("an object cannot be read; it is dropped", err)
	d.enqueue(&change{key: k, kind: changeForget, id: p.id, slot: noSlot}, false)
}

// Close writes what waits, for at most the time given, and closes the tier.
// What is read from then on is not there.
func (d *Disk) Close(within time.Duration) error {
	flushed := d.flush(within)
	d.off.Store(true)
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.freed()
	d.hurry()
	d.sweeps.Wait()
	if !flushed {
		return errSlow // the writer may be stuck; what the index has stays good
	}
	<-d.ended
	d.deletions.close()
	err := d.index.Load().close()
	if err == nil {
		err = d.state.write(true)
	}
	for _, s := range d.segs.all() {
		d.segs.remove(s)
	}
	d.state.f.Close()
	d.lock.Close()
	return err
}

// flush waits until all that was put before is on the disk.
func (d *Disk) flush(within time.Duration) bool {
	c := &change{kind: changeFlush, done: make(chan struct{}), slot: noSlot}
	if !d.enqueue(c, false) {
		return false
	}
	d.hurry()
	select {
	case <-c.done:
		return true
	case <-time.After(within):
		return false
	}
}
