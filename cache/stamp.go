package cache

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
)

// stamp is what was purged by one matcher: the number of its latest hard
// purge, and of its soft ones with their times.
type stamp struct {
	hard uint64
	soft []softStamp // oldest first, never changed in place
}

type softStamp struct {
	seq uint64
	at  int64 // in Unix milliseconds
}

// maxSoft bounds the soft purges of one matcher that are told apart. Of those
// before them the earliest time counts, so that nothing stays usable longer.
const maxSoft = 4

// with returns the stamp after one more purge.
func (s stamp) with(soft bool, seq uint64, at int64) stamp {
	if !soft {
		return stamp{hard: seq} // which no response before the soft ones survives
	}
	s.soft = append(slices.Clip(s.soft), softStamp{seq, at})
	if n := len(s.soft); n > maxSoft {
		earliest := s.soft[0].at
		s.soft = slices.Clone(s.soft[n-maxSoft:])
		s.soft[0].at = min(s.soft[0].at, earliest)
	}
	return s
}

// latest returns the number of the last purge.
func (s stamp) latest() uint64 {
	if n := len(s.soft); n > 0 {
		return s.soft[n-1].seq
	}
	return s.hard
}

// since returns when the first soft purge came that is younger than the number
// began.
func (s stamp) since(began uint64) (at int64, ok bool) {
	for _, p := range s.soft {
		if p.seq > began {
			return p.at, true
		}
	}
	return 0, false
}

// hashed remembers purges of one kind by the hash of what they match.
type hashed struct {
	most  int // that are remembered
	n     int
	queue []queued // oldest first; one that was purged again since stands further back as well

	shards [64]struct {
		mu sync.RWMutex
		m  map[uint64]stamp
	}
}

type queued struct{ hash, seq uint64 }

// find returns the stamp of the hash. It may be called at any time, all else
// by one goroutine at a time.
func (h *hashed) find(hash uint64) stamp {
	s := &h.shards[hash%uint64(len(h.shards))]
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[hash]
}

// put notes a purge. It returns the number of the latest purge that was
// forgotten to make room, 0 for none.
func (h *hashed) put(hash uint64, soft bool, seq uint64, at int64) (forgotten uint64) {
	s := &h.shards[hash%uint64(len(h.shards))]
	s.mu.Lock()
	if s.m == nil {
		s.m = make(map[uint64]stamp)
	}
	old, known := s.m[hash]
	s.m[hash] = old.with(soft, seq, at)
	s.mu.Unlock()
	h.queue = append(h.queue, queued{hash, seq})
	if !known {
		h.n++
	}
	for h.n > h.most {
		forgotten = max(forgotten, h.dequeue())
	}
	if len(h.queue) > 2*h.most {
		h.queue = slices.DeleteFunc(h.queue, func(q queued) bool { return h.find(q.hash).latest() != q.seq })
	}
	return forgotten
}

// dequeue takes the oldest off the queue, and forgets it if it is the last
// purge of its hash; else it goes on standing further back.
func (h *hashed) dequeue() (forgotten uint64) {
	q := h.queue[0]
	h.queue = h.queue[1:]
	s := &h.shards[q.hash%uint64(len(h.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[q.hash].latest() != q.seq {
		return 0
	}
	delete(s.m, q.hash)
	h.n--
	return q.seq
}

// all calls do with everything that is remembered.
func (h *hashed) all(do func(hash uint64, s stamp)) {
	for i := range h.shards {
		s := &h.shards[i]
		s.mu.RLock()
		for hash, st := range s.m {
			do(hash, st)
		}
		s.mu.RUnlock()
	}
}

// prefixes remembers purges by prefix and by host. It is never changed: a
// purge makes another one.
type prefixes struct {
	most   int      // that are remembered, hosts with them
	texts  []string // sorted
	stamps []stamp
	above  []int // of each the longest other text that it begins with; -1 for none
	hosts  map[string]stamp
}

// find calls hit for each text that url begins with, and for its host.
func (p *prefixes) find(url string, hit func(by PurgeKind, text string, s stamp)) {
	// Of all texts that url begins with the last in order is the one before url
	// itself, or that one begins with it.
	i, exact := slices.BinarySearch(p.texts, url)
	if !exact {
		i--
	}
	for ; i >= 0; i = p.above[i] {
		if strings.HasPrefix(url, p.texts[i]) {
			hit(ByPrefix, p.texts[i], p.stamps[i])
		}
	}
	if len(p.hosts) > 0 {
		host := hostOf(url)
		if s, ok := p.hosts[host]; ok {
			hit(ByHost, host, s)
		}
	}
}

// hostOf returns the host of a key's text, an IPv6 address in brackets.
func hostOf(url string) string {
	origin := string(originOf([]byte(url)))
	host := origin[strings.Index(origin, "://")+len("://"):]
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	return host
}

// with returns what is remembered after one more purge, and the number of the
// latest that was forgotten to make room, 0 for none.
func (p *prefixes) with(text string, host, soft bool, seq uint64, at int64) (next *prefixes, forgotten uint64) {
	next = &prefixes{most: p.most, texts: slices.Clone(p.texts), stamps: slices.Clone(p.stamps), hosts: p.hosts}
	if host {
		next.hosts = make(map[string]stamp, len(p.hosts)+1)
		maps.Copy(next.hosts, p.hosts)
		next.hosts[text] = next.hosts[text].with(soft, seq, at)
	} else {
		i, known := slices.BinarySearch(next.texts, text)
		if !known {
			next.texts = slices.Insert(next.texts, i, text)
			next.stamps = slices.Insert(next.stamps, i, stamp{})
		}
		next.stamps[i] = next.stamps[i].with(soft, seq, at)
	}
	if len(next.texts)+len(next.hosts) > p.most {
		forgotten = next.dropOldest()
	}
	next.above = make([]int, len(next.texts))
	for i, t := range next.texts {
		above := i - 1
		for above >= 0 && !strings.HasPrefix(t, next.texts[above]) {
			above = next.above[above]
		}
		next.above[i] = above
	}
	return next, forgotten
}

// dropOldest deletes what was purged least recently, and returns its number.
// The lists are p's own; the hosts may be another's.
func (p *prefixes) dropOldest() uint64 {
	least, text, host := uint64(math.MaxUint64), -1, ""
	for i, s := range p.stamps {
		if s.latest() < least {
			least, text = s.latest(), i
		}
	}
	for h, s := range p.hosts {
		if s.latest() < least {
			least, text, host = s.latest(), -1, h
		}
	}
	if text >= 0 {
		p.texts = slices.Delete(p.texts, text, text+1)
		p.stamps = slices.Delete(p.stamps, text, text+1)
		return least
	}
	p.hosts = maps.Clone(p.hosts)
	delete(p.hosts, host)
	return least
}
