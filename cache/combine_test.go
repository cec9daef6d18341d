package cache

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"fwdproxy/internal/unit"
)

func TestPartsAreCombinedByAStrongEntityTagAlone(t *testing.T) { // RFC 9111, Section 3.4
	for _, tc := range []struct {
		first, second ranged
		combined      bool
	}{
		{ranged{tag: `"a"`}, ranged{tag: `"a"`}, true},
		{ranged{tag: `"a"`, total: "*"}, ranged{tag: `"a"`}, true},
		{ranged{tag: `"a"`}, ranged{tag: `"a"`, total: "*"}, true},
		{ranged{tag: `"a"`}, ranged{tag: `"b"`}, false},
		{ranged{tag: `"a"`}, ranged{}, false},
		{ranged{tag: `W/"a"`}, ranged{tag: `W/"a"`}, false},
		{ranged{}, ranged{}, false},
		{ranged{tag: `"a"`}, ranged{tag: `"a"`, total: "11"}, false},
		{ranged{tag: `"a"`, more: []string{"Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT"}}, ranged{more: []string{"Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT"}}, false},
	} {
		tc.first.body, tc.second.body = "0123456789", "0123456789"
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			if n == 1 {
				return tc.first.answer(n, req)
			}
			return tc.second.answer(n, req)
		})
		b.tr.cfg.RangeFill = 0
		b.part("0123", "0-3")
		b.part("4567", "4-7")
		if asked := b.part("4567", "4-7"); asked {
			t.Errorf("%+v: the later part is not there", tc.second)
		}
		r := b.get("Range: bytes=2-5", "Cache-Control: only-if-cached")
		if (r.err == nil) != tc.combined || r.err == nil && r.body != "2345" {
			t.Errorf("%+v %+v: got %q, %v", tc.first, tc.second, r.body, r.err)
		}
	}
}

func TestARequestForTheWholeAsksForWhatIsMissing(t *testing.T) { // RFC 9111, Section 3.3
	for _, tc := range []struct {
		name       string
		parts      []string
		change     func(o *ranged)
		rng, cond  string
		fetches    int
		want, then string
	}{
		{name: "the end", parts: []string{"0-3"}, rng: "bytes=4-", cond: `"a"`, fetches: 1},
		{name: "the begin", parts: []string{"-4"}, rng: "bytes=0-5", cond: `"a"`, fetches: 1},
		{name: "the middle", parts: []string{"0-3", "-3"}, rng: "bytes=4-6", cond: `"a"`, fetches: 1},
		{name: "what changed", parts: []string{"0-3"}, change: func(o *ranged) { o.tag, o.body = `"b"`, "abcdefghij" }, rng: "bytes=4-", cond: `"a"`, fetches: 1},
		{name: "an origin that knows no ranges", parts: []string{"0-3"}, change: func(o *ranged) { o.tag = "" }, rng: "bytes=4-", cond: `"a"`, fetches: 1},
		{name: "a wrong length", parts: []string{"0-3"}, change: func(o *ranged) { o.total = "11" }, rng: "bytes=4-", cond: `"a"`, fetches: 2},
	} {
		o := &ranged{body: "0123456789", tag: `"a"`}
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) { return o.answer(n, req) })
		b.tr.cfg.RangeFill = 0
		for _, p := range tc.parts {
			b.get("Range: bytes=" + p)
		}
		if tc.change != nil {
			tc.change(o)
		}
		n := b.o.count()
		r := b.get()
		if r.status != 200 || r.body != o.body || r.bodyErr != nil || r.header.Get("Content-Range") != "" || r.header.Get("Content-Length") != "10" ||
			r.outcome.Status != "fwdproxy; fwd=partial; stored" {
			t.Errorf("%s: got %+v", tc.name, r)
		}
		if got := b.o.request(n + 1).Header; got.Get("Range") != tc.rng || got.Get("If-Range") != tc.cond {
			t.Errorf("%s: asked with %v", tc.name, got)
		}
		b.asked(n + tc.fetches)
		if r := b.get(); r.outcome.Result != Hit || r.body != o.body {
			t.Errorf("%s: then got %+v", tc.name, r)
		}
	}
}

func TestA206ThatFitsNothingIsNeverPartOfTheWhole(t *testing.T) { // RFC 9111, Section 3.4
	for name, second := range map[string]func() *http.Response{
		"another range":  func() *http.Response { return response(206, "56789", `ETag: "a"`, "Content-Range: bytes 5-9/10") },
		"another tag":    func() *http.Response { return response(206, "xxxxxx", `ETag: "b"`, "Content-Range: bytes 4-9/10") },
		"no tag":         func() *http.Response { return response(206, "xxxxxx", "Content-Range: bytes 4-9/10") },
		"a weak tag":     func() *http.Response { return response(206, "xxxxxx", `ETag: W/"a"`, "Content-Range: bytes 4-9/10") },
		"fewer bytes":    func() *http.Response { return response(206, "xxxxx", `ETag: "a"`, "Content-Range: bytes 4-9/10") },
		"no range":       func() *http.Response { return response(206, "xxxxxx", `ETag: "a"`) },
		"not satisfied":  func() *http.Response { return response(416, "", "Content-Range: bytes */4") },
		"nothing unread": func() *http.Response { return response(304, "", `ETag: "a"`) },
	} {
		o := &ranged{body: "0123456789", tag: `"a"`}
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			if n == 2 {
				return second(), nil
			}
			return o.answer(n, req)
		})
		b.part("0123", "0-3")
		if r := b.get(); r.status != 200 || r.body != o.body || r.bodyErr != nil {
			t.Errorf("%s: got %d %q, %v, %v", name, r.status, r.body, r.err, r.bodyErr)
		}
		b.asked(3)
		if h := b.o.request(3).Header; len(h["Range"])+len(h["If-Range"]) > 0 {
			t.Errorf("%s: asked again with %v", name, h)
		}
	}
}

