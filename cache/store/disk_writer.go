package store

import (
	"errors"
	"slices"
	"time"
)

const (
	// linger is how long changes wait for others, to share a commit of the index.
	linger = 100 * time.Millisecond
	// rest is how long the writer pauses after the disk failed.
	rest = time.Second
	// One commit has at most so many changes, and a change more than so many bytes.
	atOnce      = 2000
	atOnceBytes = 4 << 20
	// maxRebuilds is how often a damaged index is replaced before the tier gives
	// up.
	maxRebuilds = 3
)

// writer is what only the writing goroutine touches.
type writer struct {
	cur      *segment // that records are appended to; nil when there is none
	buf      []byte   // appended already, not written
	files    int64    // bytes of files that belong to its records
	next     uint32   // the next segment
	rebuilds int
	dropping bool            // a segment is being dropped: what is kept of it needs room first
	torn     []*segment      // that a write of the present changes failed in
	held     map[uint32]bool // segments with records that the index does not have yet
	ghosts   []uint32        // segments that are gone while the index still leads there
}

// write applies changes until the tier is closed.
func (d *Disk) write() {
	defer close(d.ended)
	for {
		<-d.wake
		d.mu.Lock()
		idle := len(d.queue) == 0 && d.wanted == 0 && !d.closed
		d.mu.Unlock()
		if !idle && !d.index.Load().broken.Load() {
			d.wait(linger)
		}
		if d.index.Load().broken.Load() {
			d.rebuild()
		}
		if d.serveSpools() != nil {
			d.wait(rest)
		}
		for {
			changes, closed := d.take()
			if len(changes) == 0 {
				if closed {
					return
				}
				break
			}
			if err := d.apply(changes); err != nil && !closed {
				d.wait(rest)
			}
		}
		d.exorcise()
	}
}

// wait pauses; a call of hurry ends it.
func (d *Disk) wait(t time.Duration) {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-d.urgent:
	case <-timer.C:
	}
}

// take returns the next changes in order.
func (d *Disk) take() (changes []*change, closed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var n int
	for bytes := int64(0); n < len(d.queue) && n < atOnce && bytes < atOnceBytes; n++ {
		bytes += d.queue[n].cost
	}
	changes = d.queue[:n:n]
	d.queue = d.queue[n:]
	if len(d.queue) == 0 {
		d.queue = nil
	}
	return changes, d.closed
}

// written is a change with the place that it got.
type written struct {
	*change
	at place
}

// apply puts data on the disk first and into the index then, so that the index
// never leads to what is not there.
func (d *Disk) apply(changes []*change) error {
	d.w.torn, d.w.held = nil, make(map[uint32]bool)
	defer func() { d.w.held = nil }()
	var todo []written
	var failure error
	for _, c := range changes {
		switch c.kind {
		case changePut, changeOwn, changeHead:
			at, err := d.record(c)
			switch {
			case err == errSuperseded:
				d.abandon(c)
			case err != nil:
				failure = err
				d.fail(c, err)
			default:
				todo = append(todo, written{c, at})
			}
		default:
			todo = append(todo, written{change: c})
		}
	}
	if err := d.flushBuffer(); err != nil {
		failure = err
	}
	todo = slices.DeleteFunc(todo, func(w written) bool {
		torn := d.w.isTorn(w.at)
		if torn {
			d.fail(w.change, failure)
		}
		return torn
	})
	if err := d.commit(todo); err != nil {
		failure = err
	}
	d.done(changes)
	if failure != nil && faultOf(failure) == FaultFull && !errors.Is(failure, errFull) {
		d.sacrifice()
	}
	return failure
}

// done lets go of what waited.
func (d *Disk) done(changes []*change) {
	var cost int64
	for _, c := range changes {
		cost += c.cost
		if c.done != nil {
			close(c.done)
		}
	}
	d.mu.Lock()
	d.queued -= cost
	d.mu.Unlock()
}

// isTorn reports whether the record could not be written whole.
func (w *writer) isTorn(at place) bool {
	return slices.ContainsFunc(w.torn, func(s *segment) bool { return s.id == at.seg && int64(at.off)+at.length() > s.end })
}

// commit makes the index agree.
func (d *Disk) commit(todo []written) error {
	if len(todo) == 0 {
		return nil
	}
	x := d.index.Load()
	b, err := x.update(func(b *batch) error {
		for _, w := range todo {
			if err := b.change(w); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		for _, w := range todo {
			d.fail(w.change, err)
		}
		if errors.Is(err, errIndex) {
			d.indexFailed(x, err)
			d.rebuild()
		}
		return err
	}
	d.settle(b)
	var slots []int
	for _, w := range todo {
		if w.kind != changeFlush && w.kind != changeForget {
			d.pending.settle(w.change)
		}
		if w.slot != noSlot {
			slots = append(slots, w.slot)
		}
	}
	if len(slots) > 0 {
		if err := d.deletions.release(slots); err != nil {
			d.faults.note("the list of deletions cannot be written", err)
		}
	}
	return nil
}

func (b *batch) change(w written) error {
	switch w.kind {
	case changePut, changeOwn, changeHead:
		return b.put(w.key, w.at)
	case changeRemove, changeForget:
		p, ok := b.get(w.key)
		if ok && (p.id == w.id || w.kind == changeRemove && p.id < w.id) {
			return b.remove(w.key, p)
		}
	}
	return nil
}

// settle does outside the index what a commit of it brought about.
func (d *Disk) settle(b *batch) {
	all := make(map[uint32]*segment)
	for _, s := range d.segs.all() {
		all[s.id] = s
	}
	for seg, u := range b.delta {
		d.objects.Add(u.objects)
		if s := all[seg]; s != nil {
			s.live.add(u)
		}
	}
	for _, f := range b.unlink {
		d.unlink(f.id, f.size)
	}
	d.indexed.Store(d.index.Load().bytes())
}

// fail takes back a change that could not be written.
func (d *Disk) fail(c *change, err error) {
	switch c.kind {
	case changeFlush, changeForget:
		return
	case changeRemove:
		// It holds, in the list of deletions and for whoever asks, until the index has it.
		d.enqueue(&change{key: c.key, kind: c.kind, id: c.id, slot: c.slot}, false)
		return
	case changeOwn:
		d.unlink(c.id, fileSize(c.size))
	case changePut:
		if c.size > inlineMax {
			d.unlink(c.id, fileSize(c.size))
		}
	}
	if !errors.Is(err, errGone) {
		d.faults.note("an object is not stored", err)
		d.dropped.Add(1)
	}
	d.retract(c)
}

// abandon lets go of a change that another came after.
func (d *Disk) abandon(c *change) {
	now := d.pending.get(c.key)
	if c.kind == changeOwn && (now == nil || now.kind != changeOwn || now.id != c.id) {
		d.unlink(c.id, fileSize(c.size))
	}
	d.pending.settle(c)
}
