package upstream

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// idleSet keeps connections between requests: the latest used first, bounded
// by key and in all.
type idleSet struct {
	max, maxPerKey int
	keep           time.Duration

	mu       sync.Mutex
	byKey    map[string][]*conn // the latest last, but for those that a request was refused
	count    int
	closed   bool
	sweep    *time.Timer
	sweeping bool // the timer runs
}

func newIdleSet(most, perKey int, keep time.Duration) *idleSet {
	return &idleSet{max: most, maxPerKey: perKey, keep: keep, byKey: map[string][]*conn{}}
}

// take returns the latest connection for the key that is alive and whose
// address usable accepts, or nil. What usable refuses is kept for others.
func (s *idleSet) take(key string, usable func(netip.AddrPort) bool) *conn {
	var refused []*conn
	defer func() {
		for _, c := range refused {
			s.add(c)
		}
	}()
	for {
		c := s.pop(key)
		switch {
		case c == nil:
			return nil
		case !usable(c.addr): // asks the policy, so not under the lock
			refused = append(refused, c)
		case !c.alive():
			c.close()
		default:
			c.reused = true
			return c
		}
	}
}

func (s *idleSet) pop(key string) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.byKey[key]
	if len(list) == 0 {
		return nil
	}
	last := len(list) - 1
	c := list[last]
	list[last] = nil
	s.set(key, list[:last])
	s.count--
	return c
}

func (s *idleSet) set(key string, list []*conn) {
	if len(list) == 0 {
		delete(s.byKey, key)
		return
	}
	s.byKey[key] = list
}

// put keeps c from now on.
func (s *idleSet) put(c *conn) {
	c.since = time.Now()
	s.add(c)
}

// add keeps c, or closes it when the set is full or closed.
func (s *idleSet) add(c *conn) {
	if !s.hold(c) {
		c.close()
	}
}

func (s *idleSet) hold(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.byKey[c.key]
	if s.closed || s.count >= s.max || len(list) >= s.maxPerKey {
		return false
	}
	s.byKey[c.key] = append(list, c)
	s.count++
	if !s.sweeping {
		s.sweeping = true
		s.sweepIn(s.keep)
	}
	return true
}

func (s *idleSet) sweepIn(d time.Duration) {
	if s.sweep == nil {
		s.sweep = time.AfterFunc(d, s.expire)
		return
	}
	s.sweep.Reset(d)
}

// expire closes what was unused for too long.
func (s *idleSet) expire() {
	for _, c := range s.expired(time.Now().Add(-s.keep)) {
		c.close()
	}
}

// expired takes out what is unused since before or longer.
func (s *idleSet) expired(before time.Time) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var old []*conn
	next := s.keep
	for key, list := range s.byKey {
		s.set(key, slices.DeleteFunc(list, func(c *conn) bool {
			age := c.since.Sub(before)
			if age <= 0 {
				old = append(old, c)
				return true
			}
			next = min(next, age)
			return false
		}))
	}
	s.count -= len(old)
	s.sweeping = s.count > 0
	if s.sweeping {
		s.sweepIn(max(next, s.keep/16)) // not for each connection of many
	}
	return old
}

// drop closes the connections of the key.
func (s *idleSet) drop(key string) {
	for c := s.pop(key); c != nil; c = s.pop(key) {
		c.close()
	}
}

func (s *idleSet) close() {
	for _, list := range s.empty() {
		for _, c := range list {
			c.close()
		}
	}
}

func (s *idleSet) empty() map[string][]*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.byKey
	s.closed, s.byKey, s.count = true, map[string][]*conn{}, 0
	return all
}

func (s *idleSet) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}
