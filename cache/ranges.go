package cache

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"fwdproxy/internal/header"
)

// span is n bytes from off.
type span struct{ off, n int64 }

// rangeVerdict is what a Range asks of a representation.
type rangeVerdict uint8

const (
	wholeBody       rangeVerdict = iota // as if Range were not there
	partOfBody                          // 206
	rangeOutsideAll                     // 416
)

// selectRange returns what to send of r's body of size bytes to a GET with
// the fields h (RFC 9110, Sections 14.2 and 13.1.5). One byte range is
// answered; several, other units and what is malformed get the whole, as
// Section 14.2 allows.
func selectRange(h http.Header, r *record, size int64) (span, rangeVerdict) {
	whole := span{0, size}
	lines := h["Range"]
	if len(lines) != 1 || r.status != http.StatusOK || !ifRange(h["If-Range"], r) {
		return whole, wholeBody
	}
	unit, spec, ok := strings.Cut(lines[0], "=")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return whole, wholeBody
	}
	a, b, ok := strings.Cut(header.Trim(spec), "-")
	if !ok {
		return whole, wholeBody
	}
	from, hasFrom, ok1 := position(a)
	to, hasTo, ok2 := position(b)
	switch {
	case !ok1 || !ok2 || (!hasFrom && !hasTo) || (hasFrom && hasTo && to < from):
		return whole, wholeBody
	case !hasFrom && to == 0, hasFrom && from >= size:
		return whole, rangeOutsideAll
	case !hasFrom && size == 0:
		return whole, wholeBody // satisfiable, but no Content-Range can say so
	case !hasFrom:
		n := min(to, size)
		return span{size - n, n}, partOfBody
	case !hasTo:
		return span{from, size - from}, partOfBody
	}
	return span{from, min(to, size-1) - from + 1}, partOfBody
}

// position reads digits; what is beyond any length is clamped.
func position(s string) (n int64, has, ok bool) {
	if s == "" {
		return 0, false, true
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		n = math.MaxInt64
	}
	return n, true, true
}

// ifRange reports whether If-Range lets the Range stand: a strong entity tag
// that is the stored one, or a date that is exactly Last-Modified and strong
// itself, being older than Date (RFC 9110, Sections 13.1.5 and 8.8.2.2).
func ifRange(lines []string, r *record) bool {
	if len(lines) == 0 {
		return true
	}
	if len(lines) > 1 {
		return false
	}
	v := lines[0]
	if isStrong(v) {
		return v == first(r.header, "Etag")
	}
	presented, ok := parseDate(v)
	if !ok {
		return false
	}
	modified, ok := date(r.header, "Last-Modified")
	return ok && presented.Equal(modified) && dateOr(r.header, r.received).Sub(modified) >= time.Second
}

func contentRange(s span, size int64) string {
	return "bytes " + decimal(s.off) + "-" + decimal(s.off+s.n-1) + "/" + decimal(size)
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
