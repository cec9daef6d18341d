package edge

import (
	"crypto/tls"
	"hash/maphash"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

const (
	hotSlots = 1 << 13
	hotSeen  = 1 << 16
	// hotHead is the size in bytes of the largest head that is remembered.
	hotHead = 4 << 10
	// hotBeside is about what one takes besides its head and body.
	hotBeside = 4 << 10
	hotPart   = 8 // one may take this part of all at most
)

// HotSet answers the requests that come again and again, from a copy of what
// the store has, without the way through net/http. It outlives reloads.
type HotSet struct {
	limit int64 // of bytes
	bytes atomic.Int64
	seed  maphash.Seed
	slots [hotSlots]atomic.Pointer[hotEntry]
	// How often heads came: 24 bits of their hash, and the number of times.
	seen [hotSeen]atomic.Uint32

	mu     sync.Mutex     // held while one is put in
	order  []uint16       // slots by the time at which they were filled, each once
	queued [hotSlots]bool // is in order
}

type hotEntry struct {
	head string
	size int64
	hot  *hot
}

// NewHotSet returns an empty one, which takes limit bytes at most.
func NewHotSet(limit int64) *HotSet { return &HotSet{limit: limit, seed: maphash.MakeSeed()} }

// Answer writes the answer to the request with that head to w, if it is one
// that the set has or can make. The error is that of writing.
func (s *HotSet) Answer(d *Door, w net.Conn, head []byte) (bool, error) {
	client, ok1 := w.RemoteAddr().(*net.TCPAddr)
	listen, ok2 := w.LocalAddr().(*net.TCPAddr)
	_, secure := w.(interface{ ConnectionState() tls.ConnectionState })
	if !ok1 || !ok2 || secure || len(head) > hotHead || s.limit == 0 {
		return false, nil
	}
	from, at := plainAddr(client), netip.AddrPortFrom(listen.AddrPort().Addr().Unmap(), listen.AddrPort().Port())
	sum := maphash.Bytes(s.seed, head)
	slot := uint16(sum % hotSlots)
	e := s.slots[slot].Load()
	if e != nil && e.head == string(head) {
		if e.hot.door == d {
			if done, err := e.hot.answer(w, from, at); done {
				return true, err
			}
			if e.hot.cached.Current(d.Now()) {
				return false, nil // it is the policy's to say why
			}
		}
		s.drop(slot, e)
	} else if !s.again(sum) {
		return false, nil
	}
	h := d.newHot(head, from, at, d.Now())
	if h == nil {
		return false, nil
	}
	e = &hotEntry{head: string(head), hot: h, size: h.size() + 2*int64(len(head))}
	if e.size <= s.limit/hotPart {
		s.put(slot, e)
	}
	return h.answer(w, from, at)
}

func plainAddr(a *net.TCPAddr) netip.AddrPort {
	p := a.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
}

// again counts the head, and reports whether it came often enough to be worth
// a try, and not so often that all tries were in vain.
func (s *HotSet) again(sum uint64) bool {
	slot := &s.seen[sum>>16%hotSeen]
	tag := uint32(sum>>40) << 8
	old := slot.Load()
	n := old & 0xff
	if old&^0xff != tag {
		n = 0
	}
	if n++; n == 128 {
		n = 64
	}
	slot.Store(tag | n)
	return n > 1 && n&(n-1) == 0
}

// put puts e into its slot. The oldest go where the limit wants it.
func (s *HotSet) put(i uint16, e *hotEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.bytes.Load()+e.size > s.limit && len(s.order) > 0 {
		oldest := s.order[0]
		s.order, s.queued[oldest] = s.order[1:], false
		if old := s.slots[oldest].Swap(nil); old != nil {
			s.bytes.Add(-old.size)
		}
	}
	s.bytes.Add(e.size)
	if old := s.slots[i].Swap(e); old != nil {
		s.bytes.Add(-old.size)
	}
	if !s.queued[i] {
		s.order, s.queued[i] = append(s.order, i), true
	}
}

// drop takes e out of its slot, if it is still there.
func (s *HotSet) drop(i uint16, e *hotEntry) {
	if s.slots[i].CompareAndSwap(e, nil) {
		s.bytes.Add(-e.size)
	}
}