func TestAMiddleThatBreaksOffIsNotFollowedByTheEnd(t *testing.T) { // RFC 9111, Section 3.4
	for _, middle := range []string{"45", "45678"} { // of 456
		o := &ranged{body: "0123456789", tag: `"a"`}
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			if n == 3 {
				r := chunked(strings.NewReader(middle), "Cache-Control: max-age=100", `ETag: "a"`, "Content-Range: bytes 4-6/10")
				r.StatusCode = 206
				return r, nil
			}
			return o.answer(n, req)
		})
		b.tr.cfg.RangeFill = 0
		b.part("0123", "0-3")
		b.part("789", "7-9")
		if r := b.get(); r.bodyErr == nil || !strings.HasPrefix(o.body, r.body) {
			t.Errorf("%s: got %q, %v", middle, r.body, r.bodyErr)
		}
		if r := b.get(); r.body != o.body || r.bodyErr != nil {
			t.Errorf("%s: then got %q, %v", middle, r.body, r.bodyErr)
		}
	}
}

func TestPartsInAnyOrderGiveTheirBytesOrAMiss(t *testing.T) { // RFC 9111, Section 3.4
	for seed := range uint64(8) {
		partsInRandomOrder(t, seed, 40)
	}
}

func FuzzParts(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { partsInRandomOrder(t, seed, 10) })
}

func partsInRandomOrder(t *testing.T, seed uint64, steps int) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	size := rnd.IntN(600<<10) + 1
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(rnd.Uint32())
	}
	o := &ranged{body: string(body), tag: `"a"`}
	b := newBench(t, o.answer)
	b.tr.cfg.RangeFill = 0
	for range steps {
		from := rnd.IntN(size)
		to := from + rnd.IntN(min(size-from, 100<<10))
		r := b.get(fmt.Sprintf("Range: bytes=%d-%d", from, to))
		if r.status != 206 || r.body != o.body[from:to+1] {
			t.Fatalf("seed %d: %d-%d of %d: got %d with %d bytes, %v, %v", seed, from, to, size, r.status, len(r.body), r.err, r.bodyErr)
		}
	}
	if r := b.get("Cache-Control: only-if-cached"); r.err == nil && r.body != o.body {
		t.Fatalf("seed %d: the whole has %d bytes of %d", seed, len(r.body), size)
	}
	if r := b.get(); r.status != 200 || r.body != o.body {
		t.Fatalf("seed %d: the whole is %d with %d bytes of %d, %v", seed, r.status, len(r.body), size, r.bodyErr)
	}
}

func TestAPartThatIsShorterThanItSaysIsNeverCombined(t *testing.T) { // RFC 9110, Section 15.3.7
	b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
		if n == 1 {
			return response(206, "01234", "Cache-Control: max-age=100", `ETag: "a"`, "Content-Range: bytes 4-9/10"), nil
		}
		return (&ranged{body: "abcdefghij", tag: `"a"`}).answer(n, req)
	})
	b.get("Range: bytes=-5")
	b.want(b.get("Range: bytes=6-"), 206, "234", Hit, "fwdproxy; hit; ttl=99")
	if r := b.get("Range: bytes=-1"); r.body != "4" || r.header.Get("Content-Range") != "bytes 9-9/10" {
		t.Errorf("got %+v", r)
	}
	if r := b.get(); r.body != "abcdefghij" {
		t.Errorf("it was combined: %q", r.body)
	}
}

func TestAClientThatAsksForRangesOnlyFillsTheCacheInProportion(t *testing.T) {
	body := strings.Repeat("x", 1<<20)
	for _, tc := range []struct {
		name   string
		ranges []string
		fill   unit.Size
		filled bool
	}{
		{"two ranges that are a sixteenth", []string{"0-40000", "50000-90000"}, 16 << 20, true},
		{"one range", []string{"0-900000"}, 16 << 20, false},
		{"two ranges that are next to nothing", []string{"0-0", "5-5"}, 16 << 20, false},
		{"a body that is too large", []string{"0-40000", "50000-90000"}, 1 << 19, false},
		{"range_fill is 0", []string{"0-40000", "50000-90000"}, 0, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			o := &ranged{body: body, tag: `"a"`}
			b := newBench(t, o.answer)
			b.tr.cfg.RangeFill = tc.fill
			for _, r := range tc.ranges {
				b.get("Range: bytes=" + r)
				synctest.Wait()
			}
			r := b.get("Cache-Control: only-if-cached")
			if (r.err == nil && r.body == body) != tc.filled {
				t.Errorf("%s: filled: %v", tc.name, r.err == nil)
			}
			want := len(tc.ranges)
			if tc.filled {
				want++
			}
			b.asked(want)
		})
	}
}

func TestNothingFromBeforeAPurgeIsCombinedWithWhatCameAfterIt(t *testing.T) {
	o := &ranged{body: "0123456789", tag: `"a"`}
	b := newBench(t, o.answer)
	b.tr.cfg.RangeFill = 0
	b.part("01234", "0-4")
	b.purge([3]string{page, "", ""}, false)
	b.part("56789", "5-9")
	if r := b.get("Cache-Control: only-if-cached"); r.err == nil {
		t.Errorf("the whole is there: %q", r.body)
	}
	if !b.part("01", "0-1") {
		t.Error("what was purged is served")
	}
	b.get()
	if h := b.o.request(4).Header; h.Get("Range") != "bytes=2-4" {
		t.Errorf("the rest was asked for with %v", h)
	}
}
