package store

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

const (
	minSegment = 1 << 20
	maxSegment = 2 << 30
	// mark is how many bytes of a segment share one note of having been hit.
	mark = 512
)

// segmentSizeFor returns how long the segments of a tier of size bytes are: so
// that there are some hundreds of them at most.
func segmentSizeFor(size int64) int64 {
	return min(max(size/160, minSegment), max(64<<20, size/512), maxSegment)
}

// segment is a file of records one after another. It is appended to once, and
// never changed.
type segment struct {
	id   uint32
	path string
	f    *os.File
	hits []atomic.Uint32 // a bit for each mark: a record that begins there was hit
	refs atomic.Int64    // those who read, and one while it is in the table

	// The writer's alone.
	end  int64 // bytes written
	live usage
}

func segmentPath(dir string, id uint32) string {
	return filepath.Join(dir, "segments", fmt.Sprintf("%08x", id))
}

func openSegment(dir string, id uint32, size int64, flag int) (*segment, error) {
	s := &segment{id: id, path: segmentPath(dir, id)}
	f, err := os.OpenFile(s.path, os.O_RDWR|flag, 0o600)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	s.f, s.end = f, fi.Size()
	s.hits = make([]atomic.Uint32, max(size, s.end)/mark/32+1)
	s.refs.Store(1)
	return s, nil
}

// acquire keeps the file open until release; false when it is gone already.
func (s *segment) acquire() bool {
	for {
		n := s.refs.Load()
		if n == 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *segment) release() {
	if s.refs.Add(-1) == 0 {
		s.f.Close()
	}
}

// hit notes a hit of the record at off, and reports whether one was noted
// before.
func (s *segment) hit(off uint32) (again bool) {
	i := off / mark
	if int(i/32) >= len(s.hits) {
		return false
	}
	bit := uint32(1) << (i % 32)
	return s.hits[i/32].Or(bit)&bit != 0
}

func (s *segment) wasHit(off uint32) bool {
	i := off / mark
	return int(i/32) < len(s.hits) && s.hits[i/32].Load()&(1<<(i%32)) != 0
}

// table holds the segments that there are.
type table struct {
	mu sync.RWMutex
	m  map[uint32]*segment
}

// acquire returns the segment, which the caller has to release; nil when it
// is gone.
func (t *table) acquire(id uint32) *segment {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := t.m[id]
	if s == nil || !s.acquire() {
		return nil
	}
	return s
}

func (t *table) add(s *segment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.m[s.id] = s
}

func (t *table) remove(s *segment) {
	t.mu.Lock()
	delete(t.m, s.id)
	t.mu.Unlock()
	s.release()
}

// all returns the segments, in no order.
func (t *table) all() []*segment {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]*segment, 0, len(t.m))
	for _, s := range t.m {
		out = append(out, s)
	}
	return out
}
