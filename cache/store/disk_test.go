package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func openDisk(t testing.TB, dir string, size int64) *Disk {
	t.Helper()
	d, err := OpenDisk(DiskConfig{Dir: dir, Size: size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeDisk(t, d) })
	return d
}

// closeDisk closes it in order, if it is not closed yet.
func closeDisk(t testing.TB, d *Disk) {
	t.Helper()
	if d.isClosed() {
		return
	}
	if err := d.Close(time.Minute); err != nil {
		t.Errorf("close: %v", err)
	}
}

// kill leaves the folder as a process that is killed leaves it: nothing more is
// written, and the lock is free.
func kill(t testing.TB, d *Disk) {
	t.Helper()
	d.mu.Lock()
	d.closed = true
	d.queue = nil
	d.mu.Unlock()
	d.hurry()
	<-d.ended
	d.sweeps.Wait()
	d.deletions.close()
	if err := d.index.Load().db.Close(); err != nil {
		t.Error(err)
	}
	d.state.f.Close()
	d.lock.Close()
}

func flush(t testing.TB, d *Disk) {
	t.Helper()
	if !d.flush(time.Minute) {
		t.Fatal("it does not get done")
	}
}

func check(t testing.TB, s Store, k Key, head string, body []byte) {
	t.Helper()
	o, ok := s.Get(k)
	if !ok {
		t.Fatalf("%x: not there", k[:4])
	}
	if string(o.Head) != head || o.Size != int64(len(body)) {
		t.Fatalf("%x: head %q, %d bytes; want %q, %d", k[:4], o.Head, o.Size, head, len(body))
	}
	got, err := read(t, o, 0, o.Size)
	if err != nil || !bytes.Equal(got, body) {
		t.Fatalf("%x: got %d bytes, %v", k[:4], len(got), err)
	}
}

func gone(t testing.TB, s Store, k Key) {
	t.Helper()
	if o, ok := s.Get(k); ok {
		t.Fatalf("%x is there, with head %q", k[:4], o.Head)
	}
}

// sizes are those of bodies about every border.
var sizes = []int{0, 1, 1000, oneRead, oneRead + 1, blockSize - 1, blockSize, blockSize + 1, inlineMax - 1, inlineMax, inlineMax + 1, 1<<20 + 17}

func TestADiskObjectIsReadAsItWasPut(t *testing.T) {
	d := openDisk(t, t.TempDir(), 1<<30)
	for _, when := range []string{"while it waits to be written", "from the disk"} {
		for i, n := range sizes {
			body, head := content(i, n), fmt.Sprint("head ", i)
			if when == "while it waits to be written" {
				if err := d.Put(key(i), []byte(head), split(body)); err != nil {
					t.Fatal(err)
				}
			}
			check(t, d, key(i), head, body)
			o, _ := d.Get(key(i))
			for _, s := range [][2]int{{0, n}, {n, 0}, {0, 0}, {0, min(n, 1)}, {n / 2, n - n/2}, {n / 3, n / 3}, {max(0, n-1), min(n, 1)}} {
				got, err := read(t, o, int64(s[0]), int64(s[1]))
				if err != nil || !bytes.Equal(got, body[s[0]:s[0]+s[1]]) {
					t.Errorf("%s, %d bytes: %d from %d: %d bytes, %v", when, n, s[1], s[0], len(got), err)
				}
				if when == "from the disk" && s[1] > 0 {
					var out bytes.Buffer
					r, err := o.Body.Open(int64(s[0]), int64(s[1]))
					if err != nil {
						t.Fatal(err)
					}
					if _, err := io.Copy(&out, r); err != nil || !bytes.Equal(out.Bytes(), body[s[0]:s[0]+s[1]]) {
						t.Errorf("%d bytes: copied %d from %d: %d bytes, %v", n, s[1], s[0], out.Len(), err)
					}
					r.Close()
				}
			}
			for _, s := range [][2]int64{{-1, 1}, {0, int64(n) + 1}, {int64(n) + 1, 0}, {1, -1}} {
				if _, err := o.Body.Open(s[0], s[1]); err == nil {
					t.Errorf("%d bytes: %d from %d is accepted", n, s[1], s[0])
				}
			}
		}
		flush(t, d)
	}
	if s := d.Stats(); s.Objects != int64(len(sizes)) || s.Queued != 0 || s.Faults != [Faults]int64{} {
		t.Errorf("stats: %+v", s)
	}
}

