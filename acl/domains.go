package acl

import (
	"hash/maphash"
	"strings"
)

// set is what a list, or the entries that stand in a rule, holds.
type set struct {
	domains   domainSet
	addresses addressSet
	urls      urlSet
	missing   bool // a part of it is not there, and so anything may be in it
}

// add reports false when the set is full.
func (s *set) add(e entry) bool {
	switch {
	case e.prefix.IsValid():
		s.addresses.add(e.prefix)
		return true
	case e.path != "":
		return s.urls.add(e.name, e.path)
	}
	mark := itself
	switch {
	case e.under && e.except:
		mark = exceptUnder
	case e.except:
		mark = exceptItself
	case e.under:
		mark = under
	case e.below:
		mark = below
	}
	return s.domains.mark(e.name, mark)
}

// seal must stand between add and the first question.
func (s *set) seal() {
	s.domains.seal()
	s.addresses.seal()
	s.urls.seal()
}

// empty reports whether the set holds for nothing.
func (s *set) empty() bool {
	return s.domains.count == 0 && s.addresses.len() == 0 && len(s.urls.at) == 0
}

// bytes is what the tables take, none of which have pointers in them.
func (s *set) bytes() int64 {
	return s.domains.bytes() + s.urls.hosts.bytes() + int64(cap(s.urls.text)+4*cap(s.urls.at))
}

// covers reports whether every request that e holds for is in the set.
func (s *set) covers(e entry) bool {
	switch {
	case e.prefix.IsValid():
		p, ok := s.addresses.find(e.prefix.Addr())
		return ok && p.Bits() <= e.prefix.Bits()
	case e.path != "":
		return s.urls.find(e.name, []byte(e.path)) == yes
	case e.below:
		return s.domains.covers(e.name, below)
	case e.under:
		return s.domains.covers(e.name, below|under)
	}
	return s.domains.match(e.name)
}

// domainSet is a hash table of names without pointers in it, so that the
// garbage collector need not walk lists of millions. Whatever the hash says, a
// name is found only where all its bytes are there.
type domainSet struct {
	names [][]byte // in pieces of at most pieceSize, one after the other: marks, length (a name has at most 253 bytes), name
	tags  []byte   // a byte of the hash of the name in each slot, 0 for a free slot; at most three quarters are taken
	at    []uint32 // for each slot, the piece and where in it the name begins
	count int
}

// The marks of a name.
const (
	itself       byte = 1 << iota // "a.b"
	below                         // ".a.b", which is a.b as well
	under                         // all below a.b alone
	exceptItself                  // not a.b, though it lies below another name
	exceptUnder                   // not what lies below a.b
)

// A position is the number of a piece and an offset in it. Pieces never move,
// so that a list of millions is not copied while it grows.
const (
	pieceBits = 20
	pieceSize = 1 << pieceBits
	maxPieces = 1 << (32 - pieceBits)
)

// entry returns what stands in names from the position on.
func (d *domainSet) entry(at uint32) []byte { return d.names[at>>pieceBits][at&(pieceSize-1):] }

var seed = maphash.MakeSeed()

func hash(name string) uint64 { return maphash.String(seed, name) }

// slot returns the first slot and the tag for a hash.
func (d *domainSet) slot(h uint64) (int, byte) {
	return int(h & 0xffffffff * uint64(len(d.tags)) >> 32), max(1, byte(h>>56))
}

func (d *domainSet) next(i int) int {
	if i++; i < len(d.tags) {
		return i
	}
	return 0
}

// add enters a canonical name. It reports false when the set is full, which
// takes more than four gigabytes of names.
func (d *domainSet) add(name string, andBelow bool) bool {
	if andBelow {
		return d.mark(name, below)
	}
	return d.mark(name, itself)
}

// mark is add, for any of the marks.
func (d *domainSet) mark(name string, mark byte) bool {
	h := hash(name)
	if at, ok := d.find(name, h); ok {
		d.entry(at)[0] |= mark
		return true
	}
	last := len(d.names) - 1
	if last < 0 || len(d.names[last])+2+len(name) > pieceSize {
		if last++; last == maxPieces {
			return false
		}
		var piece []byte
		if last > 0 { // a first one may stay small
			piece = make([]byte, 0, pieceSize)
		}
		d.names = append(d.names, piece)
	}
	if 4*(d.count+1) > 3*len(d.tags) {
		d.resize(max(8, 2*len(d.tags)))
	}
	d.put(h, uint32(last<<pieceBits+len(d.names[last])))
	d.names[last] = append(append(d.names[last], mark, byte(len(name))), name...)
	d.count++
	return true
}

// seal gives back what the table does not need.
func (d *domainSet) seal() {
	if size := d.count + d.count/3 + 1; d.count > 0 && size < len(d.tags) {
		d.resize(size)
	}
	if last := len(d.names) - 1; last >= 0 {
		d.names[last] = append(make([]byte, 0, len(d.names[last])), d.names[last]...)
	}
}

func (d *domainSet) bytes() int64 {
	n := cap(d.tags) + 4*cap(d.at)
	for _, piece := range d.names {
		n += cap(piece)
	}
	return int64(n)
}

// resize makes a table of that many slots.
func (d *domainSet) resize(slots int) {
	d.tags, d.at = make([]byte, slots), make([]uint32, slots)
	for at, name := range d.all {
		d.put(maphash.Bytes(seed, name), at)
	}
}

// all yields every name with its position.
func (d *domainSet) all(yield func(at uint32, name []byte) bool) {
	for i, piece := range d.names {
		for at := 0; at < len(piece); {
			end := at + 2 + int(piece[at+1])
			if !yield(uint32(i<<pieceBits+at), piece[at+2:end]) {
				return
			}
			at = end
		}
	}
}

func (d *domainSet) put(h uint64, at uint32) {
	i, tag := d.slot(h)
	for d.tags[i] != 0 {
		i = d.next(i)
	}
	d.tags[i], d.at[i] = tag, at
}

// find returns where in names the name begins.
func (d *domainSet) find(name string, h uint64) (uint32, bool) {
	if d.count == 0 {
		return 0, false
	}
	i, tag := d.slot(h)
	for ; d.tags[i] != 0; i = d.next(i) {
		if d.tags[i] == tag {
			n := d.entry(d.at[i])[1:] // its length, then the name
			if int(n[0]) == len(name) && string(n[1:1+len(name)]) == name {
				return d.at[i], true
			}
		}
	}
	return 0, false
}

// match reports whether host is in the set, itself or as a name below one,
// unless a name between them is an exception.
func (d *domainSet) match(host string) bool { return d.covers(host, itself|below) }

// covers reports whether the set has name with one of the marks, or a name
// above it with all below.
func (d *domainSet) covers(name string, marks byte) bool {
	if d.count == 0 {
		return false
	}
	except := exceptItself
	for {
		if at, ok := d.find(name, hash(name)); ok {
			switch has := d.entry(at)[0]; {
			case has&marks != 0:
				return true
			case has&except != 0:
				return false
			}
		}
		dot := strings.IndexByte(name, '.')
		if dot < 0 {
			return false
		}
		name, marks, except = name[dot+1:], below|under, exceptUnder
	}
}
