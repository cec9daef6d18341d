package cache

import (
	"io"

	"fwdproxy/cache/store"
)

// content is what came of a body: in memory, or on its way to the disk.
type content struct {
	size  int64
	segs  [][]byte
	spool *store.Spool // nil: it is in memory
}

// put stores a body under the key.
func (c *Cache) put(k store.Key, head []byte, body content) error {
	if body.spool == nil {
		return c.store.Put(k, head, body.segs)
	}
	defer c.changes.of(k).Add(1)
	return c.tiers.Commit(body.spool, k, head)
}

// spill is how a fill goes to the disk when it grows too large for memory.
// Readers that are behind read there; nobody waits for it to be written.
type spill struct {
	above  int64 // bytes that stay in memory
	create func(size int64) (*store.Spool, error)
	spool  *store.Spool
	passed int64 // bytes handed to the spool
	failed bool
}

// spillTo lets the fill go to the disk when it is larger than above.
func (f *fill) spillTo(above int64, create func(int64) (*store.Spool, error)) {
	f.spill = spill{above: above, create: create}
}

// How far a body may be ahead of a disk that is slow to take it, beyond what may
// stay in memory anyway: one alone, and all together, in bytes. Then it is given
// up, since nobody waits for the disk.
const (
	slack    = 16 << 20
	allSlack = 32 << 20
)

// keeps reports whether the body can still be kept whole, and begins to write it
// to the disk when it is more than memory takes.
func (f *fill) keeps() bool {
	s, total := &f.spill, f.total.Load()
	switch {
	case f.n > f.limit || s.failed:
		return false
	case s.create == nil:
		return total <= f.room
	}
	if s.spool == nil && (max(f.n, f.size) > s.above || total > f.room/2) {
		var err error
		if s.spool, err = s.create(f.size); err != nil {
			s.spool, s.failed = nil, true
			return false
		}
	}
	f.pass(false)
	behind := f.n - s.passed
	if s.spool != nil && !s.failed && behind > store.SegmentSize && (behind > s.above+slack || total > f.room+allSlack) {
		s.spool.GiveUp()
		s.failed = true
	}
	return !s.failed
}

// pass hands the segments that are full to the spool as it takes them; with all,
// whatever is left.
func (f *fill) pass(all bool) {
	s, at := &f.spill, f.base
	for i, seg := range f.segs {
		if s.spool == nil || s.failed || !all && (len(seg) < store.SegmentSize || s.spool.Full()) {
			return
		}
		if at >= s.passed && len(seg) > 0 {
			s.failed = s.spool.Append(f.segs[i]) != nil
			s.passed += int64(len(seg))
		}
		at += int64(len(seg))
	}
}

// onDisk returns up to where readers may read from the disk.
func (f *fill) onDisk() int64 {
	if f.spill.spool == nil {
		return 0
	}
	return f.spill.spool.Written()
}

// close lets go of the spool, when nobody reads any more.
func (s *spill) close() {
	if s.spool != nil {
		s.spool.Close()
	}
}

// readBehind reads what is no longer in memory. The fill is locked, but not
// while it waits for the disk.
func (r *fillReader) readBehind(p []byte) (int, error) {
	f := r.f
	i := r.at / store.SegmentSize
	if r.block == nil || r.blockAt != i {
		buf := r.block
		if buf == nil {
			buf = make([]byte, store.SegmentSize)
		}
		f.mu.Unlock()
		b, err := f.spill.spool.Block(i, buf[:store.SegmentSize])
		f.mu.Lock()
		if err != nil {
			return 0, err
		}
		if len(b) < store.SegmentSize {
			return 0, io.ErrUnexpectedEOF // only whole ones leave the memory
		}
		r.block, r.blockAt = b, i
	}
	rest := r.block[r.at%store.SegmentSize:]
	n := copy(p, rest[:min(int64(len(rest)), r.end-r.at)])
	r.at += int64(n)
	return n, nil
}