func TestWhatIsStoredOutlivesTheProcess(t *testing.T) {
	for how, stop := range map[string]func(testing.TB, *Disk){"closed": closeDisk, "killed": kill} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			d := openDisk(t, dir, 1<<30)
			for i, n := range sizes {
				if err := d.Put(key(i), fmt.Append(nil, "old ", i), split(content(100+i, n))); err != nil {
					t.Fatal(err)
				}
			}
			flush(t, d)
			for i, n := range sizes {
				switch i % 4 {
				case 0:
					_ = d.Put(key(i), fmt.Append(nil, "new ", i), split(content(i, n)))
				case 1:
					o, _ := d.Get(key(i))
					if err := d.SetHead(key(i), o, fmt.Append(nil, "set ", i)); err != nil {
						t.Fatal(err)
					}
				case 2:
					d.Delete(key(i))
				}
			}
			flush(t, d)
			stop(t, d)
			d = openDisk(t, dir, 1<<30)
			for i, n := range sizes {
				switch i % 4 {
				case 0:
					check(t, d, key(i), fmt.Sprint("new ", i), content(i, n))
				case 1:
					check(t, d, key(i), fmt.Sprint("set ", i), content(100+i, n))
				case 2:
					gone(t, d, key(i))
				default:
					check(t, d, key(i), fmt.Sprint("old ", i), content(100+i, n))
				}
			}
			noOrphans(t, d)
		})
	}
}

// noOrphans holds what lies in the folder against the index.
func noOrphans(t testing.TB, d *Disk) {
	t.Helper()
	flush(t, d)
	d.sweeps.Wait()
	segs, files, err := d.index.Load().survey()
	if err != nil {
		t.Fatal(err)
	}
	var bytes int64
	for sub, known := range map[string]func(id uint64) bool{
		"segments": func(id uint64) bool { _, ok := segs[uint32(id)]; return ok || uint32(id)+1 == d.w.next },
		"files":    func(id uint64) bool { _, ok := files[id]; return ok },
	} {
		entries, err := os.ReadDir(filepath.Join(d.dir, sub))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			var id uint64
			fmt.Sscanf(e.Name(), "%x", &id)
			if !known(id) {
				t.Errorf("%s/%s belongs to nobody", sub, e.Name())
			}
			if fi, err := e.Info(); err == nil {
				bytes += fi.Size()
			}
		}
	}
	if used := d.used.Load(); bytes > used || used > bytes+d.segSize {
		t.Errorf("%d bytes are accounted for, there are %d", used, bytes)
	}
	if old, _ := filepath.Glob(filepath.Join(d.dir, "old-*")); len(old) > 0 {
		t.Errorf("%v are left", old)
	}
}

func TestADeletionHoldsAfterAKillThatComesAtOnce(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, MinDisk)
	for i := range 100 {
		_ = d.Put(key(i), nil, split(content(i, 10)))
	}
	flush(t, d)
	for i := range 100 {
		d.Delete(key(i))
		gone(t, d, key(i))
	}
	// Those that are put again are not hit by the deletion, those that are not
	// written when it is killed are lost.
	for i := range 50 {
		_ = d.Put(key(i), []byte("again"), split(content(i, 20)))
	}
	kill(t, d)
	d = openDisk(t, dir, MinDisk)
	for i := range 100 {
		if o, ok := d.Get(key(i)); ok && string(o.Head) != "again" {
			t.Errorf("%d is back", i)
		}
	}
}

func TestMoreDeletionsThanTheirListHoldsAllHold(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, MinDisk)
	const n = deletionSlots + 500
	for i := range n {
		_ = d.Put(key(i), nil, nil)
	}
	flush(t, d)
	for i := range n {
		d.Delete(key(i))
	}
	kill(t, d)
	d = openDisk(t, dir, MinDisk)
	for i := range n {
		gone(t, d, key(i))
	}
}

