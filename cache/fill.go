package cache

import (
	"context"
	"errors"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"fwdproxy/cache/store"
)

// window is how far a body that is not kept may run ahead of its slowest
// reader, in bytes.
const window = 4 * store.SegmentSize

const firstSegment = 4 << 10 // of a body whose length is not known

// patience is for how long, all in all, a reader of a body that is not kept may
// make others wait. When that is half of the time it took, it is cut off.
const patience = 5 * time.Second

var (
	errTooSlow   = errors.New("cache: the client reads too slowly to share the body with others")
	errNoReaders = errors.New("cache: nobody reads the body any more")
	errTooLong   = errors.New("cache: the body is longer than its Content-Length")
)

// fill is a body that arrives while several read it, each at its own pace.
// While it is kept, every byte stays for the store and nobody holds it up; a
// body that grows too large to keep goes on with what its slowest reader has
// not read yet, and no more than window ahead of it.
type fill struct {
	limit int64         // the largest body that is kept
	room  int64         // for all fills together
	total *atomic.Int64 // held by all fills together
	size  int64         // the body's length, -1 when not known

	mu      sync.Mutex
	wake    sync.Cond // something arrived, was read, or ended
	segs    [][]byte  // all but the last have store.SegmentSize bytes; the last may be growing
	base    int64     // offset of the first byte held
	n       int64     // bytes that readers may see
	kept    bool
	err     error // how it ended; io.EOF when whole
	held    int64
	since   time.Time // it is not kept
	spill   spill
	readers map[*fillReader]struct{}
}

func newFill(size, limit, room int64, total *atomic.Int64) *fill {
	f := &fill{limit: limit, room: room, total: total, size: size, kept: true, readers: make(map[*fillReader]struct{})}
	f.wake.L = &f.mu
	return f
}

// from reads body to its end. It calls done with what came and how that ended,
// io.EOF when it is complete, before the last of it is seen, so that whoever has
// the whole response finds it stored. For a body that went to the disk meanwhile
// it is called last, and for one that is not kept not at all.
func (f *fill) from(body io.Reader, done func(content, error)) error {
	var arrived int64
	for {
		room, err := f.space()
		if err != nil {
			return f.finish(err)
		}
		n, err := body.Read(room)
		arrived += int64(n)
		if err == nil && arrived == f.size {
			err = theEnd(body)
		}
		if f.size >= 0 && arrived > f.size {
			n, err = 0, errTooLong
		}
		if err == nil {
			f.show(n)
			continue
		}
		if err == io.EOF && f.size >= 0 && arrived < f.size {
			err = io.ErrUnexpectedEOF
		}
		came, ok := f.came(n)
		if ok && came.spool == nil {
			done(came, err)
		}
		f.show(n)
		_ = f.finish(err)
		if ok && came.spool != nil {
			done(came, err) // which waits for the disk; until then this is where others find it
		}
		return err
	}
}

// theEnd reads on where nothing may follow.
func theEnd(body io.Reader) error {
	var b [1]byte
	for {
		n, err := body.Read(b[:])
		if n > 0 {
			return errTooLong
		}
		if err != nil {
			return err
		}
	}
}

// space returns room for more bytes. Where the body is not kept it waits
// until the slowest reader has come near.
func (f *fill) space() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kept {
		if f.kept = f.keeps(); !f.kept {
			f.since = time.Now()
		}
		f.trim()
	}
	for !f.kept {
		if len(f.readers) == 0 {
			return nil, errNoReaders
		}
		if f.n-f.slowest() < window {
			break
		}
		f.stall()
	}
	last := len(f.segs) - 1
	switch {
	case last < 0 || len(f.segs[last]) == store.SegmentSize:
		size := store.SegmentSize
		if f.n == 0 {
			size = firstSegment
			if f.size >= 0 {
				size = int(min(max(f.size, 1), store.SegmentSize))
			}
		}
		f.segs = append(f.segs, make([]byte, 0, size))
		f.hold(int64(size))
		last++
	case len(f.segs[last]) == cap(f.segs[last]):
		// Readers may hold the old array; what is in it does not change.
		old := f.segs[last]
		f.segs[last] = append(make([]byte, 0, min(4*cap(old), store.SegmentSize)), old...)
		f.hold(int64(cap(f.segs[last]) - cap(old)))
	}
	s := f.segs[last]
	return s[len(s):cap(s)], nil
}

// stall waits for the slowest readers, and cuts off those that others have
// waited for too long.
func (f *fill) stall() {
	starving := f.starving()
	began := time.Now()
	timer := time.AfterFunc(time.Second, func() {
		f.mu.Lock()
		f.wake.Broadcast()
		f.mu.Unlock()
	})
	f.wake.Wait()
	timer.Stop()
	if !starving {
		return
	}
	now := time.Now()
	for r := range f.readers {
		if f.n-r.at < window {
			continue
		}
		r.blame += now.Sub(began)
		if r.blame >= patience && 2*r.blame >= now.Sub(f.since) {
			r.err = errTooSlow
			delete(f.readers, r)
			f.wake.Broadcast()
		}
	}
	f.trim()
}

