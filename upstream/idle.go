package upstream

import (
	"net/netip"
	"sync"
	"time"
)

// idleSet keeps connections between requests: the latest used first, bounded
// by key and in all.
type idleSet struct {
	max, maxPerKey int
	keep           time.Duration

	mu     sync.Mutex
	byKey  map[string][]*conn // the latest last
	count  int
	closed bool
	sweep  *time.Timer // runs while count > 0
}

func newIdleSet(most, perKey int, keep time.Duration) *idleSet {
	return &idleSet{max: most, maxPerKey: perKey, keep: keep, byKey: map[string][]*conn{}}
}

// take returns the latest connection for the key that is alive and whose
// address usable accepts, or nil.
func (s *idleSet) take(key string, usable func(netip.AddrPort) bool) *conn {
	for {
		c := s.pop(key, usable)
		if c == nil || c.alive() {
			return c
		}
		c.close()
	}
}

func (s *idleSet) pop(key string, usable func(netip.AddrPort) bool) *conn {
	s.mu.Lock()
	list := s.byKey[key]
	s.mu.Unlock()
	// Asking the policy takes no lock; another may take the connection meanwhile.
	for i := len(list) - 1; i >= 0; i-- {
		if c := list[i]; usable(c.addr) && s.remove(key, c) {
			c.reused = true
			return c
		}
	}
	return nil
}

func (s *idleSet) remove(key string, c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.byKey[key]
	for i := len(list) - 1; i >= 0; i-- {
		if list[i] != c {
			continue
		}
		s.set(key, append(append([]*conn(nil), list[:i]...), list[i+1:]...))
		s.count--
		return true
	}
	return false
}

// set replaces a list. Lists are never changed in place, since pop reads them
// without the lock.
func (s *idleSet) set(key string, list []*conn) {
	if len(list) == 0 {
		delete(s.byKey, key)
		return
	}
	s.byKey[key] = list
}

// put keeps c, or closes it when the set is full or closed.
func (s *idleSet) put(c *conn) {
	s.mu.Lock()
	list := s.byKey[c.key]
	if s.closed || s.count >= s.max || len(list) >= s.maxPerKey {
		s.mu.Unlock()
		c.close()
		return
	}
	c.since = time.Now()
	s.set(c.key, append(append([]*conn(nil), list...), c))
	s.count++
	if s.count == 1 {
		s.sweep = time.AfterFunc(s.keep, s.expire)
	}
	s.mu.Unlock()
}

// expire closes what was unused for too long.
func (s *idleSet) expire() {
	var old []*conn
	s.mu.Lock()
	before := time.Now().Add(-s.keep)
	next := s.keep
	for key, list := range s.byKey {
		n := 0
		for n < len(list) && !list[n].since.After(before) {
			n++
		}
		if n < len(list) {
			next = min(next, list[n].since.Sub(before))
		}
		if n > 0 {
			old = append(old, list[:n]...)
			s.set(key, append([]*conn(nil), list[n:]...))
			s.count -= n
		}
	}
	if s.count > 0 && !s.closed {
		s.sweep.Reset(max(next, time.Second))
	}
	s.mu.Unlock()
	for _, c := range old {
		c.close()
	}
}

func (s *idleSet) close() {
	s.mu.Lock()
	lists := s.byKey
	s.closed, s.byKey, s.count = true, map[string][]*conn{}, 0
	if s.sweep != nil {
		s.sweep.Stop()
	}
	s.mu.Unlock()
	for _, list := range lists {
		for _, c := range list {
			c.close()
		}
	}
}

func (s *idleSet) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}
