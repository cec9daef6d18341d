package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math"
	"net/http"

	"fwdproxy/cache/store"
)

// PartStored is the reason to ask for what is stored in part only.
const PartStored Reason = "only a part of it is stored" // RFC 9111, Section 3.3; RFC 9211, partial

const (
	// maxPieces bounds the pieces that are kept of one representation.
	maxPieces = 64
	// mergeable is the size up to which a piece is copied to become one with its
	// neighbour, in bytes.
	mergeable = 256 << 10
	idSize    = 16
)

// parts is what is stored of a representation that has not come whole (RFC
// 9111, Section 3.3): under the key of the response the pieces that there are,
// and each piece under a key of its own.
type parts struct {
	total  int64 // length of the whole, -1 when not known
	asks   int64 // fetches that brought something
	pieces []piece
	// short is the length that Content-Range promised where fewer bytes came in a
	// message that was complete by itself: then there is one piece, and it is
	// never combined with another. 0 in every other case.
	short int64
}

// piece is a stretch of a representation.
type piece struct {
	span
	id [idSize]byte
}

func (s span) end() int64           { return s.off + s.n }
func (s span) contains(o span) bool { return s.off <= o.off && o.end() <= s.end() }
func (p piece) key() store.Key      { return sha256.Sum256(append([]byte("piece "), p.id[:]...)) }
func (p *parts) whole() bool        { return p.total >= 0 && p.short == 0 && p.holds(span{0, p.total}) }
func (p *parts) holds(s span) bool  { _, ok := p.cover(s); return ok }

// cover returns stretches of pieces that make up s, in order.
func (p *parts) cover(s span) ([]piece, bool) {
	var out []piece
	for at := s.off; at < s.end(); {
		best := piece{}
		for _, q := range p.pieces {
			if q.off <= at && at < q.end() && (best.n == 0 || q.end() > best.end()) {
				best = q
			}
		}
		if best.n == 0 {
			return nil, false
		}
		out = append(out, best)
		at = best.end()
	}
	return out, true
}

// gap returns the stretch from the first byte that is missing to the last, of
// a whole whose length is known.
func (p *parts) gap() span {
	from, to := int64(0), p.total
	for moved := true; moved; {
		moved = false
		for _, q := range p.pieces {
			if q.off <= from && from < q.end() {
				from, moved = q.end(), true
			}
			if q.off < to && to <= q.end() {
				to, moved = q.off, true
			}
		}
	}
	return span{from, max(to-from, 0)}
}

// held returns how many bytes the pieces have together.
func (p *parts) held() (n int64) {
	for _, q := range p.pieces {
		n += q.n
	}
	return n
}

// add takes a piece in and returns those that have to go: what lies in it, and
// the oldest when there are too many or they have more than limit bytes.
func (p *parts) add(n piece, total, limit int64) (out []piece) {
	if p.total < 0 {
		p.total = total
	}
	p.asks++
	if p.holds(n.span) {
		return []piece{n}
	}
	keep := p.pieces[:0:0]
	for _, q := range p.pieces {
		if n.contains(q.span) {
			out = append(out, q)
		} else {
			keep = append(keep, q)
		}
	}
	p.pieces = append(keep, n)
	for len(p.pieces) > 1 && (len(p.pieces) > maxPieces || p.held() > limit) {
		out = append(out, p.pieces[0])
		p.pieces = p.pieces[1:]
	}
	return out
}

// fits reports whether a response with the record r and this Content-Range is a
// part of the same representation as what e has (RFC 9111, Section 3.4): by a
// strong entity tag, never by less.
func (e *entry) fits(r *record, s span, total int64) bool {
	tag := first(e.rec.header, "Etag")
	size := e.obj.Size
	return isStrong(tag) && tag == first(r.header, "Etag") && (e.parts == nil || e.parts.short == 0) &&
		(size < 0 || total < 0 || size == total) && (size < 0 || s.end() <= size) &&
		(e.parts == nil || total < 0 || size >= 0 || e.parts.reach() <= total)
}

// reach returns the end of the last piece.
func (p *parts) reach() (n int64) {
	for _, q := range p.pieces {
		n = max(n, q.end())
	}
	return n
}

// slice is a range that is answered: at is what Content-Range says, from the
// place of its first byte in what is stored.
type slice struct {
	at   span
	from int64
}

// pick returns what of e answers a GET with the fields h; a verdict other than
// partOfBody is about the whole, which may not be there.
func (e *entry) pick(h http.Header) ([]slice, rangeVerdict) {
	if e.parts != nil && (e.parts.total < 0 || e.parts.short > 0) {
		return e.pickOne(h)
	}
	spans, verdict := selectRange(h, e.rec, e.obj.Size)
	out := make([]slice, len(spans))
	for i, s := range spans {
		out[i] = slice{s, s.off}
	}
	return out, verdict
}

