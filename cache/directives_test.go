package cache

import (
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/pquerna/cachecontrol/cacheobject"
)

func TestResponseDirectivesAreReadAtTheirStrictest(t *testing.T) { // RFC 9111, Sections 4.2.1 and 5.2.2
	none := responseDirectives{maxAge: unset, sMaxAge: unset, staleIfError: unset, staleRevalidate: unset}
	for _, tc := range []struct {
		lines []string
		want  func(d *responseDirectives)
	}{
		{nil, func(*responseDirectives) {}},
		{[]string{""}, func(*responseDirectives) {}},
		{[]string{"max-age=60"}, func(d *responseDirectives) { d.maxAge = 60 }},
		{[]string{"MAX-AGE=60, Public"}, func(d *responseDirectives) { d.maxAge, d.public = 60, true }},
		{[]string{`max-age="60"`}, func(d *responseDirectives) { d.maxAge = 60 }},
		{[]string{"max-age=003600"}, func(d *responseDirectives) { d.maxAge = 3600 }},
		{[]string{"max-age=99999999999999999999"}, func(d *responseDirectives) { d.maxAge = math.MaxInt32 }},
		{[]string{"nO-StOrE"}, func(d *responseDirectives) { d.noStore = true }},
		// Several lines, several of the same.
		{[]string{"max-age=60", "no-store"}, func(d *responseDirectives) { d.maxAge, d.noStore = 60, true }},
		{[]string{"max-age=60, max-age=5"}, func(d *responseDirectives) { d.maxAge = 5 }},
		{[]string{"max-age=5", "max-age=60"}, func(d *responseDirectives) { d.maxAge = 5 }},
		{[]string{"s-maxage=9, s-maxage=8, stale-if-error=3, stale-if-error=4"}, func(d *responseDirectives) { d.sMaxAge, d.staleIfError = 8, 3 }},
		// One malformed directive takes no other with it.
		{[]string{"max-age=oops, no-store"}, func(d *responseDirectives) { d.maxAge, d.noStore = 0, true }},
		{[]string{"max-age=1.5, private"}, func(d *responseDirectives) { d.maxAge, d.private = 0, true }},
		{[]string{"max-age=-5"}, func(d *responseDirectives) { d.maxAge = 0 }},
		{[]string{"max-age=+5"}, func(d *responseDirectives) { d.maxAge = 0 }},
		{[]string{"max-age"}, func(d *responseDirectives) { d.maxAge = 0 }},
		{[]string{"max-age="}, func(d *responseDirectives) { d.maxAge = 0 }},
		{[]string{"max-age =60"}, func(d *responseDirectives) { d.maxAge = 0 }},
		{[]string{"max-age= 60"}, func(d *responseDirectives) { d.maxAge = 0 }},
		{[]string{"max-age='60'"}, func(d *responseDirectives) { d.maxAge = 0 }},
		{[]string{"s-maxage=x, max-age=60"}, func(d *responseDirectives) { d.sMaxAge, d.maxAge = 0, 60 }},
		{[]string{"no-store=1"}, func(d *responseDirectives) { d.noStore = true }},
		{[]string{`no-store=""`}, func(d *responseDirectives) { d.noStore = true }},
		{[]string{`public="x"`}, func(*responseDirectives) {}},
		{[]string{"must-revalidate=1"}, func(d *responseDirectives) { d.proxyRevalidate = true }},
		{[]string{"must-revalidate, proxy-revalidate"}, func(d *responseDirectives) { d.mustRevalidate, d.proxyRevalidate = true, true }},
		{[]string{"stale-if-error, stale-while-revalidate"}, func(d *responseDirectives) { d.staleIfError, d.staleRevalidate = 0, 0 }},
		// Field names.
		{[]string{"private=x,no-store"}, func(d *responseDirectives) { d.private, d.noStore = true, true }},
		{[]string{"no-cache=x"}, func(d *responseDirectives) { d.noCache = true }},
		{[]string{`private=""`}, func(d *responseDirectives) { d.private = true }},
		{[]string{`no-cache="content-encoding"`}, func(d *responseDirectives) { d.noCache = true }},
		{[]string{`private="VARY"`}, func(d *responseDirectives) { d.private = true }},
		{[]string{"immutable, max-age=5"}, func(d *responseDirectives) { d.maxAge = 5 }}, // RFC 8246: a fresh response is not validated anyway
		{[]string{`private="a, b c"`}, func(d *responseDirectives) { d.private, d.withheld = true, nil }},
		{[]string{`no-cache="set-cookie"`}, func(d *responseDirectives) { d.withheld = []string{"Set-Cookie"} }},
		{[]string{`no-cache="a", no-cache`}, func(d *responseDirectives) { d.noCache, d.withheld = true, []string{"A"} }},
		// Junk restricts and permits nothing.
		{[]string{"public; max-age=100"}, func(d *responseDirectives) { d.maxAge = 0 }},
		{[]string{"max-age=100; no-store"}, func(d *responseDirectives) { d.maxAge, d.noStore = 0, true }},
		{[]string{"public;private"}, func(d *responseDirectives) { d.private = true }},
		{[]string{"public no-cache"}, func(d *responseDirectives) { d.noCache = true }},
		{[]string{`x="no-store, max-age=5", max-age=1`}, func(d *responseDirectives) { d.maxAge = 1 }},
		{[]string{`x="no-store, max-age=5`}, func(d *responseDirectives) { d.maxAge, d.noStore = 0, true }},
		{[]string{`x="a\", no-store, y="b"`}, func(d *responseDirectives) { d.noStore = true }},
		{[]string{`x="`, "max-age=60"}, func(d *responseDirectives) { d.maxAge = 60 }},
		{[]string{"must-understand, no-store"}, func(d *responseDirectives) { d.mustUnderstand, d.noStore = true, true }},
		{[]string{"must-understand=1, no-store"}, func(d *responseDirectives) { d.noStore = true }},
		{[]string{"\x80no-store"}, func(d *responseDirectives) { d.noStore = true }},
	} {
		want := none
		tc.want(&want)
		got := parseResponse(http.Header{"Cache-Control": tc.lines})
		if strings.Contains(strings.Join(tc.lines, ""), "b c") {
			got.withheld = nil // which of the names came first is not ours to say
		}
		if !equalDirectives(got, want) {
			t.Errorf("%q:\ngot  %+v\nwant %+v", tc.lines, got, want)
		}
	}
}

