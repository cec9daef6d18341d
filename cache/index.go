package cache

import (
	"encoding/binary"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"time"

	"fwdproxy/cache/store"
	"fwdproxy/internal/header"
)

const (
	nonceSize = 16
	// maxVarySets bounds the different Vary of one URI that are remembered.
	maxVarySets = 8
	// maxVariants bounds the responses that are stored for one URI.
	maxVariants = 64
	// aloneFor is how long requests for a URI whose response turned out not to
	// be for sharing go to the next hop without waiting for each other.
	aloneFor = 2 * time.Minute
)

// primary is what is stored under the key of a URI: not a response, but how
// to find one. Variants are stored under keys that the nonce is part of, so
// that deleting the primary loses all of them at once.
type primary struct {
	nonce [nonceSize]byte
	sets  [][]string // the fields that responses vary by, the latest set first
	alone time.Time  // until then requests do not wait for each other
	// variants are the keys of the stored responses, one after the other, the one
	// that was stored last at the end; some may be gone.
	variants []byte
}

func newPrimary() *primary {
	p := &primary{}
	binary.LittleEndian.PutUint64(p.nonce[:], rand.Uint64())
	binary.LittleEndian.PutUint64(p.nonce[8:], rand.Uint64())
	return p
}

// put moves the set to the front.
func (p *primary) put(names []string) {
	sets := [][]string{names}
	for _, s := range p.sets {
		if !slices.Equal(s, names) && len(sets) < maxVarySets {
			sets = append(sets, s)
		}
	}
	p.sets = sets
}

// admit takes a response with the key in, and returns the key of the one that
// has to make room, if one has to.
func (p *primary) admit(k store.Key) (out store.Key, full bool) {
	const size = len(store.Key{})
	var rest []byte
	for v := range slices.Chunk(p.variants, size) {
		if store.Key(v) != k {
			rest = append(rest, v...)
		}
	}
	if full = len(rest) >= maxVariants*size; full {
		out, rest = store.Key(rest[:size]), rest[size:]
	}
	p.variants = append(rest, k[:]...)
	return out, full
}

const primaryVersion = 2

func (p *primary) encode() []byte {
	b := append(make([]byte, 0, 64), primaryVersion)
	b = append(b, p.nonce[:]...)
	b = binary.AppendVarint(b, p.alone.Unix())
	b = binary.AppendUvarint(b, uint64(len(p.sets)))
	for _, set := range p.sets {
		b = binary.AppendUvarint(b, uint64(len(set)))
		for _, name := range set {
			b = binary.AppendUvarint(b, uint64(len(name)))
			b = append(b, name...)
		}
	}
	return append(b, p.variants...)
}

func decodePrimary(b []byte) (*primary, bool) {
	d := decoder{b: b}
	if d.byte() != primaryVersion {
		return nil, false
	}
	p := &primary{}
	copy(p.nonce[:], d.bytes(nonceSize))
	p.alone = time.Unix(d.varint(), 0)
	n := d.int(maxVarySets)
	if n > 0 && !d.bad {
		p.sets = make([][]string, n)
	}
	for i := range p.sets {
		for range d.int(maxVaryNames) {
			name := string(d.bytes(d.int(len(d.b))))
			if !header.IsToken(name) {
				return nil, false
			}
			p.sets[i] = append(p.sets[i], name)
		}
	}
	p.variants = d.b
	return p, !d.bad && len(d.b)%len(store.Key{}) == 0 && len(d.b) <= maxVariants*len(store.Key{})
}

// entry is a stored response as it was found.
type entry struct {
	key store.Key
	obj store.Object
	rec *record

	parts *parts // nil when it is whole
}

// found is what the index has for one request.
type found struct {
	entry  *entry   // nil when nothing stored matches
	known  bool     // responses to the URI that vary are stored
	alone  bool     // requests for the URI do not wait for each other
	names  []string // all fields that stored responses vary by
	lost   *entry   // one that a purge took away
	ruling ruling   // about entry, or lost where entry is nil
}

func (c *Cache) primary(k store.Key) (*primary, bool) {
	o, ok := c.store.Get(k)
	if !ok {
		return nil, false
	}
	return decodePrimary(o.Head)
}

// lookup finds the stored response for a request for u with the fields h, kept
// apart by that text; of several that match and were not purged the latest (RFC 9111, Section 4.1).
func (c *Cache) lookup(k store.Key, u *url.URL, apart string, h http.Header, now time.Time) found {
	p, ok := c.primary(k)
	if !ok {
		return found{}
	}
	f := found{alone: now.Before(p.alone) && p.alone.Sub(now) <= aloneFor}
	for _, set := range p.sets {
		f.known = f.known || len(set) > 0
		for _, name := range set {
			if !slices.Contains(f.names, name) {
				f.names = append(f.names, name)
			}
		}
		e := c.entry(variantKey(k, p.nonce, set, apart, h))
		if e == nil {
			continue
		}
		r := c.purges.judge(&e.rec.mark, k, u)
		switch {
		case r.gone:
			if f.lost = e; f.entry == nil {
				f.ruling = r
			}
		case f.entry == nil || e.rec.madeAt().After(f.entry.rec.madeAt()):
			f.entry, f.ruling = e, r
			if r.stale {
				since := time.UnixMilli(r.since)
				e.rec.staleSince = &since
			}
		}
	}
	return f
}

