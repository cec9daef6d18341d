package edge

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"fwdproxy/cache"
)

func TestOfTheHotOnesTheOldestGoWhenTheLimitIsReached(t *testing.T) {
	s := NewHotSet(100)
	for i := range uint16(30) {
		s.put(i, &hotEntry{size: 10})
	}
	for i := range uint16(30) {
		if there := s.slots[i].Load() != nil; there != (i >= 20) {
			t.Errorf("slot %d: %v", i, there)
		}
	}
	s.drop(25, s.slots[25].Load())
	s.put(26, &hotEntry{size: 10}) // in the place of another
	if n := s.bytes.Load(); n != 90 || s.slots[20].Load() == nil {
		t.Errorf("%d bytes are there", n)
	}
	s.put(3, &hotEntry{size: 20})
	if n := s.bytes.Load(); n != 100 || s.slots[20].Load() != nil || s.slots[21].Load() == nil || s.slots[3].Load() == nil {
		t.Errorf("%d bytes are there", n)
	}
}

func TestWhatIsHotStaysBelowTheLimitWhoeverPutsIt(t *testing.T) {
	s := NewHotSet(100)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				slot := uint16((i*7 + worker) % 40)
				s.put(slot, &hotEntry{size: int64(i % 12)})
				if e := s.slots[slot].Load(); e != nil && i%3 == 0 {
					s.drop(slot, e)
				}
			}
		})
	}
	wg.Wait()
	var sum int64
	for i := range s.slots {
		if e := s.slots[i].Load(); e != nil {
			sum += e.size
			if !s.queued[i] {
				t.Errorf("slot %d would never be emptied", i)
			}
		}
	}
	if sum != s.bytes.Load() || sum > s.limit || len(s.order) > 40 {
		t.Errorf("%d bytes are there, %d are counted; %d slots are in order", sum, s.bytes.Load(), len(s.order))
	}
}

// slowConn takes some bytes with each write, and then its time is over.
type slowConn struct {
	net.Conn
	takes []int
	got   bytes.Buffer
}

func (*slowConn) SetWriteDeadline(time.Time) error { return nil }

func (c *slowConn) Write(p []byte) (int, error) {
	if len(c.takes) == 0 {
		return c.got.Write(p)
	}
	n := min(c.takes[0], len(p))
	c.takes = c.takes[1:]
	c.got.Write(p[:n])
	if n < len(p) {
		return n, os.ErrDeadlineExceeded
	}
	return n, nil
}

func TestASlowClientGetsALargeHotBodyWhileItTakesEnoughOfIt(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 16<<10)
	h := &hot{door: &Door{Limits: DefaultLimits()}, cached: &cache.Hot{Body: body}}
	s := &spelled{head: []byte("head")}
	const all = 1 << 30
	for name, tc := range map[string]struct {
		takes []int
		whole bool
	}{
		"at once":             {nil, true},
		"in pieces":           {[]int{4, slowPiece, 2 * slowPiece, slowPiece, all}, true},
		"too little of it":    {[]int{4, slowPiece, slowPiece - 1, all}, false},
		"nothing":             {[]int{0, all}, false},
		"a part of the head":  {[]int{2, all}, false},
		"the head alone":      {[]int{4, 0, all}, false},
		"nothing of the last": {[]int{4, len(body) - 1, 0}, false},
	} {
		c := &slowConn{takes: tc.takes}
		n, err := h.send(c, s, new(scratch))
		want := append([]byte("head"), body...)
		if n != int64(c.got.Len()) || !bytes.HasPrefix(want, c.got.Bytes()) || (err == nil) != tc.whole || tc.whole && c.got.Len() != len(want) {
			t.Errorf("%s: %d of %d bytes, %v", name, n, c.got.Len(), err)
		}
	}
}

func TestALargeHotBodyGoesOutOverTCPWithoutAnAllocation(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	w, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	h := &hot{door: &Door{Limits: DefaultLimits()}, cached: &cache.Hot{Body: make([]byte, 256<<10)}}
	s, c := &spelled{head: []byte("head")}, new(scratch)
	n := testing.AllocsPerRun(50, func() {
		if _, err := h.send(w, s, c); err != nil {
			t.Fatal(err)
		}
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}
