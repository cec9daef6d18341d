package cache

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTagsAreReadFromTheirThreeFields(t *testing.T) {
	many := strings.Repeat("a ", maxTags)
	for _, tc := range []struct {
		lines            []string
		withheld         []string
		tags             []string
		groups           []string
		anyTag, anyGroup bool
	}{
		{lines: nil},
		{lines: []string{"Surrogate-Key:  a b\tc "}, tags: []string{"a", "b", "c"}},
		{lines: []string{"Surrogate-Key: a", "Surrogate-Key: b,c"}, tags: []string{"a", "b,c"}},
		{lines: []string{"Cache-Tag: a b,, c ,"}, tags: []string{"a b", "c"}},
		{lines: []string{`Cache-Groups: "a b", "c";x=1`, `Cache-Groups: "d,\"e"`}, tags: []string{"a b", "c", `d,"e`}, groups: []string{"a b", "c", `d,"e`}},
		{lines: []string{`Cache-Groups: "A", "a"`}, tags: []string{"A", "a"}, groups: []string{"A", "a"}},
		{lines: []string{`Cache-Groups: a`}, anyTag: true, anyGroup: true},
		{lines: []string{`Cache-Groups: "a", ("b")`}, anyTag: true, anyGroup: true},
		{lines: []string{`Cache-Groups: "a`, "Cache-Tag: b"}, tags: []string{"b"}, anyTag: true, anyGroup: true},
		{lines: []string{"Surrogate-Key: " + strings.Repeat("x", maxTag)}, tags: []string{strings.Repeat("x", maxTag)}},
		{lines: []string{"Surrogate-Key: " + strings.Repeat("x", maxTag+1)}, anyTag: true},
		{lines: []string{"Surrogate-Key: " + many}, tags: strings.Fields(many)},
		{lines: []string{"Surrogate-Key: " + many + "b"}, tags: strings.Fields(many), anyTag: true},
		{lines: []string{"Surrogate-Key: a"}, withheld: []string{"surrogate-KEY"}, tags: []string{"a"}, anyTag: true},
		{withheld: []string{"cache-groups"}, anyTag: true, anyGroup: true},
	} {
		var m mark
		m.readTags(fields(tc.lines...), tc.withheld)
		same := func(got []byte, want []string) bool {
			return slices.EqualFunc(slices.Collect(hashes(got)), want, func(h uint64, s string) bool { return h == hashTag(s) })
		}
		if !same(m.tags, tc.tags) || !same(m.groups, tc.groups) || m.anyTag != tc.anyTag || m.anyGroup != tc.anyGroup {
			t.Errorf("%.80q: got %d tags, %d groups, %v, %v", tc.lines, len(m.tags)/tagSize, len(m.groups)/tagSize, m.anyTag, m.anyGroup)
		}
	}
	groups := make([]string, 32) // RFC 9875, Section 2: at least 32 with 32 characters
	for i := range groups {
		groups[i] = fmt.Sprintf("%032d", i)
	}
	var m mark
	m.readTags(fields(`Cache-Groups: "`+strings.Join(groups, `", "`)+`"`), nil)
	if len(m.groups) != 32*tagSize || m.anyTag {
		t.Errorf("32 groups: %d, %v", len(m.groups)/tagSize, m.anyTag)
	}
}

func TestAResponseWithTooManyTagsIsGoneWithAPurgeOfAny(t *testing.T) {
	b := newBench(t, always(200, "x", "Cache-Control: max-age=100", "Cache-Tag: "+strings.Repeat("a,", maxTags+1)))
	b.get()
	if r := b.get(); r.outcome.Result != Hit {
		t.Fatalf("it is stored: %+v", r)
	}
	b.purge([3]string{"", "", "something else"}, false)
	if r := b.get(); r.outcome.Result != Miss {
		t.Errorf("got %+v", r)
	}
}

func TestTagsFollowA304(t *testing.T) { // RFC 9111, Section 3.2
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			if req.Header.Get("If-None-Match") != "" {
				return response(304, "", `ETag: "a"`, "Cache-Tag: later"), nil
			}
			return response(200, "x", "Cache-Control: max-age=1", `ETag: "a"`, "Cache-Tag: first", "Surrogate-Key: kept"), nil
		})
		for tag, gone := range map[string]bool{"first": false, "later": true, "kept": true} {
			b.purge([3]string{page}, false)
			b.get()
			time.Sleep(2 * time.Second)
			b.get() // validates
			b.purge([3]string{"", "", tag}, false)
			if r := b.get("Cache-Control: only-if-cached"); (r.err != nil) != gone {
				t.Errorf("%s: gone is not %v: %+v", tag, gone, r)
			}
		}
	})
}