// madeAt is when the origin made the response.
func (r *record) madeAt() time.Time { return dateOr(r.header, r.received) }

func (c *Cache) entry(k store.Key) *entry {
	o, ok := c.store.Get(k)
	if !ok {
		return nil
	}
	rec, parts, err := decodeStored(o.Head)
	if err != nil {
		c.store.Delete(k)
		return nil
	}
	if parts != nil {
		o.Size, o.Body = parts.total, &partsBody{c: c, key: k, id: o.ID, parts: parts, rec: rec}
	}
	return &entry{key: k, obj: o, rec: rec, parts: parts}
}

// commit stores the whole that the flight fetched. Of two fetches the one that
// began later stays.
func (c *Cache) commit(f *flight, r *record, names []string, body content) Refusal {
	head := r.encode()
	if len(head) > store.MaxHead {
		return HeadTooLarge
	}
	return c.place(f, &r.mark, names, func(key store.Key) Refusal {
		e := c.entry(key)
		if e != nil && e.newerThan(r) && (e.rec.mark.after(r.mark) || e.parts == nil || !e.fits(r, span{}, e.obj.Size)) {
			return OlderThanStored
		}
		if c.put(key, head, body) != nil {
			c.store.Delete(key)
			return StoreUnavailable
		}
		if e != nil && e.parts != nil {
			c.discardPieces(e.parts.pieces)
		}
		return ""
	})
}

// newerThan reports whether what is stored was fetched after r.
func (e *entry) newerThan(r *record) bool {
	return e.rec.mark.after(r.mark) || e.rec.requested.After(r.requested) && !e.rec.requested.After(time.Now())
}

// place lets put store what the flight fetched under the key of its variant; a
// flight that an unsafe request overtook stores nothing (RFC 9111, Section 4.4).
func (c *Cache) place(f *flight, m *mark, names []string, put func(store.Key) Refusal) Refusal {
	b := c.book(f.key)
	b.mu.Lock()
	if f.void {
		b.mu.Unlock()
		return Invalidated
	}
	if c.purges.judge(m, f.key, f.req.URL).gone {
		b.mu.Unlock()
		return WasPurged
	}
	p, ok := c.primary(f.key)
	if !ok {
		p = newPrimary()
	}
	p.put(names)
	p.alone = time.Time{}
	key := variantKey(f.key, p.nonce, names, f.hop.Apart, f.req.Header)
	oldest, full := p.admit(key)
	err := c.store.Put(f.key, p.encode(), nil)
	b.mu.Unlock()
	if err != nil {
		return StoreUnavailable
	}
	if full {
		c.store.Delete(oldest)
	}

	// What is the latest for the URI changes only now.
	refusal := put(key)
	c.changes.of(f.key).Add(1)
	if refusal != "" {
		return refusal
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	if f.void {
		c.store.Delete(key)
		return Invalidated
	}
	switch now, ok := c.primary(f.key); {
	case !ok: // a large body may have pushed it out
		err = c.store.Put(f.key, p.encode(), nil)
	case now.nonce != p.nonce:
		c.store.Delete(key)
		return Invalidated
	}
	if err != nil {
		return StoreUnavailable
	}
	return ""
}

// renew gives a stored response its freshened record, unless it was replaced
// or invalidated since.
func (c *Cache) renew(f *flight, e *entry, r *record) {
	c.ifCurrent(f, e, func(obj store.Object) {
		head := e.encode(r)
		if len(head) > store.MaxHead || c.store.SetHead(e.key, obj, head) != nil {
			c.store.Delete(e.key)
			return
		}
	})
}

// discard makes room that a purged response takes, unless it was replaced since.
func (c *Cache) discard(k store.Key, e *entry) {
	b := c.book(k)
	b.mu.Lock()
	defer b.mu.Unlock()
	if o, ok := c.store.Get(e.key); ok && o.ID == e.obj.ID {
		c.store.Delete(e.key)
	}
}

// drop removes a stored response, unless it was replaced since.
func (c *Cache) drop(f *flight, e *entry) {
	c.ifCurrent(f, e, func(store.Object) { c.store.Delete(e.key) })
}

func (c *Cache) ifCurrent(f *flight, e *entry, do func(store.Object)) {
	b := c.book(f.key)
	b.mu.Lock()
	defer b.mu.Unlock()
	if f.void {
		return
	}
	if o, ok := c.store.Get(e.key); ok && o.ID == e.obj.ID {
		do(o)
	}
}

// setAlone remembers that requests for the URI had better not wait for each
// other for a while.
func (c *Cache) setAlone(k store.Key, now time.Time) {
	b := c.book(k)
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := c.primary(k)
	if !ok {
		p = newPrimary()
	}
	p.alone = now.Add(aloneFor)
	_ = c.store.Put(k, p.encode(), nil) // without the note they wait once more
}

// invalidate removes every response to the URI, and sees to it that no fetch
// under way, but the one that it is for, stores one.
func (c *Cache) invalidate(k store.Key, but *flight) {
	b := c.book(k)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.flights[k] {
		f.void, f.open = f.void || f != but, false
	}
	c.store.Delete(k)
}

// sameNames reports whether two header sections vary by the same fields.
func sameNames(a, b http.Header) bool {
	x, ok1 := varyNames(a)
	y, ok2 := varyNames(b)
	return ok1 && ok2 && slices.Equal(x, y)
}
