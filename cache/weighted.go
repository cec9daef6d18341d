package cache

import (
	"cmp"
	"slices"
	"strings"

	"fwdproxy/internal/header"
)

// weighted returns one form for all values of Accept-Encoding or
// Accept-Language that mean the same: neither the case of names, nor the order
// of members, which the quality alone ranks, nor how the quality is written
// says anything (RFC 9110, Sections 12.4.2, 12.5.3 and 12.5.4). It is false for
// other fields and for a value that is malformed.
func weighted(field string, lines []string) (string, bool) {
	if field != "Accept-Encoding" && field != "Accept-Language" {
		return "", false
	}
	var list []header.Weight
	for _, line := range lines {
		for e := range header.Elements(line) {
			if e == "" {
				continue
			}
			w, ok := header.ParseWeight(e)
			if !ok {
				return "", false
			}
			if field == "Accept-Encoding" {
				// RFC 9110, Sections 8.4.1.1 and 8.4.1.3.
				if w.Name == "x-gzip" || w.Name == "x-compress" {
					w.Name = w.Name[2:]
				}
			}
			list = append(list, w)
		}
	}
	slices.SortFunc(list, func(a, b header.Weight) int {
		return cmp.Or(cmp.Compare(b.Q, a.Q), strings.Compare(a.Name, b.Name))
	})
	list = slices.Compact(list)
	var b strings.Builder
	for _, w := range list {
		b.WriteString(w.Name)
		b.WriteByte(';')
		b.WriteString(decimal(int64(w.Q)))
		b.WriteByte(',')
	}
	return b.String(), true
}
