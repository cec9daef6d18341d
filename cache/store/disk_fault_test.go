package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stocked returns a folder with an object of each size, closed in order.
func stocked(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	d := openDisk(t, dir, MinDisk)
	stock(t, d)
	closeDisk(t, d)
	return dir
}

func stock(t testing.TB, d *Disk) {
	t.Helper()
	for i, n := range sizes {
		if err := d.Put(key(i), fmt.Append(nil, "head ", i), split(content(i, n))); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, d)
}

// audit reads all that is there, and fails on a wrong byte. It returns how many
// objects could be read whole.
func audit(t testing.TB, s Store) (whole int) {
	t.Helper()
	for i, n := range sizes {
		o, ok := s.Get(key(i))
		if !ok {
			continue
		}
		want := content(i, n)
		if string(o.Head) != fmt.Sprint("head ", i) || o.Size != int64(n) {
			t.Fatalf("object %d: head %q, size %d", i, o.Head, o.Size)
		}
		r, err := o.Body.Open(0, o.Size)
		if err != nil {
			if err != ErrLost {
				t.Fatalf("object %d: %v", i, err)
			}
			continue
		}
		var got bytes.Buffer
		_, err = io.Copy(&got, r)
		r.Close()
		if err == nil && got.Len() == n {
			whole++
		} else if err == nil {
			t.Fatalf("object %d ends after %d of %d bytes without an error", i, got.Len(), n)
		}
		if !bytes.Equal(got.Bytes(), want[:got.Len()]) {
			t.Fatalf("object %d has a wrong byte", i)
		}
	}
	return whole
}

// flip changes one bit of a file.
func flip(t testing.TB, path string, bit int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], bit/8); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << (bit % 8)
	if _, err := f.WriteAt(b[:], bit/8); err != nil {
		t.Fatal(err)
	}
}

func files(t testing.TB, dir, sub string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, sub, "*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no files in %s: %v", sub, err)
	}
	return names
}

func TestAFlippedBitOfARecordIsAMissAndNeverAWrongByte(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, MinDisk)
	n := 3*blockSize + 100
	want := content(1, n)
	if err := d.Put(key(1), []byte("the head"), split(want)); err != nil {
		t.Fatal(err)
	}
	flush(t, d)
	p, _ := d.find(key(1))
	path := segmentPath(dir, p.seg)
	offsets := []int64{}
	for at := range p.front() { // every byte of the fixed part, the head and the sums
		offsets = append(offsets, at)
	}
	for at := p.front(); at < p.length(); at += 4099 {
		offsets = append(offsets, at)
	}
	offsets = append(offsets, p.length()-1)
	for _, at := range offsets {
		bit := (int64(p.off)+at)*8 + at%8
		flip(t, path, bit)
		s := d.segs.acquire(p.seg)
		o, err := d.load(s, key(1), p)
		s.release()
		if err == nil {
			var r io.ReadCloser
			if r, err = o.Body.Open(0, o.Size); err == nil {
				r.Close()
			}
		}
		if err == nil {
			t.Errorf("a flip at %d of %d is not seen", at, p.length())
		}
		flip(t, path, bit)
	}
	// Ranges read what they need: damage elsewhere does them no harm, theirs does.
	flush(t, d)
	if err := d.Put(key(1), []byte("the head"), split(want)); err != nil {
		t.Fatal(err)
	}
	flush(t, d)
	p, _ = d.find(key(1))
	flip(t, segmentPath(dir, p.seg), (int64(p.off)+p.front()+2*blockSize+5)*8)
	o, _ := d.Get(key(1))
	if got, err := read(t, o, 10, blockSize); err != nil || !bytes.Equal(got, want[10:10+blockSize]) {
		t.Errorf("a range beside the damage: %v", err)
	}
	if _, err := read(t, o, 3*blockSize-1, 1); !errors.Is(err, ErrLost) {
		t.Errorf("a range in the damage: %v", err)
	}
	flush(t, d)
	gone(t, d, key(1))
	if d.Stats().Faults[FaultChecksum] == 0 {
		t.Error("it is not counted")
	}
}