// pickOne is pick where the length of the whole is not known, or the piece is
// shorter than its Content-Range said. Such a piece is taken at its word for
// what it was sent as: from its first byte on, and as the last bytes of the
// whole where it was said to reach there (RFC 9110, Section 15.3.7, lets an
// answer have less than was asked for).
func (e *entry) pickOne(h http.Header) ([]slice, rangeVerdict) {
	specs, ok := parseRange(h["Range"])
	if !ok || len(specs) != 1 || !ifRange(h["If-Range"], e.rec) {
		return nil, wholeBody
	}
	spec, p := specs[0], e.parts
	if p.short == 0 {
		if spec.first < 0 || spec.last < 0 || spec.last == math.MaxInt64 {
			return nil, wholeBody
		}
		s := span{spec.first, spec.last - spec.first + 1}
		return []slice{{s, s.off}}, partOfBody
	}
	have := p.pieces[0].span
	said := have.off + p.short
	if spec.first < 0 {
		if said != p.total || spec.last == 0 || spec.last > have.n {
			return nil, wholeBody
		}
		return []slice{{span{said - spec.last, spec.last}, have.end() - spec.last}}, partOfBody
	}
	end := said
	if spec.last >= 0 {
		end = min(end, spec.last+1)
	}
	if end < said && end > have.end() || spec.first < have.off || spec.first >= have.end() || spec.last < 0 && said != p.total {
		return nil, wholeBody
	}
	end = min(end, have.end())
	return []slice{{span{spec.first, end - spec.first}, spec.first}}, partOfBody
}

// partOnly decides about a request to which what is stored is no answer.
func partOnly(d requestDirectives) Decision {
	if d.onlyIfCached {
		return Decision{Action: Fail, Reason: OnlyIfCached}
	}
	return Decision{Reason: PartStored}
}

// serves reports whether e may answer the request by itself: an incomplete
// response answers nothing but ranges that lie in it (RFC 9111, Section 3.3).
func (e *entry) serves(method string, h http.Header) bool {
	if e.parts == nil || e.parts.whole() {
		return true
	}
	if method != http.MethodGet || len(h["Range"]) == 0 {
		return false
	}
	picked, verdict := e.pick(h)
	if verdict != partOfBody {
		return false
	}
	for _, s := range picked {
		if !e.parts.holds(span{s.from, s.at.n}) {
			return false
		}
	}
	return true
}

const partsVersion = 0x81 // no record begins with it

// encode returns the head under which e is stored with the record r.
func (e *entry) encode(r *record) []byte {
	if e.parts == nil {
		return r.encode()
	}
	p := e.parts
	b := []byte{partsVersion}
	for _, n := range []int64{p.total, p.asks, p.short, int64(len(p.pieces))} {
		b = binary.AppendVarint(b, n)
	}
	for _, q := range p.pieces {
		b = binary.AppendVarint(binary.AppendVarint(b, q.off), q.n)
		b = append(b, q.id[:]...)
	}
	return append(b, r.encode()...)
}

// decodeStored reads what encode wrote.
func decodeStored(b []byte) (*record, *parts, error) {
	if len(b) == 0 || b[0] != partsVersion {
		r, err := decodeRecord(b)
		return r, nil, err
	}
	d := decoder{b: b[1:]}
	p := &parts{total: d.between(-1, math.MaxInt64-1), asks: d.between(1, math.MaxInt64), short: d.between(0, math.MaxInt64)}
	most := p.total
	if most < 0 {
		most = math.MaxInt64 - 1
	}
	for range d.between(1, maxPieces) {
		var q piece
		q.off = d.between(0, most)
		q.n = d.between(1, max(most-q.off, 1))
		copy(q.id[:], d.bytes(idSize))
		p.pieces = append(p.pieces, q)
	}
	if d.bad || p.reach() > most || p.short > 0 && (len(p.pieces) != 1 || p.short <= p.pieces[0].n) {
		return nil, nil, errRecord
	}
	r, err := decodeRecord(d.b)
	return r, p, err
}

// partsBody reads across pieces.
type partsBody struct {
	c     *Cache
	key   store.Key // of the response
	id    uint64
	parts *parts
	rec   *record
}

// Open implements store.Body.
func (b *partsBody) Open(off, n int64) (io.ReadCloser, error) {
	if n == 0 {
		return http.NoBody, nil
	}
	pieces, ok := b.parts.cover(span{off, n})
	if off < 0 || n < 0 || !ok {
		return nil, store.ErrLost
	}
	var steps []opener
	for _, q := range pieces {
		s := span{off, min(n, q.end()-off)}
		off, n = off+s.n, n-s.n
		steps = append(steps, func() (io.ReadCloser, error) { return b.open(q, s) })
	}
	first, err := steps[0]()
	if err != nil {
		return nil, err
	}
	return &chain{cur: first, steps: steps[1:]}, nil
}

// open reads s, which lies in q. A piece that is gone takes the response along,
// unless it went because something better is stored of the same representation.
func (b *partsBody) open(q piece, s span) (io.ReadCloser, error) {
	o, ok := b.c.store.Get(q.key())
	if ok && o.Size == q.n {
		if r, err := o.Body.Open(s.off-q.off, s.n); err == nil {
			return r, nil
		}
	}
	o, ok = b.c.store.Get(b.key)
	if !ok {
		return nil, store.ErrLost
	}
	if o.ID == b.id {
		b.c.store.Delete(b.key)
		return nil, store.ErrLost
	}
	if e := b.c.entry(b.key); e != nil && e.fits(b.rec, s, b.parts.total) && (e.parts == nil || e.parts.holds(s)) {
		return e.obj.Body.Open(s.off, s.n)
	}
	return nil, store.ErrLost
}

// discardPieces removes pieces that nothing lists any more.
func (c *Cache) discardPieces(ps []piece) {
	for _, q := range ps {
		c.store.Delete(q.key())
	}
}
