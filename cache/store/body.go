package store

import (
	"bytes"
	"fmt"
	"io"
)

// inlineBody is a body that came with its head.
type inlineBody []byte

func (b inlineBody) Open(off, n int64) (io.ReadCloser, error) {
	if err := within(off, n, int64(len(b))); err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(b[off : off+n])), nil
}

// segments is a body in entries of its own.
type segments struct {
	m    *Memory
	key  Key
	id   uint64
	size int64
}

func (s *segments) Open(off, n int64) (io.ReadCloser, error) {
	if err := within(off, n, s.size); err != nil {
		return nil, err
	}
	r := &segmentReader{s: s, next: int(off / SegmentSize), skip: int(off % SegmentSize), left: n}
	ahead := 1
	if n <= preload {
		ahead = int((off%SegmentSize + n + SegmentSize - 1) / SegmentSize)
	}
	if n == 0 {
		return r, nil
	}
	r.ahead = make([][]byte, 0, ahead)
	for range ahead {
		seg, err := s.load(r.next)
		if err != nil {
			return nil, err
		}
		r.ahead = append(r.ahead, seg)
		r.next++
	}
	return r, nil
}

// load returns segment i, or ErrLost after it has removed the object. What is
// being read counts as used, so that it is not dropped on the way.
func (s *segments) load(i int) ([]byte, error) {
	seg, _, ok := s.m.q.get(segmentKey(s.key, s.id, i))
	if !ok || int64(len(seg)) != min(SegmentSize, s.size-int64(i)*SegmentSize) {
		s.m.q.lost(s.key, s.id)
		return nil, ErrLost
	}
	s.m.q.uses.keep(s.m.q.hash(s.key))
	return seg, nil
}

// segmentReader reads part of a body, one segment at a time.
type segmentReader struct {
	s     *segments
	ahead [][]byte // loaded; the first is being read
	next  int      // the segment to load when ahead is used up
	skip  int      // bytes of the first segment that are read already
	left  int64
	err   error
}

func (r *segmentReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if len(r.ahead) == 0 {
		seg, err := r.s.load(r.next)
		if err != nil {
			r.err = err
			return 0, err
		}
		r.next++
		r.ahead = append(r.ahead, seg)
	}
	n := copy(p[:min(int64(len(p)), r.left)], r.ahead[0][r.skip:])
	r.skip += n
	r.left -= int64(n)
	if r.skip == len(r.ahead[0]) || r.left == 0 {
		r.ahead[0], r.skip = nil, 0
		r.ahead = r.ahead[1:]
	}
	return n, nil
}

func (r *segmentReader) Close() error {
	r.ahead, r.left, r.err = nil, 0, io.ErrClosedPipe
	return nil
}

func within(off, n, size int64) error {
	if off < 0 || n < 0 || off > size || n > size-off {
		return fmt.Errorf("store: %d bytes from %d are outside a body of %d", n, off, size)
	}
	return nil
}