func TestAFlippedBitOfAFileOfItsOwnEndsTheBodyBeforeIt(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, MinDisk)
	n := 10*blockSize + 100
	want := content(1, n)
	for _, at := range []int64{0, 1, blockSize - 1, blockSize, 5*blockSize + 7, int64(n) - 1, int64(n), int64(n) + 5, fileSize(int64(n)) - 1} {
		if err := d.Put(key(1), nil, split(want)); err != nil {
			t.Fatal(err)
		}
		flush(t, d)
		p, _ := d.find(key(1))
		flip(t, filePath(dir, p.id), at*8+at%8)
		o, ok := d.Get(key(1))
		if !ok {
			t.Fatal("not there")
		}
		good := at / blockSize * blockSize
		for _, how := range []string{"read", "copied"} {
			r, err := o.Body.Open(0, o.Size)
			if at < blockSize || at >= int64(n) {
				if err != ErrLost {
					t.Errorf("flip at %d: opened with %v", at, err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if how == "read" {
				_, err = io.Copy(&got, struct{ io.Reader }{r})
			} else {
				_, err = io.Copy(struct{ io.Writer }{&got}, r)
			}
			r.Close()
			if err != ErrLost || !bytes.Equal(got.Bytes(), want[:good]) {
				t.Errorf("flip at %d, %s: %d bytes, %v; want %d", at, how, got.Len(), err, good)
			}
		}
		flush(t, d)
		gone(t, d, key(1))
	}
}

func TestDamageBetweenTwoRunsIsMissesAndNeverAWrongByte(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"a segment is missing":      func(t *testing.T, dir string) { os.Remove(files(t, dir, "segments")[0]) },
		"all segments are missing":  func(t *testing.T, dir string) { os.RemoveAll(filepath.Join(dir, "segments")) },
		"all files are missing":     func(t *testing.T, dir string) { os.RemoveAll(filepath.Join(dir, "files")) },
		"a file is missing":         func(t *testing.T, dir string) { os.Remove(files(t, dir, "files")[0]) },
		"a segment is cut off":      func(t *testing.T, dir string) { os.Truncate(files(t, dir, "segments")[0], 300<<10) },
		"a segment is empty":        func(t *testing.T, dir string) { os.Truncate(files(t, dir, "segments")[0], 0) },
		"a file is cut off":         func(t *testing.T, dir string) { os.Truncate(files(t, dir, "files")[0], 100<<10) },
		"the index is missing":      func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "index")) },
		"the index is empty":        func(t *testing.T, dir string) { os.Truncate(filepath.Join(dir, "index"), 0) },
		"the index is cut off":      func(t *testing.T, dir string) { os.Truncate(filepath.Join(dir, "index"), 3*4096) },
		"the index is garbage":      func(t *testing.T, dir string) { os.WriteFile(filepath.Join(dir, "index"), content(1, 100<<10), 0o600) },
		"the index is text":         func(t *testing.T, dir string) { os.WriteFile(filepath.Join(dir, "index"), []byte("index\n"), 0o600) },
		"the state is missing":      func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "state")) },
		"the state is garbage":      func(t *testing.T, dir string) { os.WriteFile(filepath.Join(dir, "state"), content(1, 57), 0o600) },
		"the state is another's":    func(t *testing.T, dir string) { writeState(t, dir, stateVersion+1, true) },
		"the machine stopped":       func(t *testing.T, dir string) { writeState(t, dir, stateVersion, false) },
		"the deletions are garbage": func(t *testing.T, dir string) { os.WriteFile(filepath.Join(dir, "deletions"), content(1, 9999), 0o600) },
		"a file is a folder":        func(t *testing.T, dir string) { f := files(t, dir, "files")[0]; os.Remove(f); os.Mkdir(f, 0o700) },
		"strangers lie in the folder": func(t *testing.T, dir string) {
			os.WriteFile(filepath.Join(dir, "segments", "x"), nil, 0o600)
			os.WriteFile(filepath.Join(dir, "files", "ffff"), nil, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := stocked(t)
			damage(t, dir)
			d := openDisk(t, dir, MinDisk)
			before := audit(t, d)
			flush(t, d)
			if after := audit(t, d); after != before {
				t.Errorf("%d whole objects, then %d", before, after)
			}
			switch name {
			case "the state is missing", "the state is garbage", "the state is another's", "the machine stopped":
				if before != 0 {
					t.Errorf("%d objects are trusted", before)
				}
			case "the deletions are garbage", "strangers lie in the folder":
				if before != len(sizes) {
					t.Errorf("%d objects of %d are there", before, len(sizes))
				}
			}
			stock(t, d)
			if n := audit(t, d); n != len(sizes) {
				t.Errorf("it stores %d of %d objects afterwards", n, len(sizes))
			}
		})
	}
}

