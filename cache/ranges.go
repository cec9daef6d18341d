package cache

import (
	"cmp"
	"math"
	"net/http"
	"slices"
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

const (
	// maxRanges bounds the ranges of one request; a set of more is ignored (RFC
	// 9110, Section 14.2).
	maxRanges = 16
	// partOverhead is about what one more part of a multipart body costs, in
	// bytes: ranges closer to each other are sent as one (Section 15.3.7.2).
	partOverhead = 128
)

// rangeSpec is one range as it was asked for: the last bytes where first is
// negative, to the end where last is.
type rangeSpec struct{ first, last int64 }

// parseRange reads Range; false for other units, for what is malformed and for
// more than maxRanges, which Section 14.2 allows to ignore.
func parseRange(lines []string) ([]rangeSpec, bool) {
	if len(lines) != 1 {
		return nil, false
	}
	unit, set, ok := strings.Cut(lines[0], "=")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return nil, false
	}
	var specs []rangeSpec
	for text := range strings.SplitSeq(set, ",") {
		if text = header.Trim(text); text == "" {
			continue // an empty element of a list (Section 5.6.1.2)
		}
		a, b, ok := strings.Cut(text, "-")
		first, hasFirst, ok1 := position(a)
		last, hasLast, ok2 := position(b)
		if !ok || !ok1 || !ok2 || (!hasFirst && !hasLast) || (hasFirst && hasLast && last < first) || len(specs) == maxRanges {
			return nil, false
		}
		if !hasFirst {
			first = -1
		}
		if !hasLast {
			last = -1
		}
		specs = append(specs, rangeSpec{first, last})
	}
	return specs, len(specs) > 0
}

// of returns the bytes of a body of that size; false when there are none.
func (r rangeSpec) of(size int64) (span, bool) {
	switch {
	case r.first < 0:
		n := min(r.last, size)
		return span{size - n, n}, r.last > 0
	case r.first >= size:
		return span{}, false
	case r.last < 0:
		return span{r.first, size - r.first}, true
	}
	return span{r.first, min(r.last, size-1) - r.first + 1}, true
}

// selectRange returns what to send of r's body of size bytes to a GET with
// the fields h (RFC 9110, Sections 14.2 and 13.1.5): in the order asked for, but
// ascending once some that overlap or nearly touch became one.
func selectRange(h http.Header, r *record, size int64) ([]span, rangeVerdict) {
	if r.status != http.StatusOK || len(h["Range"]) == 0 || !ifRange(h["If-Range"], r) {
		return nil, wholeBody
	}
	specs, ok := parseRange(h["Range"])
	if !ok {
		return nil, wholeBody
	}
	var spans []span
	for _, spec := range specs {
		if s, ok := spec.of(size); ok {
			spans = append(spans, s)
		}
	}
	switch {
	case len(spans) == 0:
		return nil, rangeOutsideAll
	case size == 0:
		return nil, wholeBody // satisfiable, but no Content-Range can say so
	}
	return coalesce(spans), partOfBody
}

// coalesce joins spans that overlap or lie closer than partOverhead.
func coalesce(spans []span) []span {
	sorted := slices.SortedFunc(slices.Values(spans), func(a, b span) int { return cmp.Compare(a.off, b.off) })
	joined := sorted[:1]
	for _, s := range sorted[1:] {
		last := &joined[len(joined)-1]
		if s.off > last.off+last.n+partOverhead {
			joined = append(joined, s)
			continue
		}
		last.n = max(last.n, s.off+s.n-last.off)
	}
	if len(joined) == len(spans) {
		return spans
	}
	return joined
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

// contentRange writes Content-Range; a size below 0 is not known.
func contentRange(s span, size int64) string {
	whole := "*"
	if size >= 0 {
		whole = decimal(size)
	}
	return "bytes " + decimal(s.off) + "-" + decimal(s.off+s.n-1) + "/" + whole
}

// parseContentRange reads the Content-Range of a 206 with one part (RFC 9110,
// Section 14.4); the size is -1 when it is not known. What is invalid there is
// false, and so is what an int64 does not hold.
func parseContentRange(lines []string) (s span, size int64, ok bool) {
	if len(lines) != 1 {
		return span{}, 0, false
	}
	unit, rest, _ := strings.Cut(lines[0], " ")
	positions, whole, ok := strings.Cut(rest, "/")
	a, b, dash := strings.Cut(positions, "-")
	first, has1, ok1 := position(a)
	last, has2, ok2 := position(b)
	if !ok || !dash || !ok1 || !ok2 || !has1 || !has2 || !strings.EqualFold(unit, "bytes") || last < first || last == math.MaxInt64 {
		return span{}, 0, false
	}
	size = -1
	if whole != "*" {
		n, has, ok := position(whole)
		if !ok || !has || n <= last || n == math.MaxInt64 {
			return span{}, 0, false
		}
		size = n
	}
	return span{first, last - first + 1}, size, true
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
