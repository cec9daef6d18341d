package cache

import (
	"cmp"
	"slices"
	"strings"

	"fwdproxy/internal/header"
)

// weight is one member of an Accept-Encoding or Accept-Language.
type weight struct {
	name string // in lower case
	q    int    // in thousandths
}

// weighted returns one form for all values of Accept-Encoding or
// Accept-Language that mean the same: neither the case of names, nor the order
// of members, which the quality alone ranks, nor how the quality is written
// says anything (RFC 9110, Sections 12.4.2, 12.5.3 and 12.5.4). It is false for
// other fields and for a value that is malformed.
func weighted(field string, lines []string) (string, bool) {
	if field != "Accept-Encoding" && field != "Accept-Language" {
		return "", false
	}
	var list []weight
	for _, line := range lines {
		for e := range header.Elements(line) {
			if e == "" {
				continue
			}
			w, ok := parseWeight(e)
			if !ok {
				return "", false
			}
			if field == "Accept-Encoding" {
				// RFC 9110, Sections 8.4.1.1 and 8.4.1.3.
				if w.name == "x-gzip" || w.name == "x-compress" {
					w.name = w.name[2:]
				}
			}
			list = append(list, w)
		}
	}
	slices.SortFunc(list, func(a, b weight) int {
		return cmp.Or(cmp.Compare(b.q, a.q), strings.Compare(a.name, b.name))
	})
	list = slices.Compact(list)
	var b strings.Builder
	for _, w := range list {
		b.WriteString(w.name)
		b.WriteByte(';')
		b.WriteString(decimal(int64(w.q)))
		b.WriteByte(',')
	}
	return b.String(), true
}

// parseWeight reads a name with an optional quality (RFC 9110, Section 12.4.2).
func parseWeight(s string) (weight, bool) {
	name, param, has := strings.Cut(s, ";")
	w := weight{strings.ToLower(header.Trim(name)), 1000}
	if !header.IsToken(w.name) {
		return w, false
	}
	if !has {
		return w, true
	}
	key, value, _ := strings.Cut(header.Trim(param), "=")
	if !strings.EqualFold(key, "q") || len(value) == 0 || len(value) > len("0.000") || len(value) > 1 && value[1] != '.' {
		return w, false
	}
	digits := value[:1] + strings.TrimPrefix(value[1:], ".")
	digits += strings.Repeat("0", 4-len(digits))
	w.q = 0
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return w, false
		}
		w.q = w.q*10 + int(c-'0')
	}
	return w, w.q <= 1000
}
