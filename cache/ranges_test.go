package cache

import (
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestARangeIsAnsweredOrIgnoredOrOutside(t *testing.T) { // RFC 9110, Section 14.2
	for _, tc := range []struct {
		spec string
		size int64
		want []span
		how  rangeVerdict
	}{
		{"bytes=0-4", 10, []span{{0, 5}}, partOfBody},
		{"bytes=0-0", 10, []span{{0, 1}}, partOfBody},
		{"BYTES=2-3", 10, []span{{2, 2}}, partOfBody},
		{"bytes= 2-3 ", 10, []span{{2, 2}}, partOfBody},
		{"bytes=5-", 10, []span{{5, 5}}, partOfBody},
		{"bytes=5-100", 10, []span{{5, 5}}, partOfBody},
		{"bytes=-3", 10, []span{{7, 3}}, partOfBody},
		{"bytes=-30", 10, []span{{0, 10}}, partOfBody},
		{"bytes=0-99999999999999999999999", 10, []span{{0, 10}}, partOfBody},
		{"bytes=-99999999999999999999999", 10, []span{{0, 10}}, partOfBody},
		{"bytes=10-", 10, nil, rangeOutsideAll},
		{"bytes=10-12", 10, nil, rangeOutsideAll},
		{"bytes=99999999999999999999999-", 10, nil, rangeOutsideAll},
		{"bytes=-0", 10, nil, rangeOutsideAll},
		{"bytes=0-", 0, nil, rangeOutsideAll},
		{"bytes=-5", 0, nil, wholeBody},
		{"bytes=0-1,3-4", 10, []span{{0, 5}}, partOfBody}, // closer than a part's head is long
		{"bytes=0-9,5-14,-1", 1000, []span{{0, 15}, {999, 1}}, partOfBody},
		{"bytes=900-909, ,0-9,", 1000, []span{{900, 10}, {0, 10}}, partOfBody}, // in the order asked for
		{"bytes=900-909,0-9,5-9", 1000, []span{{0, 10}, {900, 10}}, partOfBody},
		{"bytes=5-,0-,-1000,0-999", 1000, []span{{0, 1000}}, partOfBody},
		{"bytes=0-0,2000-,-0", 1000, []span{{0, 1}}, partOfBody}, // what is not there is left out
		{"bytes=2000-,3000-3001", 1000, nil, rangeOutsideAll},
		{"bytes=0-1,x", 1000, nil, wholeBody},
		{"bytes=,", 1000, nil, wholeBody},
		{"bytes=" + strings.Repeat("0-,", maxRanges), 1000, []span{{0, 1000}}, partOfBody},
		{"bytes=" + strings.Repeat("0-,", maxRanges+1), 1000, nil, wholeBody},
		{"bytes=5-4", 10, nil, wholeBody},
		{"bytes=", 10, nil, wholeBody},
		{"bytes=-", 10, nil, wholeBody},
		{"bytes=a-b", 10, nil, wholeBody},
		{"bytes=+1-2", 10, nil, wholeBody},
		{"bytes=1-2-3", 10, nil, wholeBody},
		{"bytes=--1", 10, nil, wholeBody},
		{"bytes=1", 10, nil, wholeBody},
		{"items=0-1", 10, nil, wholeBody},
		{"0-1", 10, nil, wholeBody},
	} {
		got, how := selectRange(fields("Range: "+tc.spec), &record{status: 200}, tc.size)
		if !slices.Equal(got, tc.want) || how != tc.how {
			t.Errorf("%s of %d: got %v %v, want %v %v", tc.spec, tc.size, got, how, tc.want, tc.how)
		}
	}
	if _, how := selectRange(fields("Range: bytes=0-1", "Range: bytes=0-1"), &record{status: 200}, 10); how != wholeBody {
		t.Error("two Range lines are answered")
	}
	if _, how := selectRange(fields("Range: bytes=0-1"), &record{status: 404}, 10); how != wholeBody {
		t.Error("a part of an error is sent")
	}
}

func TestIfRangeNeedsTheVeryRepresentation(t *testing.T) { // RFC 9110, Section 13.1.5
	modified, date := httpDate(noon.Add(-time.Hour)), httpDate(noon)
	for _, tc := range []struct {
		ifRange string
		stored  []string
		part    bool
	}{
		{`"a"`, []string{`ETag: "a"`}, true},
		{`"b"`, []string{`ETag: "a"`}, false},
		{`"a"`, nil, false},
		{`W/"a"`, []string{`ETag: W/"a"`}, false},
		{`"a"`, []string{`ETag: W/"a"`}, false},
		{modified, []string{"Last-Modified: " + modified, "Date: " + date}, true},
		{date, []string{"Last-Modified: " + modified, "Date: " + date}, false},
		{modified, []string{"Last-Modified: " + modified, "Date: " + modified}, false}, // a weak date
		{modified, nil, false},
		{"x", []string{`ETag: "a"`}, false},
	} {
		_, how := selectRange(fields("Range: bytes=0-1", "If-Range: "+tc.ifRange), &record{status: 200, received: noon, header: fields(tc.stored...)}, 10)
		if (how == partOfBody) != tc.part {
			t.Errorf("%s with %v: part is %v", tc.ifRange, tc.stored, how == partOfBody)
		}
	}
}

// The ranges are worked out again, byte by byte: everything that was asked for
// is sent, each byte once, and no more than the gaps that are too short to leave.
func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-1", "bytes=-1", "bytes=1-", "bytes=0-1,200-300", "x=1", "bytes=500-600,0-9,-5"} {
		f.Add(s, uint16(1000))
	}
	f.Fuzz(func(t *testing.T, s string, size uint16) {
		got, how := selectRange(http.Header{"Range": {s}}, &record{status: 200}, int64(size))
		if (how == partOfBody) != (len(got) > 0) {
			t.Fatalf("%q of %d: %v %v", s, size, got, how)
		}
		if how != partOfBody {
			return
		}
		sent := make([]bool, size)
		for _, g := range got {
			if g.n <= 0 {
				t.Fatalf("%q of %d: %v", s, size, got)
			}
			for i := range g.n {
				if sent[g.off+i] {
					t.Fatalf("%q of %d: byte %d is sent twice: %v", s, size, g.off+i, got)
				}
				sent[g.off+i] = true
			}
		}
		asked := make([]bool, size)
		for spec := range strings.SplitSeq(s[len("bytes="):], ",") {
			a, b, _ := strings.Cut(strings.Trim(spec, " \t"), "-")
			from, ok1 := new(big.Int).SetString(a, 10)
			to, ok2 := new(big.Int).SetString(b, 10)
			for i := range asked {
				n := big.NewInt(int64(i))
				switch {
				case ok1 && n.Cmp(from) >= 0 && (!ok2 || n.Cmp(to) <= 0),
					!ok1 && ok2 && big.NewInt(int64(len(asked)-i)).Cmp(to) <= 0:
					asked[i] = true
				}
			}
		}
		extra := 0
		for i := range asked {
			if asked[i] && !sent[i] {
				t.Fatalf("%q of %d: byte %d is missing: %v", s, size, i, got)
			}
			if !asked[i] && sent[i] {
				extra++
			}
		}
		if extra > maxRanges*partOverhead {
			t.Fatalf("%q of %d: %d bytes too many", s, size, extra)
		}
	})
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-1/2", "bytes 0-1/*", "bytes */5", "bytes 9-1/20", "items 1-2/3", "bytes 1-2/2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		s, size, ok := parseContentRange([]string{line})
		if !ok {
			return
		}
		if s.off < 0 || s.n < 1 || s.end() < s.off || size != -1 && s.end() > size {
			t.Fatalf("%q: %v of %d", line, s, size)
		}
		if again, n, ok := parseContentRange([]string{contentRange(s, size)}); !ok || again != s || n != size {
			t.Fatalf("%q is written as %q", line, contentRange(s, size))
		}
	})
}

func TestAnInvalidContentRangeIsNotRead(t *testing.T) { // RFC 9110, Section 14.4
	for _, line := range []string{"", "bytes", "bytes 0-1", "bytes 2-1/10", "bytes 0-9/9", "bytes */10", "bytes 0-1/", "bytes -1/10", "bytes 0-/10",
		"items 0-1/10", "bytes 0-1/x", "bytes +0-1/10", "bytes 0-99999999999999999999/*", "bytes 0-1/99999999999999999999", "bytes=0-1/10"} {
		if s, n, ok := parseContentRange([]string{line}); ok {
			t.Errorf("%q is read as %v of %d", line, s, n)
		}
	}
	if _, _, ok := parseContentRange([]string{"bytes 0-1/2", "bytes 0-1/2"}); ok {
		t.Error("two lines are read")
	}
}
