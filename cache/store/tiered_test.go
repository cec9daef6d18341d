package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func newTiered(t testing.TB, dir string, memory, disk int64) (*Tiered, *Memory, *Disk) {
	t.Helper()
	m := newMemory(t, memory)
	d := openDisk(t, dir, disk)
	return NewTiered(m, d), m, d
}

func TestWhatMemoryTakesIsInBothTiersAndTheRestOnTheDiskAlone(t *testing.T) {
	s, m, d := newTiered(t, t.TempDir(), MinMemory, MinDisk)
	for i, c := range []struct {
		n        int
		inMemory bool
	}{{0, true}, {100, true}, {300 << 10, true}, {MinMemory/4 + 1, false}, {5 << 20, false}} {
		body := content(i, c.n)
		if err := s.Put(key(i), []byte("head"), split(body)); err != nil {
			t.Fatal(err)
		}
		if _, ok := m.Get(key(i)); ok != c.inMemory {
			t.Errorf("%d bytes: in memory: %v", c.n, ok)
		}
		flush(t, d)
		check(t, s, key(i), "head", body)
		check(t, d, key(i), "head", body)
		if c.inMemory {
			check(t, m, key(i), "head", body)
		}
		a, _ := s.Get(key(i))
		m.Delete(key(i))
		b, _ := s.Get(key(i))
		if a.ID != b.ID {
			t.Errorf("%d bytes: the tiers give the ids %d and %d", c.n, a.ID, b.ID)
		}
	}
	if err := s.Put(key(9), nil, split(make([]byte, MinDisk/2+1))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("what neither takes: %v", err)
	}
}

func TestALargeObjectTakesTheSmallOnesPlaceInBothTiers(t *testing.T) {
	s, m, d := newTiered(t, t.TempDir(), MinMemory, MinDisk)
	for _, flushed := range []bool{false, true} {
		_ = s.Put(key(1), []byte("small"), split(content(1, 10)))
		if flushed {
			flush(t, d)
		}
		large := content(2, 3<<20)
		if err := s.Put(key(1), []byte("large"), split(large)); err != nil {
			t.Fatal(err)
		}
		gone(t, m, key(1))
		check(t, s, key(1), "large", large)
		_ = s.Put(key(1), []byte("too large"), split(make([]byte, MinDisk/2+1)))
		gone(t, s, key(1))
	}
}

func TestWhatIsHitAgainOnTheDiskMovesUp(t *testing.T) {
	dir := t.TempDir()
	s, m, d := newTiered(t, dir, MinMemory, MinDisk)
	small, large := content(1, 1000), content(2, 300<<10)
	_ = s.Put(key(1), []byte("small"), split(small))
	_ = s.Put(key(2), []byte("large"), split(large))
	flush(t, d)
	m.Delete(key(1))
	m.Delete(key(2))
	for i := range 3 {
		check(t, s, key(1), "small", small)
		check(t, s, key(2), "large", large)
		if i == 0 {
			gone(t, m, key(1))
		}
	}
	check(t, m, key(1), "small", small)
	gone(t, m, key(2)) // it is read piece by piece, and stays where it is
}

func TestHeadsAndDeletionsHoldInBothTiers(t *testing.T) {
	dir := t.TempDir()
	s, m, d := newTiered(t, dir, MinMemory, MinDisk)
	for i, n := range []int{100, 100, 3 << 20, 3 << 20} {
		body := content(i, n)
		_ = s.Put(key(i), []byte("old"), split(body))
		flush(t, d)
		if i%2 == 1 {
			m.Delete(key(i)) // on the disk alone
		}
		o, _ := s.Get(key(i))
		if err := s.SetHead(key(i), o, []byte("new")); err != nil {
			t.Fatal(err)
		}
		check(t, s, key(i), "new", body)
		check(t, d, key(i), "new", body)
		flush(t, d)
	}
	s.Delete(key(0))
	s.Delete(key(2))
	gone(t, s, key(0))
	kill(t, d)
	s, _, _ = newTiered(t, dir, MinMemory, MinDisk)
	for i, n := range []int{100, 100, 3 << 20, 3 << 20} {
		if i%2 == 0 {
			gone(t, s, key(i))
		} else {
			check(t, s, key(i), "new", content(i, n))
		}
	}
}

func TestWhatOnlyMemoryHasIsFreshenedThere(t *testing.T) {
	s, _, d := newTiered(t, t.TempDir(), MinMemory, MinDisk)
	_ = s.Put(key(1), []byte("old"), split(content(1, 10)))
	d.Delete(key(1))
	o, _ := s.Get(key(1))
	if err := s.SetHead(key(1), o, []byte("new")); err != nil {
		t.Fatal(err)
	}
	check(t, s, key(1), "new", content(1, 10))
	s.Delete(key(1))
	if err := s.SetHead(key(1), o, []byte("back")); !errors.Is(err, ErrLost) {
		t.Errorf("a deleted object: %v", err)
	}
	gone(t, s, key(1))
}

// TestTheTiersAgreeUnderLoad lets many change and read few keys. Nobody may see
// what was deleted before they asked, or a body that is not the head's.
func TestTheTiersAgreeUnderLoad(t *testing.T) {
	s, m, d := newTiered(t, t.TempDir(), MinMemory, MinDisk)
	const keys = 20
	var floor [keys]int // the versions up to which all are deleted
	var mu [keys]sync.RWMutex
	var wg sync.WaitGroup
	end := time.Now().Add(400 * time.Millisecond)
	for w := range 6 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for v := w; time.Now().Before(end); v += 6 {
				k := r.IntN(keys)
				n := []int{0, 500, 20 << 10, 300 << 10, 1200 << 10}[r.IntN(5)]
				switch r.IntN(8) {
				case 0, 1:
					mu[k].Lock()
					_ = s.Put(key(k), fmt.Appendf(nil, "%d %d %d", k, v+100000*n, n), split(content(v, n)))
					mu[k].Unlock()
				case 2:
					mu[k].Lock()
					s.Delete(key(k))
					floor[k]++
					if _, ok := s.Get(key(k)); ok {
						t.Error("it is there after it was deleted")
					}
					mu[k].Unlock()
				case 3:
					m.Delete(key(k)) // as if it were evicted
				default:
					o, ok := s.Get(key(k))
					if !ok {
						continue
					}
					var kk, vn, size int
					fmt.Sscan(string(o.Head), &kk, &vn, &size)
					if kk != k || int64(size) != o.Size {
						t.Errorf("object %d has the head %q and %d bytes", k, o.Head, o.Size)
					}
					rd, err := o.Body.Open(0, o.Size)
					if err != nil {
						continue // replaced meanwhile
					}
					rd.Close()
					if got, err := read(t, o, 0, o.Size); err == nil && !bytes.Equal(got, content(vn-100000*size, size)) {
						t.Errorf("object %d: the body is not that of %q", k, o.Head)
					}
				}
			}
		})
	}
	wg.Wait()
	flush(t, d)
	noOrphans(t, d)
	if f := d.Stats().Faults; f != [Faults]int64{} {
		t.Errorf("faults: %v", f)
	}
}
