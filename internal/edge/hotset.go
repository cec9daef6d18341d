package edge

import (
	"crypto/tls"
	"hash/maphash"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
)

const (
	hotSlots = 1 << 13
	hotSeen  = 1 << 16
	// hotHead is the size in bytes of the largest head that is remembered.
	hotHead = 4 << 10
	// hotBeside is about what one takes besides its head and body.
	hotBeside = 4 << 10
	hotTries  = 16 // to make room
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
	slot := &s.slots[sum%hotSlots]
	e := slot.Load()
	if e != nil && e.head == string(head) {
		if e.hot.door == d {
			if done, err := e.hot.answer(w, from, at); done {
				return true, err
			}
			if e.hot.cached.Current(d.Now()) {
				return false, nil // it is the policy's to say why
			}
		}
		s.replace(slot, e, nil)
	} else if !s.again(sum) {
		return false, nil
	}
	h := d.newHot(head, from, at, d.Now())
	if h == nil {
		return false, nil
	}
	e = &hotEntry{head: string(head), hot: h, size: hotBeside + 2*int64(len(head)) + 2*int64(len(h.cached.Body))}
	if e.size <= s.limit/hotTries && s.room(e.size) {
		s.replace(slot, slot.Load(), e)
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

// replace puts e, which may be nil, in the place of old, if that is still
// there.
func (s *HotSet) replace(slot *atomic.Pointer[hotEntry], old, e *hotEntry) {
	if !slot.CompareAndSwap(old, e) {
		old = nil
		if e != nil {
			s.bytes.Add(-e.size)
		}
	}
	if old != nil {
		s.bytes.Add(-old.size)
	}
}

// room takes size bytes of the limit, for which others may have to go.
func (s *HotSet) room(size int64) bool {
	for range hotTries {
		if s.bytes.Add(size) <= s.limit {
			return true
		}
		s.bytes.Add(-size)
		slot := &s.slots[rand.N(hotSlots)]
		if e := slot.Load(); e != nil {
			s.replace(slot, e, nil)
		}
	}
	return false
}
