package acl

import (
	"hash/maphash"
	"strings"
)

// set is what a list, or the entries that stand in a rule, holds.
type set struct {
	domains   domainSet
	addresses addressSet
}

// add reports false when the set is full.
func (s *set) add(e entry) bool {
	if e.prefix.IsValid() {
		s.addresses.add(e.prefix)
		return true
	}
	return s.domains.add(e.name, e.below)
}

// covers reports whether every request that e holds for is in the set.
func (s *set) covers(e entry) bool {
	switch {
	case e.prefix.IsValid():
		p, ok := s.addresses.find(e.prefix.Addr())
		return ok && p.Bits() <= e.prefix.Bits()
	case e.below:
		return s.domains.covers(e.name, below)
	}
	return s.domains.match(e.name)
}

// domainSet is a hash table of names without pointers in it, so that the
// garbage collector need not walk lists of millions.
type domainSet struct {
	names []byte // one after the other: marks, length (a name has at most 253 bytes), name
	slots []slot // a power of two, at most three quarters full; linear probing
	count int
}

// slot points to a name; at is one more than its offset, 0 when free.
type slot struct{ hash, at uint32 }

// The marks of a name.
const (
	itself byte = 1 << iota // "a.b"
	below                   // ".a.b", which is a.b as well
)

// maxNames is what the offsets of a domainSet can reach.
const maxNames = 1<<32 - 1 - 256

var seed = maphash.MakeSeed()

func hash(name string) uint32 { return uint32(maphash.String(seed, name)) }

// add enters a canonical name. It reports false when the set is full, which
// takes more than four gigabytes of names.
func (d *domainSet) add(name string, andBelow bool) bool {
	mark := itself
	if andBelow {
		mark = below
	}
	h := hash(name)
	if at := d.find(name, h); at != 0 {
		d.names[at-1] |= mark
		return true
	}
	if len(d.names) > maxNames {
		return false
	}
	if 4*(d.count+1) > 3*len(d.slots) {
		d.grow()
	}
	d.put(slot{hash: h, at: uint32(len(d.names)) + 1})
	d.names = append(d.names, mark, byte(len(name)))
	d.names = append(d.names, name...)
	d.count++
	return true
}

func (d *domainSet) grow() {
	old := d.slots
	d.slots = make([]slot, max(8, 2*len(old)))
	for _, s := range old {
		if s.at != 0 {
			d.put(s)
		}
	}
}

func (d *domainSet) put(s slot) {
	i := int(s.hash) & (len(d.slots) - 1)
	for d.slots[i].at != 0 {
		i = (i + 1) & (len(d.slots) - 1)
	}
	d.slots[i] = s
}

// find returns one more than the offset of name, 0 when it is not there.
func (d *domainSet) find(name string, h uint32) uint32 {
	if d.count == 0 {
		return 0
	}
	for i := int(h) & (len(d.slots) - 1); d.slots[i].at != 0; i = (i + 1) & (len(d.slots) - 1) {
		if s := d.slots[i]; s.hash == h {
			n := d.names[s.at:] // its length, then the name
			if int(n[0]) == len(name) && string(n[1:1+len(name)]) == name {
				return s.at
			}
		}
	}
	return 0
}

// match reports whether host is in the set, itself or as a name below one.
func (d *domainSet) match(host string) bool { return d.covers(host, itself|below) }

// covers reports whether the set has name with one of the marks, or a name
// above it with all below.
func (d *domainSet) covers(name string, marks byte) bool {
	if d.count == 0 {
		return false
	}
	for {
		if at := d.find(name, hash(name)); at != 0 && d.names[at-1]&marks != 0 {
			return true
		}
		dot := strings.IndexByte(name, '.')
		if dot < 0 {
			return false
		}
		name, marks = name[dot+1:], below
	}
}
