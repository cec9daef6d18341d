package store

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrShared says that another process has the folder.
var ErrShared = errors.New("another process uses it")

func filePath(dir string, id uint64) string {
	return filepath.Join(dir, "files", fmt.Sprintf("%016x", id))
}

// OpenDisk opens the tier in a folder, which it makes when it is missing. What
// was stored there can be returned at once. The errors say what is wrong with
// the folder.
func OpenDisk(c DiskConfig) (*Disk, error) {
	if c.Size < MinDisk {
		return nil, fmt.Errorf("a disk cache of %d bytes is below the least, %d", c.Size, int64(MinDisk))
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	d := &Disk{
		dir: c.Dir, limit: c.Size, segSize: segmentSizeFor(c.Size), pending: newPending(), segs: table{m: make(map[uint32]*segment)},
		wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	d.faults.log = c.Log
	d.room.L = &d.mu
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFolder(filepath.Join(c.Dir, "lock"))
	if err != nil {
		return nil, err
	}
	d.lock = lock
	if err := d.open(); err != nil {
		d.abort()
		return nil, err
	}
	go d.write()
	return d, nil
}

// abort gives back what open took.
func (d *Disk) abort() {
	for _, s := range d.segs.all() {
		d.segs.remove(s)
	}
	if d.deletions != nil {
		d.deletions.close()
	}
	if x := d.index.Load(); x != nil {
		_ = x.close()
	}
	if d.state != nil {
		d.state.f.Close()
	}
	d.lock.Close()
}

// lockFolder keeps others out until it is closed, or the process ends.
func lockFolder(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrShared
		}
		return nil, err
	}
	return f, nil
}

func (d *Disk) open() error {
	state, err := openState(filepath.Join(d.dir, "state"))
	if err != nil {
		return err
	}
	d.state = state
	if state.why != "" {
		if state.run > 0 || state.why != nothingYet {
			d.faults.log.Warn("cache disk: it begins empty", "why", state.why)
		}
		err = d.setAside("index", "deletions", "segments", "files")
	}
	if err == nil {
		err = state.begin()
	}
	if err != nil {
		return err
	}
	d.ids.Store(state.run << runShift)
	if err := d.openData(); err != nil {
		d.faults.note("what is stored cannot be used; it begins empty", err)
		d.abandonIndex()
		if d.deletions != nil {
			d.deletions.close()
		}
		if err := d.setAside("index", "deletions", "segments", "files"); err != nil {
			return err
		}
		if err := d.openData(); err != nil {
			return err
		}
	}
	files := d.filesInIndex
	d.filesInIndex = nil
	d.sweeps.Go(func() { d.sweep(files) })
	return nil
}

// openData opens the index, the list of deletions and the segments.
func (d *Disk) openData() error {
	x, err := d.openIndex()
	if err != nil {
		return err
	}
	log, pending, err := openDeletions(filepath.Join(d.dir, "deletions"))
	if err != nil {
		return err
	}
	d.deletions = log
	if _, err := x.update(func(b *batch) error { return b.replay(pending) }); err != nil {
		return err
	}
	if err := log.reset(); err != nil {
		return err
	}
	segs, files, err := x.survey()
	if err != nil {
		return err
	}
	d.filesInIndex = files
	return d.openSegments(segs)
}

