package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
)

func newMemory(t testing.TB, size int64) *Memory {
	t.Helper()
	m, err := NewMemory(size)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func key(n int) Key {
	var k Key
	binary.LittleEndian.PutUint64(k[:], uint64(n))
	return k
}

// content is n bytes that tell where they belong.
func content(seed, n int) []byte {
	var whole [32]byte
	binary.LittleEndian.PutUint64(whole[:], uint64(seed))
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(whole).Read(b) // it never fails
	return b
}

func split(b []byte) [][]byte {
	var out [][]byte
	for len(b) > SegmentSize {
		out, b = append(out, b[:SegmentSize]), b[SegmentSize:]
	}
	if len(b) > 0 {
		out = append(out, b)
	}
	return out
}

func read(t testing.TB, o Object, off, n int64) ([]byte, error) {
	t.Helper()
	r, err := o.Body.Open(off, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestAnObjectIsReadAsItWasPut(t *testing.T) {
	m := newMemory(t, 64<<20)
	for i, n := range []int{0, 1, 1000, SegmentSize - 100, SegmentSize - 1, SegmentSize, SegmentSize + 1, 3 * SegmentSize, 1<<20 - 1, 1<<20 + 1, 5<<20 + 7} {
		body, head := content(i, n), fmt.Append(nil, "head ", i)
		if err := m.Put(key(i), head, split(body)); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		o, ok := m.Get(key(i))
		if !ok || !bytes.Equal(o.Head, head) || o.Size != int64(n) {
			t.Fatalf("%d bytes: got %v, head %q, size %d", n, ok, o.Head, o.Size)
		}
		for _, s := range [][2]int{{0, n}, {n, 0}, {0, 0}, {0, min(n, 1)}, {n / 2, n - n/2}, {n / 3, n / 3}, {max(0, n-1), min(n, 1)}, {min(n, SegmentSize), n - min(n, SegmentSize)}} {
			got, err := read(t, o, int64(s[0]), int64(s[1]))
			if err != nil || !bytes.Equal(got, body[s[0]:s[0]+s[1]]) {
				t.Errorf("%d bytes: %d from %d: %d bytes, %v", n, s[1], s[0], len(got), err)
			}
		}
		for _, s := range [][2]int64{{-1, 1}, {0, int64(n) + 1}, {int64(n) + 1, 0}, {1, -1}} {
			if _, err := o.Body.Open(s[0], s[1]); err == nil {
				t.Errorf("%d bytes: %d from %d is accepted", n, s[1], s[0])
			}
		}
	}
	if _, ok := m.Get(key(99)); ok {
		t.Error("an object that was never put is there")
	}
}

func TestPutReplacesAndDeleteRemoves(t *testing.T) {
	m := newMemory(t, 16<<20)
	old, next := content(1, 200<<10), content(2, 100<<10)
	for _, b := range [][]byte{old, next} {
		if err := m.Put(key(1), nil, split(b)); err != nil {
			t.Fatal(err)
		}
	}
	o, _ := m.Get(key(1))
	if got, err := read(t, o, 0, o.Size); err != nil || !bytes.Equal(got, next) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	m.Delete(key(1))
	m.Delete(key(1))
	if _, ok := m.Get(key(1)); ok {
		t.Error("it is still there")
	}
}

func TestAReaderKeepsItsObjectWhenAnotherTakesThePlace(t *testing.T) {
	m := newMemory(t, 32<<20)
	old := content(1, 3<<20)
	if err := m.Put(key(1), nil, split(old)); err != nil {
		t.Fatal(err)
	}
	o, _ := m.Get(key(1))
	r, err := o.Body.Open(0, o.Size)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Put(key(1), nil, split(content(2, 3<<20))); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, old) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestSetHeadLeavesTheBodyAlone(t *testing.T) {
	m := newMemory(t, 16<<20)
	for _, n := range []int{0, 10, 300 << 10} {
		body := content(n, n)
		if err := m.Put(key(n), []byte("old"), split(body)); err != nil {
			t.Fatal(err)
		}
		o, _ := m.Get(key(n))
		if err := m.SetHead(key(n), o, []byte("a new head")); err != nil {
			t.Fatal(err)
		}
		again, ok := m.Get(key(n))
		if !ok || string(again.Head) != "a new head" || again.ID != o.ID || again.Size != int64(n) {
			t.Fatalf("got %v %+v", ok, again)
		}
		if got, err := read(t, again, 0, again.Size); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
		if m.SetHead(key(n), o, make([]byte, MaxHead+1)) != ErrTooLarge {
			t.Error("an endless head is accepted")
		}
	}
}

// loseSegment removes one segment of the object as eviction would.
func loseSegment(t *testing.T, m *Memory, k Key, i int) {
	t.Helper()
	o, ok := m.Get(k)
	if !ok {
		t.Fatal("no object")
	}
	sk := segmentKey(k, o.ID, i)
	if m.q.small.Delete(sk) != nil && m.q.main.Delete(sk) != nil {
		t.Fatal("no segment")
	}
}

func TestALostSegmentIsSeenBeforeTheFirstByteOfASmallBody(t *testing.T) {
	m := newMemory(t, 32<<20)
	if err := m.Put(key(1), nil, split(content(1, 512<<10))); err != nil {
		t.Fatal(err)
	}
	loseSegment(t, m, key(1), 7)
	o, _ := m.Get(key(1))
	if _, err := o.Body.Open(0, o.Size); !errors.Is(err, ErrLost) {
		t.Errorf("got %v", err)
	}
	if _, ok := m.Get(key(1)); ok {
		t.Error("what cannot be read is still there")
	}
}

func TestALostSegmentEndsALargeBodyWithAnErrorAndNoWrongByte(t *testing.T) {
	m := newMemory(t, 32<<20)
	body := content(1, 4<<20)
	if err := m.Put(key(1), nil, split(body)); err != nil {
		t.Fatal(err)
	}
	loseSegment(t, m, key(1), 40)
	o, _ := m.Get(key(1))
	got, err := read(t, o, 0, o.Size)
	if !errors.Is(err, ErrLost) || !bytes.Equal(got, body[:40*SegmentSize]) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if _, ok := m.Get(key(1)); ok {
		t.Error("what cannot be read is still there")
	}
}

func TestALostSegmentOfAReplacedObjectLeavesTheNewOne(t *testing.T) {
	m := newMemory(t, 32<<20)
	if err := m.Put(key(1), nil, split(content(1, 200<<10))); err != nil {
		t.Fatal(err)
	}
	o, _ := m.Get(key(1))
	loseSegment(t, m, key(1), 1)
	if err := m.Put(key(1), nil, split(content(2, 200<<10))); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Body.Open(0, o.Size); !errors.Is(err, ErrLost) {
		t.Errorf("got %v", err)
	}
	if _, ok := m.Get(key(1)); !ok {
		t.Error("the new object went with the old one")
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	m := newMemory(t, MinMemory)
	if err := m.Put(key(1), nil, split(make([]byte, MinMemory/4+1))); err != ErrTooLarge {
		t.Errorf("a body: %v", err)
	}
	if err := m.Put(key(1), make([]byte, MaxHead+1), nil); err != ErrTooLarge {
		t.Errorf("a head: %v", err)
	}
	if err := m.Put(key(1), nil, [][]byte{{1}, {2}}); err == nil {
		t.Error("a short segment in the middle is accepted")
	}
	if err := m.Put(key(1), make([]byte, MaxHead), split(content(1, MinMemory/4))); err != nil {
		t.Errorf("what fits: %v", err)
	}
}

func TestTheLargestObjectFitsNextToItself(t *testing.T) {
	for _, size := range []int64{MinMemory, 16 << 20} {
		m := newMemory(t, size)
		body := content(1, int(MaxObject(size)))
		for i := range 2 {
			if err := m.Put(key(i), []byte("h"), split(body)); err != nil {
				t.Fatal(err)
			}
		}
		o, ok := m.Get(key(1))
		if !ok {
			t.Fatalf("%d: it is not there", size)
		}
		if got, err := read(t, o, 0, o.Size); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d: got %d bytes, %v", size, len(got), err)
		}
	}
}

func TestManyAtOnceReadWholeObjectsOrNone(t *testing.T) {
	m := newMemory(t, MinMemory)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 3))
			for range 80 {
				i := r.IntN(30)
				n := 1 + i*7001
				switch r.IntN(5) {
				case 0:
					if err := m.Put(key(i), []byte{byte(i)}, split(content(i, n))); err != nil {
						t.Error(err)
					}
				case 1:
					m.Delete(key(i))
				default:
					o, ok := m.Get(key(i))
					if !ok {
						continue
					}
					got, err := read(t, o, 0, o.Size)
					if err == nil && (!bytes.Equal(got, content(i, n)) || o.Head[0] != byte(i)) {
						t.Errorf("object %d is not itself", i)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestSizesBelowTheLeastAreAnErrorAndZeroIsOff(t *testing.T) {
	if _, err := NewMemory(MinMemory - 1); err == nil {
		t.Error("too small a size is accepted")
	}
	m := newMemory(t, 0)
	if err := m.Put(key(1), nil, nil); err != ErrOff {
		t.Error(err)
	}
	if err := m.SetHead(key(1), Object{}, nil); err != ErrOff {
		t.Error(err)
	}
	m.Delete(key(1))
	if _, ok := m.Get(key(1)); ok || m.Stats() != (Stats{}) {
		t.Error("a store that is off has something")
	}
}

func TestAnEntryThatIsDamagedIsNoObject(t *testing.T) {
	m := newMemory(t, MinMemory)
	k := key(1)
	for _, e := range [][]byte{
		nil, {1}, make([]byte, entryPrefix),
		append(prefix(layoutInline, 1, 5, []byte("h"), 0), "abc"...),
		prefix(3, 1, 0, nil, 0),
		prefix(layoutInline, 1, -1, nil, 0),
		prefix(layoutInline, 1, 0, []byte("head"), 0)[:entryPrefix+2],
	} {
		if err := m.q.main.Set(string(k[:]), e); err != nil {
			t.Fatal(err)
		}
		if _, ok := m.Get(k); ok {
			t.Errorf("%x is read as an object", e)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	for _, n := range []int{1 << 10, 32 << 10} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := newMemory(b, 64<<20)
			if err := m.Put(key(1), make([]byte, 400), split(content(1, n))); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := m.Get(key(1)); !ok {
					b.Fatal("lost")
				}
			}
		})
	}
}

// BenchmarkGetParallel is for -cpu 1,2: hits share no lock.
func BenchmarkGetParallel(b *testing.B) {
	m := newMemory(b, 64<<20)
	const n = 1024
	for i := range n {
		if err := m.Put(key(i), make([]byte, 400), split(content(1, 1<<10))); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r := rand.New(rand.NewPCG(rand.Uint64(), 1))
		for pb.Next() {
			if _, ok := m.Get(key(r.IntN(n))); !ok {
				b.Error("lost")
			}
		}
	})
}

func BenchmarkPut(b *testing.B) {
	for _, n := range []int{1 << 10, 32 << 10, 1 << 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := newMemory(b, 64<<20)
			body, head, i := split(content(1, n)), make([]byte, 400), 0
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if err := m.Put(key(i), head, body); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

// BenchmarkBigcache is what BenchmarkGetParallel pays to bigcache alone.
func BenchmarkBigcache(b *testing.B) {
	m := newMemory(b, 64<<20)
	var keys [1024]string
	for i := range keys {
		k := key(i)
		keys[i] = string(k[:])
		if err := m.q.main.Set(keys[i], make([]byte, 1424+entryPrefix)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r := rand.New(rand.NewPCG(rand.Uint64(), 1))
		for pb.Next() {
			if _, err := m.q.main.Get(keys[r.IntN(len(keys))]); err != nil {
				b.Error(err)
			}
		}
	})
}
