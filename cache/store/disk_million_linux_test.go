package store

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// resident returns the kilobytes of memory that are the process's own, and
// those that stand for a file.
func resident() (anonymous, file int64) {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		_, _ = fmt.Sscanf(line, "RssAnon: %d kB", &anonymous)
		_, _ = fmt.Sscanf(line, "RssFile: %d kB", &file)
	}
	return anonymous, file
}

// forgetPages has the kernel drop what it keeps of the files in memory.
func forgetPages(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := f.Sync(); err != nil {
			return err
		}
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestAMillionObjects fills a tier with a million responses of a kilobyte, ends
// without a word, and measures how soon the next run has its first hit, with the files in the
// kernel's memory and without. It runs
// when STORE_MILLION says how many objects there shall be.
func TestAMillionObjects(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("STORE_MILLION"))
	if n == 0 {
		t.Skip("STORE_MILLION=1000000 runs it")
	}
	dir := t.TempDir()
	const limit = 4 << 30
	d := openDisk(t, dir, limit)
	head := content(1, 400)
	body := split(content(2, 1<<10))
	began := time.Now()
	r := rand.New(rand.NewPCG(7, 7))
	for range n {
		k := randomKey(r)
		for d.Put(k, head, body) != nil {
			time.Sleep(time.Millisecond)
		}
	}
	flush(t, d)
	took := time.Since(began)
	s := d.Stats()
	t.Logf("stored %d in %v, %.0f a second; %d bytes, of these %d of the index (%d an object), %d segments",
		s.Objects, took.Round(time.Millisecond), float64(n)/took.Seconds(), s.Bytes, d.indexed.Load(), d.indexed.Load()/s.Objects, s.Segments)
	kill(t, d)
	reopen := func(from string) {
		t.Helper()
		began := time.Now()
		d = openDisk(t, dir, limit)
		opened := time.Since(began)
		r = rand.New(rand.NewPCG(7, 7))
		if _, ok := d.Get(randomKey(r)); !ok {
			t.Fatal("the first is not there")
		}
		first := time.Since(began)
		t.Logf("%s: open after %v, the first hit after %v", from, opened.Round(time.Microsecond), first.Round(time.Microsecond))
		if first > time.Second {
			t.Errorf("%s: the first hit took %v", from, first)
		}
	}
	forgetPages(t, dir)
	reopen("from the disk")
	kill(t, d)
	d = nil
	debug.FreeOSMemory()
	own, file := resident()
	reopen("from the page cache")
	const sample = 100000
	times := make([]time.Duration, 0, sample)
	for range min(n-1, sample) {
		k := randomKey(r)
		at := time.Now()
		if _, ok := d.Get(k); !ok {
			t.Fatal("not there")
		}
		times = append(times, time.Since(at))
	}
	slices.Sort(times)
	t.Logf("a hit takes %v at the median, %v at 99%%, %v at most", times[len(times)/2], times[len(times)*99/100], times[len(times)-1])
	times = nil
	debug.FreeOSMemory()
	ownNow, fileNow := resident()
	t.Logf("since before it was opened: %d KiB more of its own memory, %d KiB more mapped from the index", ownNow-own, fileNow-file)
}