func equalDirectives(a, b responseDirectives) bool {
	x, y := a.withheld, b.withheld
	a.withheld, b.withheld = nil, nil
	return slices.Equal(x, y) && a.noStore == b.noStore && a.noCache == b.noCache && a.private == b.private && a.public == b.public &&
		a.mustUnderstand == b.mustUnderstand && a.mustRevalidate == b.mustRevalidate && a.proxyRevalidate == b.proxyRevalidate &&
		a.maxAge == b.maxAge && a.sMaxAge == b.sMaxAge && a.staleIfError == b.staleIfError && a.staleRevalidate == b.staleRevalidate
}

func TestRequestDirectivesAreReadAtTheirStrictest(t *testing.T) { // RFC 9111, Section 5.2.1
	none := requestDirectives{maxAge: unset, minFresh: unset, maxStale: unset}
	for _, tc := range []struct {
		line string
		want func(d *requestDirectives)
	}{
		{"nothing-to-see-here", func(*requestDirectives) {}},
		{"no-cache, no-store, only-if-cached", func(d *requestDirectives) { d.noCache, d.noStore, d.onlyIfCached = true, true, true }},
		{"no-cache=x", func(d *requestDirectives) { d.noCache = true }},
		{"max-age=5, max-age=3", func(d *requestDirectives) { d.maxAge = 3 }},
		{"max-age=x", func(d *requestDirectives) { d.maxAge = 0 }},
		{"min-fresh=5, min-fresh=7", func(d *requestDirectives) { d.minFresh = 7 }},
		{"min-fresh=x", func(d *requestDirectives) { d.minFresh = maxAge }},
		{"max-stale", func(d *requestDirectives) { d.maxStale = maxAge }},
		{"max-stale, max-stale=7", func(d *requestDirectives) { d.maxStale = 7 }},
		{"max-stale=x", func(*requestDirectives) {}},
		{"max-stale=5, max-stale=x", func(*requestDirectives) {}},
		{"max-stale=5;no-cache", func(d *requestDirectives) { d.noCache = true }},
	} {
		want := none
		tc.want(&want)
		if got := parseRequest(fields("Cache-Control: " + tc.line)); got != want {
			t.Errorf("%q:\ngot  %+v\nwant %+v", tc.line, got, want)
		}
	}
	if d := parseRequest(fields("Pragma: x, No-Cache")); !d.noCache {
		t.Error("Pragma: no-cache counts for nothing (RFC 9111, Section 5.4)")
	}
	if d := parseRequest(fields("Pragma: no-cache", "Cache-Control: x")); d.noCache {
		t.Error("Pragma counts beside Cache-Control")
	}
}

// Whatever else stands in the field, a no-store that a plain split at commas
// finds is honoured, and no lifetime is longer than the shortest that stands
// there.
func FuzzResponseDirectives(f *testing.F) {
	for _, s := range []string{"max-age=60, no-store", `private="a, b", x="y\"z"`, "no-cache=x,no-store", "max-age=1;no-store", `"`, "s-maxage=1, s-maxage=oops"} {
		f.Add(s, "max-age=10")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		d := parseResponse(http.Header{"Cache-Control": {a, b, "no-store", "max-age=77"}})
		if !d.noStore || d.maxAge < 0 || d.maxAge > 77 || d.sMaxAge < unset || d.sMaxAge > maxAge {
			t.Fatalf("%q, %q: %+v", a, b, d)
		}
		// The strict reading never permits more than the library's own.
		p, err := cacheobject.ParseResponseCacheControl(a)
		if err != nil || strings.ContainsAny(a, `"\;`) {
			return
		}
		d = parseResponse(http.Header{"Cache-Control": {a}})
		if p.NoStore && !d.noStore || p.PrivatePresent && !d.private && len(d.withheld) == 0 || p.MustRevalidate && !d.mustRevalidate && !d.proxyRevalidate {
			t.Fatalf("%q: %+v is laxer than %+v", a, d, p)
		}
		if d.public && !p.Public {
			t.Fatalf("%q: public from nowhere", a)
		}
	})
}
