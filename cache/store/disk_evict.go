package store

import (
	"errors"
	"os"
	"slices"
)

// rescueShare is the part of a segment that may be kept, by copying, of one
// that is dropped.
const rescueShare = 2

// largeShare is the part of the whole above which an object with a file of its
// own goes with its segment even though it was hit.
const largeShare = 64

// makeRoom drops segments until n more bytes fit.
func (d *Disk) makeRoom(n int64) error {
	for d.used.Load()+d.indexed.Load()+n > d.limit-d.segSize || d.objects.Load() > d.limit/bytesPerObject {
		s := d.victim()
		if s == nil {
			return errFull
		}
		if err := d.drop(s.id, s); err != nil {
			return err
		}
	}
	return nil
}

// victim returns the segment to drop: one with hardly anything live, else the
// oldest; nil when there is none that the index has all of.
func (d *Disk) victim() *segment {
	var oldest, dead *segment
	for _, s := range d.segs.all() {
		if s == d.w.cur || d.w.held[s.id] {
			continue
		}
		if oldest == nil || s.id < oldest.id {
			oldest = s
		}
		if s.live.files == 0 && s.live.bytes < s.end/4 && (dead == nil || s.live.bytes < dead.live.bytes) {
			dead = s
		}
	}
	if dead != nil {
		return dead
	}
	if cur := d.w.cur; oldest == nil && cur != nil && !d.w.held[cur.id] && d.flushBuffer() == nil && cur.end > 0 {
		d.seal()
		return cur
	}
	return oldest
}

// atATime is how many entries of a segment one commit drops.
const atATime = 1000

// drop removes a segment. Records in it that were hit are kept, by copying
// them to the present one. A ghost has no file: s is nil.
func (d *Disk) drop(id uint32, s *segment) error {
	d.w.dropping = true
	defer func() { d.w.dropping = false }()
	budget := d.segSize / rescueShare
	x := d.index.Load()
	var from uint32
	for more := true; more; {
		var gone int64
		b, err := x.update(func(b *batch) error {
			gone = 0
			offs, keys := b.inSegment(id, from, atATime)
			for i, off := range offs {
				kept, err := d.dropEntry(b, s, place{seg: id, off: off}, keys[i], &budget)
				if err != nil {
					return err
				}
				if !kept {
					gone++
				}
			}
			if more = len(offs) == atATime; more {
				from = offs[len(offs)-1] + 1
			}
			return d.flushBuffer()
		})
		if err != nil {
			d.indexFailed(x, err)
			return err
		}
		d.settle(b)
		d.evicted.Add(gone)
	}
	if _, err := x.update(func(b *batch) error { return b.dropSegment(id) }); err != nil {
		d.indexFailed(x, err)
		return err
	}
	if s != nil {
		d.removeSegment(s)
	}
	return nil
}

// dropEntry keeps one record elsewhere, or removes it from the index.
func (d *Disk) dropEntry(b *batch, s *segment, at place, k Key, budget *int64) (kept bool, err error) {
	p, ok := b.get(k)
	if !ok || p.seg != at.seg || p.off != at.off {
		return false, b.places.Delete(placeKey(at.seg, at.off))
	}
	if s != nil && p.length() <= *budget && d.worthKeeping(s, k, p) {
		head, sums, ofSums, body, err := d.copyOf(k, p)
		if err == nil {
			next, err := d.append(k, place{head: p.head, size: p.size, id: p.id, own: p.own}, head, sums, ofSums, [][]byte{body})
			if err == nil {
				*budget -= p.length()
				return true, b.put(k, next)
			}
		}
		if err != nil && !errors.Is(err, errGone) {
			d.faults.note("an object cannot be read; it is dropped", err)
		}
	}
	return false, b.remove(k, p)
}

func (d *Disk) worthKeeping(s *segment, k Key, p place) bool {
	if p.own && p.size > d.limit/largeShare {
		return false
	}
	hot := d.hot.Load()
	return s.wasHit(p.off) || hot != nil && (*hot)(k)
}

func (d *Disk) removeSegment(s *segment) {
	d.used.Add(-s.end)
	if err := os.Remove(s.path); err != nil {
		d.faults.note("an old segment cannot be removed", err)
	}
	d.segs.remove(s)
}

// sacrifice makes real room on a disk that is full: the file goes at once, and
// the entries that lead there when the index can be written again.
func (d *Disk) sacrifice() {
	if s := d.victim(); s != nil {
		d.removeSegment(s)
		d.w.ghosts = append(d.w.ghosts, s.id)
	}
}

// exorcise removes the entries of segments that are gone.
func (d *Disk) exorcise() {
	for len(d.w.ghosts) > 0 && !d.index.Load().broken.Load() {
		if d.drop(d.w.ghosts[0], nil) != nil {
			return
		}
		d.w.ghosts = slices.Delete(d.w.ghosts, 0, 1)
	}
}

// unlink removes the file of a body, if it is there.
func (d *Disk) unlink(id uint64, size int64) {
	err := os.Remove(filePath(d.dir, id))
	switch {
	case err == nil:
		d.used.Add(-size)
	case !errors.Is(err, os.ErrNotExist):
		d.faults.note("the file of an object cannot be removed", err)
	}
}

// indexFailed takes note that the index cannot be used as it is.
func (d *Disk) indexFailed(x *index, err error) {
	if !errors.Is(err, errIndex) {
		return
	}
	x.broken.Store(true)
	if !x.told.Swap(true) {
		d.faults.note("the index is damaged; the tier begins again, empty", err)
	}
	signal(d.wake)
}