// replay does what the list of deletions has.
func (b *batch) replay(pending []deletion) error {
	for _, del := range pending {
		var k Key
		copy(k[:], del.half[:])
		if p, ok := b.get(k); ok && p.id <= del.id {
			if err := b.remove(k, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// openSegments opens the segments that the index has, and goes on with the
// last of them. The next number is above that of any file.
func (d *Disk) openSegments(segs map[uint32]usage) error {
	entries, err := os.ReadDir(filepath.Join(d.dir, "segments"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if id, err := strconv.ParseUint(e.Name(), 16, 32); err == nil {
			d.w.next = max(d.w.next, uint32(id)+1)
		}
	}
	var last *segment
	for id, live := range segs {
		d.w.next = max(d.w.next, id+1)
		d.objects.Add(live.objects)
		s, err := openSegment(d.dir, id, d.segSize, 0)
		if err != nil {
			d.faults.note("a segment cannot be opened", err)
			d.w.ghosts = append(d.w.ghosts, id)
			continue
		}
		s.live = live
		d.used.Add(s.end)
		d.segs.add(s)
		if last == nil || s.id > last.id {
			last = s
		}
	}
	for _, size := range d.filesInIndex {
		d.used.Add(size)
	}
	if last != nil && last.end < d.segSize {
		d.w.cur, d.w.files = last, last.live.files
		d.used.Add(d.segSize - last.end)
	}
	d.firstSegment = d.w.next
	return nil
}

// sweep removes what no crash should leave behind: segments and files that the
// index does not have, and what was set aside.
func (d *Disk) sweep(files map[uint64]int64) {
	old, _ := filepath.Glob(filepath.Join(d.dir, "old-*"))
	for _, path := range old {
		if err := os.RemoveAll(path); err != nil {
			d.faults.note("what was set aside cannot be removed", err)
		}
	}
	first := d.state.run << runShift
	d.sweepFolder("files", func(id uint64) bool {
		_, known := files[id]
		return known || id >= first
	})
	d.sweepFolder("segments", func(id uint64) bool {
		s := d.segs.acquire(uint32(id))
		if s != nil {
			s.release()
		}
		return s != nil || id >= uint64(d.firstSegment)
	})
}

// sweepFolder removes the files that nobody keeps.
func (d *Disk) sweepFolder(sub string, keep func(uint64) bool) {
	f, err := os.Open(filepath.Join(d.dir, sub))
	if err != nil {
		d.faults.note("cannot look for files that belong to nobody", err)
		return
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(1000)
		for _, name := range names {
			id, bad := strconv.ParseUint(name, 16, 64)
			if bad == nil && keep(id) {
				continue
			}
			if err := os.Remove(filepath.Join(f.Name(), name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				d.faults.note("a file that belongs to nobody cannot be removed", err)
			}
		}
		if err != nil || d.isClosed() {
			return
		}
	}
}

func (d *Disk) isClosed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

// setAside moves all that is stored out of the way; a sweep removes it.
func (d *Disk) setAside(names ...string) error {
	aside, err := os.MkdirTemp(d.dir, "old-")
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Rename(filepath.Join(d.dir, name), filepath.Join(aside, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// abandonIndex forgets what was opened, without touching what may be damaged.
func (d *Disk) abandonIndex() {
	if x := d.index.Load(); x != nil && !x.broken.Load() {
		_ = x.close()
	}
	for _, s := range d.segs.all() {
		d.segs.remove(s)
	}
	d.accounts.Add(1)
	d.used.Store(0)
	d.objects.Store(0)
	d.filesInIndex = nil
	d.w = writer{rebuilds: d.w.rebuilds, next: d.w.next}
}

// rebuild begins again with nothing, after the index was found damaged.
func (d *Disk) rebuild() {
	if d.off.Load() {
		return
	}
	d.w.rebuilds++
	if d.w.rebuilds > maxRebuilds {
		d.condemn(errIndex)
		return
	}
	d.abandonIndex()
	// The list of deletions stays: it is open, and what it has is nothing that an empty
	// index could lack.
	err := d.setAside("index", "segments", "files")
	if err == nil {
		_, err = d.openIndex()
	}
	if err != nil {
		d.condemn(err)
		return
	}
	d.sweeps.Go(func() { d.sweep(nil) })
}

// openIndex opens the index, and the folders of what it leads to.
func (d *Disk) openIndex() (*index, error) {
	for _, sub := range []string{"segments", "files"} {
		if err := os.MkdirAll(filepath.Join(d.dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	x, err := openIndex(filepath.Join(d.dir, "index"))
	if err != nil {
		return nil, err
	}
	d.index.Store(x)
	d.indexed.Store(x.bytes())
	return x, nil
}

// condemn turns the tier off, and takes away what would bring back after a
// restart what was deleted.
func (d *Disk) condemn(err error) {
	if d.off.Swap(true) {
		return
	}
	d.faults.note("it is turned off until the next start", err)
	for _, name := range []string{"state", "index"} {
		if err := os.Remove(filepath.Join(d.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			d.faults.log.Error("cache disk: remove this file before the next start", "file", filepath.Join(d.dir, name), "error", err)
		}
	}
}

// bootID names the time since the machine started; empty when it is not known.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