func TestAnUnsafeRequestInvalidatesGroupsOfItsOrigin(t *testing.T) { // RFC 9875, Section 3
	var many []string
	for i := range maxOriginGroups + 1 {
		many = append(many, fmt.Sprintf(`"x%d"`, i))
	}
	for _, tc := range []struct {
		method, url string
		status      int
		field       string
		gone        bool
	}{
		{"POST", "http://example.com/form", 200, `"a", "g"`, true},
		{"POST", "http://example.com/form", 303, `"g";x=1`, true},
		{"FROB", "http://example.com/form", 204, `"g"`, true},
		{"POST", "http://example.com/form", 200, `"G"`, false},
		{"POST", "http://example.com/form", 200, `"other"`, false},
		{"POST", "http://example.com/form", 200, ``, false},
		{"POST", "http://example.com/form", 404, `"g"`, false},
		{"POST", "http://example.com/form", 500, `"g"`, false},
		{"OPTIONS", "http://example.com/form", 200, `"g"`, false},
		{"GET", "http://example.com/form", 200, `"g"`, false},
		{"HEAD", "http://example.com/form", 200, `"g"`, false},
		{"POST", "http://www.example.com/form", 200, `"g"`, false},
		{"POST", "https://example.com/form", 200, `"g"`, false},
		{"POST", "http://example.com:8080/form", 200, `"g"`, false},
		// What cannot be read may mean any group of the origin, and no other's.
		{"POST", "http://example.com/form", 200, `"g`, true},
		{"POST", "http://example.com/form", 200, `g`, true},
		{"POST", "http://example.com/form", 200, strings.Join(many, ", "), true},
		{"POST", "http://example.org/form", 200, `"g`, false},
	} {
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/form" {
				return response(tc.status, "", "Cache-Group-Invalidation: "+tc.field), nil
			}
			return response(200, "x", "Cache-Control: max-age=100", `Cache-Groups: "f", "g"`, "Surrogate-Key: g"), nil
		})
		b.get()
		b.do(tc.method, tc.url)
		if got := b.get().outcome.Result == Miss; got != tc.gone {
			t.Errorf("%s %s with %d and %.20s: gone is %v", tc.method, tc.url, tc.status, tc.field, got)
		}
	}
}

func TestInvalidatedGroupsDoNotCascade(t *testing.T) { // RFC 9875, Section 2.2.1
	b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
		switch req.URL.Path {
		case "/form":
			return response(200, "", `Cache-Group-Invalidation: "a"`), nil
		case "/ab":
			return response(200, "x", "Cache-Control: max-age=100", `Cache-Groups: "a", "b"`), nil
		}
		return response(200, "x", "Cache-Control: max-age=100", `Cache-Groups: "b"`), nil
	})
	b.do("GET", "http://example.com/ab")
	b.do("GET", "http://example.com/b")
	b.do("POST", "http://example.com/form")
	if r := b.do("GET", "http://example.com/ab"); r.outcome.Result != Miss {
		t.Errorf("of the group: %+v", r)
	}
	if r := b.do("GET", "http://example.com/b"); r.outcome.Result != Hit {
		t.Errorf("of a group of one of it: %+v", r)
	}
}

func TestAFetchThatBeganBeforeItsGroupWasInvalidatedIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rest := make(chan struct{})
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			if req.Method == "POST" {
				return response(200, "", `Cache-Group-Invalidation: "g"`), nil
			}
			if n > 2 {
				return response(200, "new", "Cache-Control: max-age=100"), nil
			}
			return chunked(&gated{gate: rest, data: "old"}, "Cache-Control: max-age=100", `Cache-Groups: "g"`), nil
		})
		done := make(chan reply)
		go func() { done <- b.get() }()
		synctest.Wait()
		b.do("POST", "http://example.com/form")
		close(rest)
		if r := <-done; r.body != "old" || r.bodyErr != nil {
			t.Fatalf("got %+v", r)
		}
		b.want(b.get(), 200, "new", Miss, "fwdproxy; fwd=uri-miss; stored")
	})
}

func FuzzTags(f *testing.F) {
	f.Add("a b", "a,b", `"a", "b"`)
	f.Fuzz(func(t *testing.T, key, tag, groups string) {
		h := http.Header{"Surrogate-Key": {key}, "Cache-Tag": {tag, tag}, cacheGroups: {groups}, groupInvalidator: {groups}}
		var m mark
		m.readTags(h, nil)
		if len(m.tags) > maxTags*tagSize || len(m.groups) > len(m.tags) {
			t.Fatalf("%d tags, %d groups", len(m.tags)/tagSize, len(m.groups)/tagSize)
		}
		for hash := range hashes(m.tags) {
			if tagNamed(h, hash) == "" && hash != hashTag("") {
				t.Fatal("a tag has no name")
			}
		}
		hashed, all := invalidatedGroups("POST", 200, h)
		if m.anyGroup && len(hashed) > maxOriginGroups || all && len(hashed) > 0 {
			t.Fatalf("%d groups, all %v", len(hashed), all)
		}
	})
}