func TestANewHeadDoesNotBringBackWhatWasDeletedOrReplaced(t *testing.T) {
	d := openDisk(t, t.TempDir(), MinDisk)
	for i, n := range []int{10, inlineMax + 10} {
		for _, flushed := range []bool{false, true} {
			_ = d.Put(key(i), []byte("one"), split(content(1, n)))
			if flushed {
				flush(t, d)
			}
			one, _ := d.Get(key(i))
			d.Delete(key(i))
			if err := d.SetHead(key(i), one, []byte("back")); !errors.Is(err, ErrLost) {
				t.Errorf("a deleted object: %v", err)
			}
			_ = d.Put(key(i), []byte("two"), split(content(2, n)))
			if err := d.SetHead(key(i), one, []byte("back")); !errors.Is(err, ErrLost) {
				t.Errorf("a replaced object: %v", err)
			}
			flush(t, d)
			check(t, d, key(i), "two", content(2, n))
		}
	}
}

func TestAHeadThatIsSetAgainAndAgainIsTheLast(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, 256<<20)
	for i, n := range []int{10, inlineMax, inlineMax + 10} {
		_ = d.Put(key(i), []byte("first"), split(content(i, n)))
		for j := range 20 {
			o, ok := d.Get(key(i))
			if !ok {
				t.Fatal("it is gone")
			}
			if err := d.SetHead(key(i), o, fmt.Append(nil, "head ", j)); err != nil {
				t.Fatal(err)
			}
			check(t, d, key(i), fmt.Sprint("head ", j), content(i, n))
			if j%5 == 0 {
				flush(t, d)
			}
		}
	}
	flush(t, d)
	kill(t, d)
	d = openDisk(t, dir, 256<<20)
	for i, n := range []int{10, inlineMax, inlineMax + 10} {
		check(t, d, key(i), "head 19", content(i, n))
	}
	noOrphans(t, d)
}

func TestAnObjectThatIsNotWrittenDoesNotLeaveTheOneBeforeIt(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, MinDisk)
	_ = d.Put(key(1), []byte("old"), split(content(1, 10)))
	flush(t, d)
	d.mu.Lock()
	d.queued += maxQueued + 1 // as if that much waited
	d.mu.Unlock()
	if err := d.Put(key(1), []byte("new"), split(content(2, 10))); err == nil {
		t.Error("it is taken")
	}
	gone(t, d, key(1))
	d.mu.Lock()
	d.queued -= maxQueued + 1
	d.mu.Unlock()
	if s := d.Stats(); s.Dropped != 1 {
		t.Errorf("%d are counted as dropped", s.Dropped)
	}
	kill(t, d)
	d = openDisk(t, dir, MinDisk)
	gone(t, d, key(1))
}

func TestADiskFilledTenTimesOverStaysInItsSize(t *testing.T) {
	const size = MinDisk
	dir := t.TempDir()
	d := openDisk(t, dir, size)
	r := rand.New(rand.NewPCG(1, 2))
	var put int64
	all := content(1, 4<<20)
	for i := 0; put < 10*size; i++ {
		n := r.IntN(40 << 10)
		switch i % 100 {
		case 0:
			n = inlineMax + r.IntN(2<<20)
		case 1, 2:
			n = r.IntN(inlineMax)
		}
		put += int64(n)
		for d.Put(key(i), []byte("head"), split(all[i:i+n])) != nil {
			flush(t, d)
		}
		if i%500 == 0 {
			d.Get(key(1)) // which keeps it
			flush(t, d)
			bytes, files := diskUse(t, dir)
			if bytes > size || files > size/minSegment+size/inlineMax+10 {
				t.Fatalf("after %d bytes it takes %d in %d files", put, bytes, files)
			}
		}
	}
	flush(t, d)
	s := d.Stats()
	if s.Bytes > size || s.Bytes < size/2 || s.Evicted == 0 {
		t.Errorf("stats: %+v", s)
	}
	noOrphans(t, d)
	if _, ok := d.Get(key(1)); !ok {
		t.Error("what was hit all the time is gone")
	}
	gone(t, d, key(3))
	closeDisk(t, d)
}

func diskUse(t testing.TB, dir string) (bytes int64, files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if fi, err := e.Info(); err == nil {
			bytes += fi.Size()
			files++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes, files
}

func TestAFolderIsForOneProcess(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, MinDisk)
	if _, err := OpenDisk(DiskConfig{Dir: dir, Size: MinDisk}); !errors.Is(err, ErrShared) {
		t.Errorf("got %v", err)
	}
	closeDisk(t, d)
	openDisk(t, dir, MinDisk)
}
