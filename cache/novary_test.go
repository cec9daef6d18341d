package cache

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestNoVarySearchIsReadAsItsDraftSaysOrMakesNoDifference(t *testing.T) { // draft-ietf-httpbis-no-vary-search, Section 4.2
	for _, tc := range []struct {
		field string
		want  variance
		ok    bool
	}{
		{"params", variance{all: true}, true},
		{"params=?1", variance{all: true}, true},
		{`params=("b" "a" "a")`, variance{names: []string{"a", "b"}}, true},
		{`params, except=("x")`, variance{all: true, names: []string{"x"}}, true},
		{`params, except=()`, variance{all: true}, true},
		{"key-order", variance{ignoreOrder: true}, true},
		{`params, key-order, except=("x"), later=1`, variance{all: true, ignoreOrder: true, names: []string{"x"}}, true},
		{`params=("%C3%A9+%E6%B0%97")`, variance{names: []string{"é 気"}}, true},
		{`params=("a";p=1);q`, variance{names: []string{"a"}}, true},
		{"", variance{}, false}, {"params=?0", variance{}, false}, {"params=()", variance{}, false}, {"key-order=?0", variance{}, false},
		{"unknown-key", variance{}, false}, {`key-order="x"`, variance{}, false}, {`params="x"`, variance{}, false}, {"params=(x)", variance{}, false},
		{`params=("a"), except=("x")`, variance{}, false}, {"params=(), except=()", variance{}, false}, {`params=?0, except=("x")`, variance{}, false},
		{"params, except=(x)", variance{}, false}, {`params, except="x"`, variance{}, false}, {"params, except=?1", variance{}, false},
		{`except=("x")`, variance{}, false}, {"except=()", variance{}, false}, {"key-order=()", variance{}, false}, {"key-order, params=x", variance{}, false},
		{"params,", variance{}, false}, {"Params", variance{}, false}, {"params=(\"" + strings.Join(manyNames(33), `" "`) + "\")", variance{}, false},
	} {
		got, ok := parseVariance([]string{tc.field})
		if ok != tc.ok || ok && (got.all != tc.want.all || got.ignoreOrder != tc.want.ignoreOrder || !slices.Equal(got.names, tc.want.names)) {
			t.Errorf("%s: got %+v %v, want %+v %v", tc.field, got, ok, tc.want, tc.ok)
		}
	}
	if _, ok := parseVariance(nil); ok {
		t.Error("an absent field makes a difference")
	}
}

func TestURIsAreEquivalentWhereNothingThatCountsDiffers(t *testing.T) { // draft-ietf-httpbis-no-vary-search, Section 5
	for _, tc := range []struct {
		field, a, b string
		same        bool
	}{
		{`params=("x")`, "x=1&a=2", "a=2&x=3&x", true},
		{`params=("x")`, "a=2", "a=3", false},
		{`params=("x")`, "a=1&b=2", "b=2&a=1", false},
		{`params=("x")`, "X=1", "", false},
		{`params=("x")`, "%78=1", "", true},
		{"params", "a=1&b", "", true},
		{`params, except=("a")`, "a=1&b=2", "c=3&a=1", true},
		{`params, except=("a")`, "a=1", "a=2", false},
		{`params, except=("a")`, "a=1", "", false},
		{"key-order", "a=1&b=2", "b=2&a=1", true},
		{"key-order", "a=1&a=2", "a=2&a=1", false},
		{"key-order", "a=x&&&", "a=%78", true},
		{"key-order", "a", "a=", true},
		{"key-order", "a=%20", "a=+", true},
		{"key-order", "a=b%26c=d", "a=b&c=d", false},
		{"key-order", "a=1;b=2", "b=2;a=1", false},
		{"key-order", "a=%2", "a=%252", true},
		{"key-order", "a=%\x10\x10", "a=%00", false},
		{"key-order", "a=%f6", "a=%ef%bf%bd", false}, // the draft has them the same; a cache need not
		{`params, except=("%EF%BF%BD")`, "%f6=1", "%f6=2", false},
	} {
		v, ok := parseVariance([]string{tc.field})
		if !ok {
			t.Fatal(tc.field)
		}
		if got := bytes.Equal(v.normal(tc.a), v.normal(tc.b)); got != tc.same {
			t.Errorf("%s: %q and %q: same is %v", tc.field, tc.a, tc.b, got)
		}
	}
}

