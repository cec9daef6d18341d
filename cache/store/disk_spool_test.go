package store

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"
)

// spool stores a body through a Spool.
func spool(t testing.TB, d *Disk, body []byte) *Spool {
	t.Helper()
	s, err := d.Create(-1)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range split(body) {
		if err := s.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestASpoolIsReadBehindAndStoredWhenItIsCommitted(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, MinDisk)
	for i, n := range []int{0, 1, blockSize, 5*blockSize + 9, 7 << 20} {
		body := content(i, n)
		s := spool(t, d, body)
		if s.Written() != int64(n) {
			t.Errorf("%d of %d bytes are written", s.Written(), n)
		}
		var got []byte
		buf := make([]byte, blockSize)
		for b := range blocks(int64(n)) {
			part, err := s.Block(b, buf)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, part...)
		}
		if !bytes.Equal(got, body) {
			t.Errorf("%d bytes: read %d behind", n, len(got))
		}
		if _, err := s.Block(blocks(int64(n)), buf); err == nil {
			t.Error("a block behind the end")
		}
		gone(t, d, key(i))
		if err := s.Commit(key(i), []byte("spooled")); err != nil {
			t.Fatal(err)
		}
		check(t, d, key(i), "spooled", body)
		s.Close()
		s.Close()
		flush(t, d)
		check(t, d, key(i), "spooled", body)
	}
	kill(t, d)
	d = openDisk(t, dir, MinDisk)
	check(t, d, key(4), "spooled", content(4, 7<<20))
	noOrphans(t, d)
}

func TestASpoolThatIsGivenUpLeavesNothing(t *testing.T) {
	d := openDisk(t, t.TempDir(), MinDisk)
	before := d.Stats().Bytes
	s := spool(t, d, content(1, 3<<20))
	s.Close()
	spool(t, d, content(1, 3<<20)).Close()
	s, err := d.Create(-1)
	if err != nil {
		t.Fatal(err)
	}
	s.GiveUp()
	if s.Append([]byte{1}) == nil || s.Commit(key(1), nil) == nil {
		t.Error("it goes on")
	}
	s.Close()
	wait(t, func() bool { return d.Stats().Bytes == before })
	noOrphans(t, d)
}

func wait(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to that")
		}
	}
}

func TestASpoolMakesRoomForItself(t *testing.T) {
	d := openDisk(t, t.TempDir(), MinDisk)
	for i := range 12 { // half more than fits
		body := content(i, 8<<20)
		s := spool(t, d, body)
		if err := s.Commit(key(i), nil); err != nil {
			t.Fatal(err)
		}
		s.Close()
		check(t, d, key(i), "", body)
		if bytes, _ := diskUse(t, d.dir); bytes > MinDisk {
			t.Fatalf("%d bytes are taken", bytes)
		}
	}
	flush(t, d)
	noOrphans(t, d)
}

func TestASpoolIsNotLargerThanOneObjectMayBe(t *testing.T) {
	d := openDisk(t, t.TempDir(), MinDisk)
	if _, err := d.Create(MaxDiskObject(MinDisk) + 1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a size that is known: %v", err)
	}
	s, err := d.Create(-1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	piece := make([]byte, SegmentSize)
	for range MaxDiskObject(MinDisk) / SegmentSize {
		if err := s.Append(piece); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Append([]byte{1}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one byte more: %v", err)
	}
}

func TestASpoolWithoutAFileIsAnErrorAndNoMore(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, MinDisk)
	if err := os.RemoveAll(dir + "/files"); err != nil {
		t.Fatal(err)
	}
	s, err := d.Create(-1)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Append([]byte{1})
	if err := s.Wait(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	s.Close()
	if d.Stats().Faults[FaultMissing] == 0 {
		t.Error("it is not counted")
	}
}