// writeState writes a state that is whole, of another boot.
func writeState(t testing.TB, dir string, version byte, closed bool) {
	t.Helper()
	b := make([]byte, stateSize-4)
	b[0], b[4] = version, 7
	if closed {
		b[12] = 1
	}
	copy(b[13:], "another-boot")
	sum := checksum(b)
	b = append(b, byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24))
	if err := os.WriteFile(filepath.Join(dir, "state"), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAnyFlippedBitsOfTheIndexAreMissesAndNeverAWrongByte(t *testing.T) {
	master := stocked(t)
	image := map[string][]byte{}
	for _, name := range []string{"index", "state", "deletions"} {
		b, err := os.ReadFile(filepath.Join(master, name))
		if err != nil {
			t.Fatal(err)
		}
		image[name] = b
	}
	r := rand.New(rand.NewPCG(3, 4))
	trials := 12
	if os.Getenv("STORE_KILLS") != "" {
		trials = 1000
	}
	survived := 0
	for i := range trials {
		dir := t.TempDir()
		for name, b := range image {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, sub := range []string{"segments", "files"} {
			if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
				t.Fatal(err)
			}
			for _, f := range files(t, master, sub) {
				if err := os.Link(f, filepath.Join(dir, sub, filepath.Base(f))); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range 1 + i%3 {
			page := r.Int64N(int64(len(image["index"])) / 4096)
			at := page*4096 + r.Int64N(4096)
			if r.IntN(2) == 0 {
				at = page*4096 + r.Int64N(200) // where the structure is
			}
			flip(t, filepath.Join(dir, "index"), at*8+r.Int64N(8))
		}
		d := openDisk(t, dir, MinDisk)
		if audit(t, d) > 0 {
			survived++
		}
		// The writer meets the damage as well. It appends to no segment of the
		// master's: each is linked, and holds what other trials read.
		d.Delete(key(i % len(sizes)))
		flush(t, d)
		audit(t, d)
		closeDisk(t, d)
	}
	t.Logf("%d of %d still had something to read", survived, trials)
}

func TestDamageOfTheIndexWhileItRunsBeginsAgainEmpty(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, MinDisk)
	stock(t, d)
	if err := os.Truncate(filepath.Join(dir, "index"), 0); err != nil {
		t.Fatal(err)
	}
	audit(t, d) // the memory map faults
	d.Delete(key(1))
	flush(t, d)
	flush(t, d)
	stock(t, d)
	if n := audit(t, d); n != len(sizes) {
		t.Errorf("it stores %d of %d objects afterwards", n, len(sizes))
	}
	if d.Stats().Faults[FaultIndex] == 0 {
		t.Error("it is not counted")
	}
	noOrphans(t, d)
}

func TestAFolderThatGoesAwayIsMissesOnceAndNoMore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	d := openDisk(t, dir, MinDisk)
	stock(t, d)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if n := audit(t, d); n == 0 {
		t.Error("what is open is gone")
	}
	for i := range 40 { // more than the segment that is open takes
		_ = d.Put(key(1000+i), []byte("head"), split(content(i, 100<<10)))
	}
	flush(t, d)
	for i := range 40 {
		if o, ok := d.Get(key(1000 + i)); ok {
			if got, err := read(t, o, 0, o.Size); err == nil && !bytes.Equal(got, content(i, 100<<10)) {
				t.Error("a wrong byte")
			}
		}
	}
	if d.Stats().Faults[FaultMissing] == 0 {
		t.Errorf("it is not counted: %v", d.Stats().Faults)
	}
	_ = d.Close(time.Minute)
	d = openDisk(t, dir, MinDisk)
	if n := audit(t, d); n != 0 {
		t.Errorf("%d objects are back", n)
	}
}

func TestWithoutTheRightToWriteItDoesNotStart(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may write everywhere")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o700)
	if _, err := OpenDisk(DiskConfig{Dir: dir, Size: MinDisk}); !errors.Is(err, os.ErrPermission) {
		t.Errorf("got %v", err)
	}
}

// limited runs one test again in a process that cannot make a file longer than
// a few blocks: the nearest to a full disk that needs no rights.
func limited(t *testing.T, kib int) bool {
	t.Helper()
	if os.Getenv("STORE_LIMITED") == t.Name() {
		return true
	}
	cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf("ulimit -f %d; exec \"$0\" \"$@\"", kib*2), os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "STORE_LIMITED="+t.Name(), "GOCOVERDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS") {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

func TestAFullDiskIsMissesThatAreCounted(t *testing.T) {
	if !limited(t, 512) {
		return
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil || limit.Cur > 1<<20 {
		t.Fatalf("the limit is %d, %v", limit.Cur, err)
	}
	dir := t.TempDir()
	d := openDisk(t, dir, MinDisk)
	for round := range 3 {
		for i := range 30 {
			_ = d.Put(key(i), fmt.Append(nil, "round ", round), split(content(100*round+i, 60<<10)))
		}
		flush(t, d)
		for i := range 30 {
			o, ok := d.Get(key(i))
			if !ok {
				continue
			}
			got, err := read(t, o, 0, o.Size)
			if err == nil && (string(o.Head) != fmt.Sprint("round ", round) || !bytes.Equal(got, content(100*round+i, 60<<10))) {
				t.Fatalf("round %d: object %d is of another: %s", round, i, o.Head)
			}
		}
	}
	if err := d.Put(key(99), nil, split(content(1, 1<<20))); err != nil {
		t.Fatal(err)
	}
	flush(t, d)
	gone(t, d, key(99))
	for i := range 30 {
		d.Delete(key(i))
		gone(t, d, key(i))
	}
	s := d.Stats()
	if s.Faults[FaultFull] == 0 || s.Dropped == 0 || s.Off {
		t.Errorf("stats: %+v", s)
	}
}
