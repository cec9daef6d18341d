package cache

import (
	"encoding/binary"
	"net/url"
	"sync"
	"sync/atomic"

	"fwdproxy/cache/store"
)

// How many purges are remembered. When there are more, the oldest is forgotten
// and whatever it could have matched counts as purged with it.
const (
	maxURLs     = 1 << 16
	maxTagNames = 1 << 16
	maxPrefixes = 4096 // and hosts
)

// purges remembers what was purged, so that a look-up can tell whether what it
// found began before a purge that matches it. Nothing else has to be found or
// removed. The purges are numbered in one sequence; no clock plays a part.
type purges struct {
	log    uint64        // names the sequence; 0 where nothing outlives the process
	seq    atomic.Uint64 // the latest number
	latest atomic.Uint64 // that of the latest purge by URL, prefix or tag
	// Of these the latest by URL and by tag. What may have every tag is gone with
	// the latter.
	latestURL, latestTag atomic.Uint64

	// The floors hold numbers: what began before one of them counts as purged,
	// before tagFloor only where it has tags.
	floor, tagFloor atomic.Uint64

	urls, tags hashed
	prefixes   atomic.Pointer[prefixes]
	groups     groups

	mu           sync.Mutex // held by who purges
	journal      *store.Journal
	bound        uint64 // the journal reserves the numbers up to it
	compactAt    int64  // the size at which the journal is written anew
	groupsJotted bool   // the journal knows that groups were invalidated

	made, refused [purgeKinds]atomic.Uint64
}

func newPurges() *purges {
	p := &purges{urls: hashed{most: maxURLs}, tags: hashed{most: maxTagNames}}
	p.prefixes.Store(&prefixes{most: maxPrefixes})
	return p
}

// begin returns the mark of a fetch that begins now. Until its response is
// there it may have every tag.
func (p *purges) begin(u *url.URL) mark {
	return mark{log: p.log, began: p.seq.Load(), url: keyText(u), anyTag: true, anyGroup: true}
}

// ruling is what the purges say about a response: nothing, that it is gone, or
// that it is stale since a while.
type ruling struct {
	gone, stale bool
	since       int64 // Unix milliseconds
	by          PurgeKind
	text        string // the prefix or host
	tag         uint64
}

func (r ruling) purged() bool { return r.gone || r.stale }

func (r *ruling) add(by PurgeKind, text string, tag uint64, s stamp, began uint64) {
	if r.gone {
		return
	}
	if s.hard > began {
		*r = ruling{gone: true, by: by, text: text, tag: tag}
		return
	}
	if at, ok := s.since(began); ok && (!r.stale || at < r.since) {
		*r = ruling{stale: true, since: at, by: by, text: text, tag: tag}
	}
}

// judge rules on the response with the mark m, stored under the key k, for a
// request for asked, which may be another URL than the one that was fetched.
func (p *purges) judge(m *mark, k store.Key, asked *url.URL) ruling {
	switch {
	case m.log != p.log:
		return ruling{gone: true, by: byRestart}
	case m.began < p.latest.Load():
		if r := p.search(m, k, asked); r.gone || !p.groups.hit(m) {
			return r
		}
	case !p.groups.hit(m):
		return ruling{}
	}
	return ruling{gone: true, by: byGroup}
}

func (p *purges) search(m *mark, k store.Key, asked *url.URL) ruling {
	var r ruling
	r.add(byForgotten, "", 0, stamp{hard: p.floor.Load()}, m.began)
	if m.tagged() {
		r.add(byForgottenTag, "", 0, stamp{hard: p.tagFloor.Load()}, m.began)
	}
	if p.latestURL.Load() > m.began {
		r.add(ByURL, "", 0, p.urls.find(keyHash(k)), m.began)
		r.add(ByURL, "", 0, p.urls.find(keyHash(KeyOf(asked).hash())), m.began)
	}
	if px := p.prefixes.Load(); len(px.texts)+len(px.hosts) > 0 {
		hit := func(by PurgeKind, text string, s stamp) { r.add(by, text, 0, s, m.began) }
		own := string(m.url)
		px.find(own, hit)
		if other := string(keyText(asked)); other != own {
			px.find(other, hit)
		}
	}
	if latest := p.latestTag.Load(); latest > m.began {
		for h := range hashes(m.tags) {
			r.add(ByTag, "", h, p.tags.find(h), m.began)
		}
		if m.anyTag {
			r.add(ByTag, "", 0, stamp{hard: latest}, m.began)
		}
	}
	return r
}

// keyHash stands for a key in the purges by URL.
func keyHash(k store.Key) uint64 { return binary.LittleEndian.Uint64(k[:]) }

// add gives a purge its number and makes it hold. The error says that it does
// until the process ends, and that the journal did not take it.
func (p *purges) add(e purgeEntry) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.seq = p.seq.Load() + 1
	p.apply(e)
	p.seq.Store(e.seq)
	p.made[e.by].Add(1)
	return p.jot(e)
}

// addGroups invalidates groups of an origin. The first time it writes to the
// journal; where that fails the next time tries again.
func (p *purges) addGroups(origin string, hashes []uint64, all bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seq := p.seq.Load() + 1
	p.groups.invalidate(origin, hashes, all, seq)
	p.seq.Store(seq)
	p.made[byGroup].Add(1)
	if !p.groupsJotted {
		p.groupsJotted = true
		p.groupsJotted = p.jot(purgeEntry{by: byGroup, seq: openEnd}) == nil
	}
}

// apply notes a purge, whose number must be the greatest so far. That of what
// has to be forgotten for it becomes a floor.
func (p *purges) apply(e purgeEntry) {
	switch e.by {
	case ByURL:
		raise(&p.floor, p.urls.put(e.hash, e.soft, e.seq, e.at))
		raise(&p.latestURL, e.seq)
	case ByTag:
		raise(&p.tagFloor, p.tags.put(e.hash, e.soft, e.seq, e.at))
		raise(&p.latestTag, e.seq)
	case ByPrefix, ByHost:
		next, forgotten := p.prefixes.Load().with(e.text, e.by == ByHost, e.soft, e.seq, e.at)
		p.prefixes.Store(next)
		raise(&p.floor, forgotten)
	case byForgotten:
		raise(&p.floor, e.seq)
	case byForgottenTag:
		raise(&p.tagFloor, e.seq)
	case byGroup:
		p.groups.raise(e.seq)
		return
	}
	raise(&p.latest, e.seq)
}

func raise(n *atomic.Uint64, to uint64) {
	if to > n.Load() {
		n.Store(to)
	}
}