// starving reports whether a reader has read all there is.
func (f *fill) starving() bool {
	for r := range f.readers {
		if r.at == f.n {
			return true
		}
	}
	return false
}

func (f *fill) hold(n int64) {
	f.held += n
	f.total.Add(n)
}

// show lets readers see n more bytes.
func (f *fill) show(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := len(f.segs) - 1
	f.segs[last] = f.segs[last][:len(f.segs[last])+n]
	f.n += int64(n)
	f.wake.Broadcast()
}

// came returns the bytes that came with n that are not shown yet, if all were
// kept and are not too many.
func (f *fill) came(n int) (content, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.kept || f.n+int64(n) > f.limit {
		return content{}, false
	}
	segs := append([][]byte(nil), f.segs...)
	last := len(segs) - 1
	segs[last] = segs[last][:len(segs[last])+n]
	if len(segs[last]) == 0 {
		segs = segs[:last]
	}
	size := f.n + int64(n)
	if f.spill.spool == nil {
		return content{size: size, segs: segs}, true
	}
	shown := f.segs
	f.segs = segs
	f.pass(true)
	f.segs = shown
	return content{size: size, spool: f.spill.spool}, !f.spill.failed
}

// progress returns how many bytes are there, and whether all are kept.
func (f *fill) progress() (int64, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n, f.kept
}

func (f *fill) finish(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
	f.wake.Broadcast()
	return err
}

// seal says that no reader will begin any more.
func (f *fill) seal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kept = false
	f.trim()
}

// trim lets go of what no reader needs any more, or finds on the disk.
func (f *fill) trim() {
	if f.kept && f.spill.spool == nil {
		return
	}
	low, onDisk := f.slowest(), min(f.onDisk(), f.n-window)
	if f.kept {
		low = 0
	}
	done := !f.kept && f.err != nil && len(f.readers) == 0
	for len(f.segs) > 0 {
		s := f.segs[0]
		if end := f.base + int64(len(s)); !done && (len(s) < store.SegmentSize || end > low && end > onDisk) {
			break
		}
		f.base += int64(len(s))
		f.hold(-int64(cap(s)))
		f.segs[0] = nil
		f.segs = f.segs[1:]
	}
	if done {
		f.spill.close()
	}
}

// slowest returns the offset of the slowest reader, the end when there is none.
func (f *fill) slowest() int64 {
	low := f.n
	for r := range f.readers {
		low = min(low, r.at)
	}
	return low
}

// reader returns a reader of n bytes from off, of all that follow when n is
// negative. It fails when ctx ends and calls left when it is closed; false when
// bytes are being dropped already.
func (f *fill) reader(ctx context.Context, off, n int64, left func()) (*fillReader, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.kept {
		return nil, false
	}
	r := &fillReader{f: f, ctx: ctx, left: left, at: off, end: math.MaxInt64}
	if n >= 0 {
		r.end = off + n
	}
	r.unwatch = context.AfterFunc(ctx, func() {
		f.mu.Lock()
		f.wake.Broadcast()
		f.mu.Unlock()
	})
	f.readers[r] = struct{}{}
	return r, true
}

// fillReader is one reader of a fill.
type fillReader struct {
	f       *fill
	ctx     context.Context
	unwatch func() bool
	left    func()
	at, end int64
	block   []byte // read from the disk, where the fill is ahead
	blockAt int64
	closed  bool
	blame   time.Duration // how long others waited for it
	err     error         // it was cut off
}

// await waits until the reader's first byte is there, or will never be. It is
// false when that does not happen until the time given.
func (r *fillReader) await(until time.Time) bool {
	f := r.f
	timer := time.AfterFunc(time.Until(until), func() {
		f.mu.Lock()
		f.wake.Broadcast()
		f.mu.Unlock()
	})
	defer timer.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	for r.at >= f.n && f.err == nil && r.ctx.Err() == nil {
		if !time.Now().Before(until) {
			return false
		}
		f.wake.Wait()
	}
	return r.at < f.n
}

func (r *fillReader) Read(p []byte) (int, error) {
	f := r.f
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case r.closed:
			return 0, io.ErrClosedPipe
		case r.err != nil:
			return 0, r.err
		case r.at == r.end:
			return 0, io.EOF
		case r.at < f.base:
			return r.readBehind(p)
		case r.at < f.n:
			off := r.at - f.base
			s := f.segs[off/store.SegmentSize][off%store.SegmentSize:]
			n := copy(p, s[:min(int64(len(s)), r.end-r.at)])
			r.at += int64(n)
			if !f.kept {
				f.trim()
				f.wake.Broadcast()
			}
			return n, nil
		case f.err != nil:
			return 0, f.err
		case r.ctx.Err() != nil:
			return 0, r.ctx.Err()
		case len(p) == 0:
			return 0, nil
		}
		f.wake.Wait()
	}
}

// Close lets the others go on without this reader.
func (r *fillReader) Close() error {
	f := r.f
	f.mu.Lock()
	closed := r.closed
	r.closed = true
	delete(f.readers, r)
	f.trim()
	f.wake.Broadcast()
	f.mu.Unlock()
	if !closed {
		r.unwatch()
		r.left()
	}
	return nil
}
