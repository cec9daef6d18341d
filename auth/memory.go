package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

// memory knows which passwords were right a short while ago, by a keyed hash:
// neither a dump of it nor its timing tells what they were.
type memory struct {
	key   [sha256.Size]byte
	mu    sync.Mutex
	until map[mark]time.Time
}

// mark stands for a user with a password.
type mark [sha256.Size]byte

func newMemory() *memory {
	m := &memory{until: map[mark]time.Time{}}
	_, _ = rand.Read(m.key[:]) // never fails (crypto/rand)
	return m
}

func (m *memory) mark(user, password string) mark {
	h := hmac.New(sha256.New, m.key[:])
	_ = binary.Write(h, binary.BigEndian, uint64(len(user))) // to a hash
	h.Write([]byte(user))
	h.Write([]byte(password))
	return mark(h.Sum(nil))
}

func (m *memory) has(k mark, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	until, ok := m.until[k]
	if ok && !now.Before(until) {
		delete(m.until, k)
		return false
	}
	return ok
}

func (m *memory) add(k mark, until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, again := m.until[k]; !again && len(m.until) >= maxKept {
		evict(m.until, func(t time.Time) float64 { return float64(t.UnixNano()) })
	}
	m.until[k] = until
}