func TestAResponseAnswersForEquivalentURIs(t *testing.T) { // draft-ietf-httpbis-no-vary-search, Section 6
	b := newBench(t, always(200, "x", "Cache-Control: max-age=60", `No-Vary-Search: params=("utm")`, "Vary: Foo", `ETag: "a"`))
	b.do("GET", page+"?a=1&utm=1", "Foo: 1")
	b.want(b.do("GET", page+"?utm=2&a=1", "Foo: 1"), 200, "x", Hit, "fwdproxy; hit; ttl=59; detail=no-vary-search")
	b.want(b.do("GET", page+"?a=1", "Foo: 1", "Cache-Control: only-if-cached"), 200, "x", Hit, "fwdproxy; hit; ttl=59; detail=no-vary-search")
	b.want(b.do("GET", page+"?a=1", "Foo: 1", `If-None-Match: "a"`), 304, "", Hit, "fwdproxy; hit; ttl=59; detail=no-vary-search")
	b.asked(1)
	for _, c := range [][]string{{page + "?a=2", "Foo: 1"}, {page + "?a=1", "Foo: 2"}, {page + "2?a=1", "Foo: 1"}, {"http://example.org/page?a=1", "Foo: 1"}, {"https://example.com/page?a=1", "Foo: 1"}} {
		if r := b.do("GET", c[0], c[1], "Cache-Control: only-if-cached"); r.err == nil {
			t.Errorf("%v is answered: %s", c, r.outcome.Status)
		}
	}
	b.do("DELETE", page+"?a=1&utm=9") // RFC 9111, Section 4.4
	if r := b.do("GET", page+"?a=1&utm=1", "Foo: 1"); r.outcome.Result == Hit {
		t.Error("an unsafe request to an equivalent URI leaves what answers for it")
	}
}

func TestOnlyAResponseThatStillSaysSoAnswersForAnotherURI(t *testing.T) { // hostile case: poisoning by an older field
	synctest.Test(t, func(t *testing.T) {
		said := "No-Vary-Search: params"
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			return response(200, req.URL.RawQuery, "Cache-Control: max-age=60", said), nil
		})
		b.do("GET", page+"?a=1")
		if r := b.do("GET", page+"?a=2"); r.body != "a=1" {
			t.Errorf("got %q", r.body)
		}
		said = "X: y"
		time.Sleep(2 * time.Minute)
		b.do("GET", page+"?a=1")
		if r := b.do("GET", page+"?a=2"); r.body != "a=2" {
			t.Errorf("a response that takes its word back answers: %q", r.body)
		}
	})
}

func TestAStaleResponseDoesNotAnswerForAnotherURI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			return response(200, req.URL.RawQuery, "Cache-Control: max-age=60, stale-while-revalidate=600", "No-Vary-Search: params", `ETag: "a"`), nil
		})
		b.do("GET", page+"?a=1")
		time.Sleep(2 * time.Minute)
		if r := b.do("GET", page+"?a=2"); r.body != "a=2" || b.o.request(2).Header.Get("If-None-Match") != "" {
			t.Errorf("got %q", r.body)
		}
		if r := b.do("GET", page+"?a=3"); r.body != "a=2" {
			t.Errorf("the newer one does not answer: %q", r.body)
		}
	})
}

func TestAPathRemembersTheLatestVariances(t *testing.T) {
	n := 0
	b := newBench(t, func(int, *http.Request) (*http.Response, error) {
		n++
		return response(200, "x", "Cache-Control: max-age=60", `No-Vary-Search: params=("p`+decimal(int64(n))+`")`), nil
	})
	for i := range 6 {
		b.do("GET", page+"?q="+decimal(int64(i)))
	}
	for i := range 6 { // the first two are forgotten, and are missed
		r := b.do("GET", page+"?q="+decimal(int64(i))+"&p"+decimal(int64(i+1))+"=x", "Cache-Control: only-if-cached")
		if hit := r.err == nil; hit != (i >= 2) {
			t.Errorf("%d: answered is %v", i, hit)
		}
	}
}

// A field never panics, is read again as it was written, and what it makes
// equivalent is so whichever comes first; without parameters nothing differs
// from itself.
func FuzzNoVarySearch(f *testing.F) {
	for _, s := range []string{`params=("a" "b")`, `params, except=("x"), key-order`, "key-order", "params=(a)", `params=("%`} {
		f.Add(s, "a=1&b=2", "b=2&a=1")
	}
	f.Fuzz(func(t *testing.T, field, a, b string) {
		v, ok := parseVariance([]string{field})
		if !ok {
			return
		}
		again := decodeVariances(v.encode())
		if len(again) != 1 || !bytes.Equal(again[0].encode(), v.encode()) {
			t.Fatalf("%q: %+v became %+v", field, v, again)
		}
		if !bytes.Equal(v.normal(a), v.normal(a)) || !bytes.Equal(v.normal(a), again[0].normal(a)) {
			t.Fatalf("%q: %q is not itself", field, a)
		}
		same := bytes.Equal(v.normal(a), v.normal(b))
		if same && !v.all && len(v.names) == 0 && len(formDecode(strings.ReplaceAll(a, "&", ""))) == 0 && strings.Trim(b, "&") != "" {
			t.Fatalf("%q: %q is the same as %q", field, a, b)
		}
		if v.all && len(v.names) == 0 && !bytes.Equal(v.normal("a=1"), nil) {
			t.Fatalf("%q keeps a parameter", field)
		}
	})
}
