package store

import "sync"

// change is a change on its way to the disk. It holds from the moment at which
// it is pending.
type change struct {
	key    Key
	kind   changeKind
	id     uint64 // of the object; for a deletion, what is newer stays
	head   []byte
	body   [][]byte // put: the whole body
	size   int64
	from   place  // rehead: where the body is
	ofSums uint32 // own: the checksum of the checksums
	cost   int64  // bytes that it takes while it waits
	slot   int    // remove: in the list of deletions; -1 when it is in none
	done   chan struct{}
}

type changeKind uint8

const (
	changePut    changeKind = iota // an object whose body follows its head
	changeOwn                      // an object whose body is in a file of its own
	changeHead                     // another head for an object
	changeRemove                   // nothing under the key any more
	changeForget                   // the object with that id is of no use
	changeFlush                    // nothing; done is closed when all before it is done
)

// pending holds the changes by key; the latest of each.
type pending struct {
	shards [64]struct {
		mu sync.RWMutex
		m  map[Key]*change
	}
}

func newPending() *pending {
	p := &pending{}
	for i := range p.shards {
		p.shards[i].m = make(map[Key]*change)
	}
	return p
}

func (p *pending) get(k Key) *change {
	s := &p.shards[int(k[1])%len(p.shards)]
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[k]
}

func (p *pending) set(c *change) {
	s := &p.shards[int(c.key[1])%len(p.shards)]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[c.key] = c
}

// settle takes c out, unless another came after it.
func (p *pending) settle(c *change) {
	s := &p.shards[int(c.key[1])%len(p.shards)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[c.key] == c {
		delete(s.m, c.key)
	}
}
