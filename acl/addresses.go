package acl

import (
	"cmp"
	"net/netip"
	"slices"
)

// addressSet is a table of prefixes of both families. Between add and contains
// it must be sealed.
type addressSet struct {
	prefixes []netip.Prefix // sealed: sorted and disjoint
}

func (s *addressSet) add(p netip.Prefix) { s.prefixes = append(s.prefixes, p) }

func (s *addressSet) len() int { return len(s.prefixes) }

// seal sorts the table and drops prefixes that lie in another.
func (s *addressSet) seal() {
	slices.SortFunc(s.prefixes, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	kept := s.prefixes[:0]
	for _, p := range s.prefixes {
		if n := len(kept); n == 0 || !kept[n-1].Contains(p.Addr()) {
			kept = append(kept, p)
		}
	}
	s.prefixes = slices.Clip(kept)
}

// contains reports whether a plain address lies in one of the prefixes; the
// zero address lies in none.
func (s *addressSet) contains(a netip.Addr) bool {
	_, ok := s.find(a)
	return ok
}

// find returns the prefix that a plain address lies in.
func (s *addressSet) find(a netip.Addr) (netip.Prefix, bool) {
	// lo becomes the first prefix that begins after a: only the one before it can hold a.
	lo, hi := 0, len(s.prefixes)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if s.prefixes[mid].Addr().Compare(a) > 0 {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	if lo == 0 || !s.prefixes[lo-1].Contains(a) {
		return netip.Prefix{}, false
	}
	return s.prefixes[lo-1], true
}
