package store

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
)

var diskBuffers = sync.Pool{New: func() any { b := make([]byte, 0, inlineMax); return &b }}

// recordBody is the body of a record.
type recordBody struct {
	d    *Disk
	key  Key
	at   place
	sums []byte
}

// Open reads and checks all of it before the first byte is given out.
func (r *recordBody) Open(off, n int64) (io.ReadCloser, error) {
	if err := within(off, n, r.at.size); err != nil {
		return nil, err
	}
	buf := diskBuffers.Get().(*[]byte)
	b, first, err := r.read((*buf)[:0], off, n)
	if err != nil {
		diskBuffers.Put(buf)
		r.d.lost(r.key, r.at, err)
		return nil, ErrLost
	}
	skip := off - first*blockSize
	return &bufferReader{buf: buf, r: bytes.NewReader(b[skip : skip+n])}, nil
}

// read appends the blocks that hold the n bytes from off to b, and returns the
// first one's number.
func (r *recordBody) read(b []byte, off, n int64) ([]byte, int64, error) {
	s := r.d.segs.acquire(r.at.seg)
	if s == nil {
		return nil, 0, errGone
	}
	defer s.release()
	first := off / blockSize
	end := min((off+n+blockSize-1)/blockSize*blockSize, r.at.size)
	b = b[:max(0, end-first*blockSize)]
	if err := readFull(s.f, b, int64(r.at.off)+r.at.front()+first*blockSize); err != nil {
		return nil, 0, err
	}
	return b, first, verify(b, r.sums, first)
}

// errGone says that a segment was dropped, which is no fault.
var errGone = errors.New("store: evicted")

func readFull(f io.ReaderAt, b []byte, off int64) error {
	if n, err := f.ReadAt(b, off); n < len(b) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}

// bufferReader reads from a buffer that goes back when it is closed.
type bufferReader struct {
	buf *[]byte
	r   *bytes.Reader
}

func (b *bufferReader) Read(p []byte) (int, error) {
	if b.buf == nil {
		return 0, io.ErrClosedPipe
	}
	return b.r.Read(p)
}

// WriteTo implements io.WriterTo.
func (b *bufferReader) WriteTo(w io.Writer) (int64, error) {
	if b.buf == nil {
		return 0, io.ErrClosedPipe
	}
	return b.r.WriteTo(w)
}

func (b *bufferReader) Close() error {
	if b.buf != nil {
		diskBuffers.Put(b.buf)
		b.buf = nil
	}
	return nil
}

// fileBody is a body in a file of its own.
type fileBody struct {
	d      *Disk
	key    Key
	at     place
	ofSums uint32
}

func (fb *fileBody) Open(off, n int64) (io.ReadCloser, error) {
	if err := within(off, n, fb.at.size); err != nil {
		return nil, err
	}
	r, err := fb.open(off, n)
	if err != nil {
		fb.d.lost(fb.key, fb.at, err)
		return nil, ErrLost
	}
	return r, nil
}

func (fb *fileBody) open(off, n int64) (*fileReader, error) {
	f, err := os.Open(filePath(fb.d.dir, fb.at.id))
	if err != nil {
		return nil, err
	}
	r := &fileReader{fb: fb, f: f, at: off, end: off + n, checked: -1}
	r.sums = make([]byte, 4*blocks(fb.at.size))
	err = readFull(f, r.sums, fb.at.size)
	if err == nil && checksum(r.sums) != fb.ofSums {
		err = errChecksum
	}
	if err == nil && n > 0 {
		_, err = r.block() // damage in the first block is found before the first byte
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

// fileReader gives out no byte of a block that it has not checked.
type fileReader struct {
	fb      *fileBody
	f       *os.File
	sums    []byte
	at, end int64
	buf     *[]byte
	checked int64 // the block in buf, -1 for none
	err     error
}

// block returns what is left of the block at the reader's place, checked.
func (r *fileReader) block() ([]byte, error) {
	i := r.at / blockSize
	if r.buf == nil {
		r.buf = diskBuffers.Get().(*[]byte)
	}
	b := (*r.buf)[:min(blockSize, r.fb.at.size-i*blockSize)]
	if r.checked != i {
		r.checked = -1
		if err := readFull(r.f, b, i*blockSize); err != nil {
			return nil, err
		}
		if err := verify(b, r.sums, i); err != nil {
			return nil, err
		}
		r.checked = i
	}
	b = b[r.at-i*blockSize:]
	return b[:min(int64(len(b)), r.end-r.at)], nil
}

func (r *fileReader) Read(p []byte) (int, error) {
	switch {
	case r.err != nil:
		return 0, r.err
	case r.at == r.end:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	b, err := r.block()
	if err != nil {
		return 0, r.fail(err)
	}
	n := copy(p, b)
	r.at += int64(n)
	return n, nil
}

// WriteTo implements io.WriterTo. Each block is checked and then handed to w as
// a piece of the file, which w may send with sendfile(2): the file is never
// changed, and its pages have just been read.
func (r *fileReader) WriteTo(w io.Writer) (total int64, err error) {
	rf, direct := w.(io.ReaderFrom)
	for r.err == nil && r.at < r.end {
		b, err := r.block()
		if err != nil {
			return total, r.fail(err)
		}
		var n int64
		if direct {
			if _, err = r.f.Seek(r.at, io.SeekStart); err != nil {
				return total, r.fail(err)
			}
			n, err = rf.ReadFrom(&io.LimitedReader{R: r.f, N: int64(len(b))})
		} else {
			var m int
			m, err = w.Write(b)
			n = int64(m)
		}
		r.at += n
		total += n
		if err == nil && n < int64(len(b)) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, err
		}
	}
	return total, r.err
}

func (r *fileReader) fail(err error) error {
	r.fb.d.lost(r.fb.key, r.fb.at, err)
	r.err = ErrLost
	return ErrLost
}

func (r *fileReader) Close() error {
	if r.buf != nil {
		diskBuffers.Put(r.buf)
		r.buf = nil
	}
	if r.err == nil {
		r.err = io.ErrClosedPipe
	}
	return r.f.Close()
}

// pieces is a body in memory, in segments.
type pieces struct {
	segs [][]byte
	size int64
}

func (s pieces) Open(off, n int64) (io.ReadCloser, error) {
	if err := within(off, n, s.size); err != nil {
		return nil, err
	}
	readers := make([]io.Reader, 0, len(s.segs))
	for _, b := range s.segs {
		if off < int64(len(b)) && n > 0 {
			part := b[off:min(int64(len(b)), off+n)]
			readers = append(readers, bytes.NewReader(part))
			n -= int64(len(part))
			off = 0
			continue
		}
		off = max(0, off-int64(len(b)))
	}
	return io.NopCloser(io.MultiReader(readers...)), nil
}
