package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
)

// modelObject is what must be under a key, if anything is.
type modelObject struct{ head, body []byte }

// FuzzMemoryAgainstAModel does what the input says, two bytes a step, on a
// small Memory that is always full. It may have lost anything, but never has
// what was deleted, an older head or another body.
func FuzzMemoryAgainstAModel(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 3 {
		in := make([]byte, 400)
		for i := range in {
			in[i] = byte(r.Uint32())
		}
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		m := newMemory(t, MinMemory)
		model := map[Key]modelObject{}
		sizes := []int{0, 1, 900, 40_000, SegmentSize - 30, SegmentSize, 3*SegmentSize + 5, MinMemory / 5}
		for i := 0; i+1 < min(len(in), 500); i += 2 {
			k := key(int(in[i+1] % 24))
			switch op := in[i] % 8; op {
			case 0, 1, 2:
				o := modelObject{binary.LittleEndian.AppendUint32(nil, uint32(i)), content(i, sizes[in[i]/8%8])}
				if err := m.Put(k, o.head, split(o.body)); err != nil {
					t.Fatal(err)
				}
				model[k] = o
			case 3:
				m.Delete(k)
				delete(model, k)
			case 4:
				head := binary.LittleEndian.AppendUint32(nil, uint32(i))
				if o, ok := m.Get(k); ok {
					if err := m.SetHead(k, o, head); err != nil {
						t.Fatal(err)
					}
					model[k] = modelObject{head, model[k].body}
				}
			default:
				o, ok := m.Get(k)
				if !ok {
					continue
				}
				want, there := model[k]
				if !there || !bytes.Equal(o.Head, want.head) || o.Size != int64(len(want.body)) {
					t.Fatalf("step %d: a head %x of %d, want %x (%v)", i, o.Head, o.Size, want.head, there)
				}
				if got, err := read(t, o, 0, o.Size); !errors.Is(err, ErrLost) && (err != nil || !bytes.Equal(got, want.body)) {
					t.Fatalf("step %d: a wrong body, %v", i, err)
				}
			}
		}
	})
}

func TestSetHeadBringsNothingBack(t *testing.T) {
	m := newMemory(t, MinMemory)
	for _, n := range []int{10, 200 << 10} {
		if err := m.Put(key(1), []byte("a"), split(content(1, n))); err != nil {
			t.Fatal(err)
		}
		o, _ := m.Get(key(1))
		m.Delete(key(1))
		if err := m.SetHead(key(1), o, []byte("b")); err != ErrLost {
			t.Errorf("after Delete: %v", err)
		}
		if err := m.Put(key(1), []byte("c"), nil); err != nil {
			t.Fatal(err)
		}
		if err := m.SetHead(key(1), o, []byte("b")); err != ErrLost {
			t.Errorf("after another Put: %v", err)
		}
		if o, ok := m.Get(key(1)); !ok || string(o.Head) != "c" {
			t.Errorf("got %v %q", ok, o.Head)
		}
	}
}

// Each key has one writer, which knows what must not be there; all others
// push things around.
func TestWithManyWritersNothingComesBackAfterDelete(t *testing.T) {
	m := newMemory(t, MinMemory)
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 9))
			version := map[int]byte{}
			for step := range 300 {
				i := g*8 + r.IntN(8)
				k := key(i)
				switch r.IntN(4) {
				case 0:
					version[i] = byte(step%250 + 1)
					if err := m.Put(k, []byte{version[i]}, split(content(i, r.IntN(4)*50_000))); err != nil {
						t.Error(err)
					}
				case 1:
					m.Delete(k)
					version[i] = 0
				default:
					if o, ok := m.Get(k); ok && (version[i] == 0 || o.Head[0] != version[i]) {
						t.Errorf("key %d: version %d, want %d", i, o.Head[0], version[i])
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestWhatIsOnItsWayIsThereUntilItIsDeletedOrReplaced(t *testing.T) {
	m := newMemory(t, MinMemory)
	k := key(1)
	name := string(k[:])
	leave := func() { // as when its queue has no more room
		if err := m.Put(k, []byte("old"), split([]byte("body"))); err != nil {
			t.Fatal(err)
		}
		e, _, _ := m.q.get(name)
		if m.q.small.Delete(name) != nil && m.q.main.Delete(name) != nil {
			t.Fatal("it is nowhere")
		}
		if !m.q.transit.take(k, idOf(e), true, true, true, name, e) {
			t.Fatal("it is not taken")
		}
	}
	for what, c := range map[string]struct {
		do   func()
		want string
	}{
		"nothing": {func() {}, "old"},
		"Delete":  {func() { m.Delete(k) }, ""},
		"Put":     {func() { _ = m.Put(k, []byte("new"), nil) }, "new"},
		"SetHead": {func() { o, _ := m.Get(k); _ = m.SetHead(k, o, []byte("newer")) }, "newer"},
	} {
		leave()
		if o, ok := m.Get(k); !ok || string(o.Head) != "old" {
			t.Errorf("%s: on its way: %v %q", what, ok, o.Head)
		}
		c.do()
		m.q.settle(1 << 20)
		if o, ok := m.Get(k); ok != (c.want != "") || string(o.Head) != c.want {
			t.Errorf("after %s: %v %q, want %q", what, ok, o.Head, c.want)
		}
	}
}

func TestAStraySegmentLeavesTheObjectThatReplacedItsOwn(t *testing.T) {
	m := newMemory(t, MinMemory)
	body := content(2, 300<<10)
	if err := m.Put(key(1), []byte("new"), split(body)); err != nil {
		t.Fatal(err)
	}
	o, _ := m.Get(key(1))
	for _, stays := range []bool{true, false} {
		m.q.transit.take(key(1), o.ID-1, false, stays, false, segmentKey(key(1), o.ID-1, 3), make([]byte, SegmentSize))
		m.q.settle(1 << 20)
		if o, ok := m.Get(key(1)); !ok {
			t.Error("the new object went")
		} else if got, err := read(t, o, 0, o.Size); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
}
