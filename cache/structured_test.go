package cache

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"fwdproxy/internal/header"
)

func TestATargetedFieldIsAStructuredFieldOrNothing(t *testing.T) { // RFC 9213, Section 2.1
	type set = func(d *responseDirectives)
	for _, tc := range []struct {
		lines []string
		want  set // nil: the field is ignored
	}{
		{[]string{"max-age=60"}, func(d *responseDirectives) { d.maxAge = 60 }},
		{[]string{"max-age=60, must-revalidate"}, func(d *responseDirectives) { d.maxAge, d.mustRevalidate = 60, true }},
		{[]string{"max-age=60", "no-store"}, func(d *responseDirectives) { d.maxAge, d.noStore = 60, true }},
		{[]string{"max-age=60;x=1, no-cache;y"}, func(d *responseDirectives) { d.maxAge, d.noCache = 60, true }}, // parameters are ignored
		{[]string{"none"}, func(*responseDirectives) {}},
		{[]string{"max-age=2147483648"}, func(d *responseDirectives) { d.maxAge = maxAge }},
		{[]string{"max-age=999999999999999"}, func(d *responseDirectives) { d.maxAge = maxAge }},
		{[]string{"max-age=1, max-age=60"}, func(d *responseDirectives) { d.maxAge = 60 }}, // RFC 9651, Section 3.2
		{[]string{"public, must-understand, s-maxage=5, stale-if-error=1, stale-while-revalidate=2"}, func(d *responseDirectives) {
			d.public, d.mustUnderstand, d.sMaxAge, d.staleIfError, d.staleRevalidate = true, true, 5, 1, 2
		}},
		{[]string{`no-cache="Set-Cookie, X-A"`}, func(d *responseDirectives) { d.withheld = []string{"Set-Cookie", "X-A"} }},
		{[]string{`private="X-A"`}, func(d *responseDirectives) { d.withheld = []string{"X-A"} }},
		// A value of the wrong type permits nothing.
		{[]string{"max-age=1.5"}, func(d *responseDirectives) { d.maxAge = 0 }},
		{[]string{`max-age="60"`}, func(d *responseDirectives) { d.maxAge = 0 }},
		{[]string{"max-age"}, func(d *responseDirectives) { d.maxAge = 0 }},
		{[]string{"max-age=-1"}, func(d *responseDirectives) { d.maxAge = 0 }},
		{[]string{"max-age=(1 2)"}, func(d *responseDirectives) { d.maxAge = 0 }},
		{[]string{"no-store=?0"}, func(d *responseDirectives) { d.noStore = true }},
		{[]string{"no-store=1"}, func(d *responseDirectives) { d.noStore = true }},
		{[]string{"private=x"}, func(d *responseDirectives) { d.private = true }},
		{[]string{"private=?0"}, func(d *responseDirectives) { d.private = true }},
		{[]string{`no-cache=""`}, func(d *responseDirectives) { d.noCache = true }},
		{[]string{`no-cache="a b"`}, func(d *responseDirectives) { d.noCache = true }},
		{[]string{"no-cache=(a)"}, func(d *responseDirectives) { d.noCache = true }},
		{[]string{"must-revalidate=1, public=1, must-understand=1"}, func(d *responseDirectives) { d.proxyRevalidate = true }},
		// What is no dictionary, or empty, is as good as not there.
		{[]string{""}, nil},
		{[]string{" "}, nil},
		{[]string{"max-age=60,"}, nil},
		{[]string{"max-age =60"}, nil},
		{[]string{"max-age= 60"}, nil},
		{[]string{"Max-Age=60"}, nil},
		{[]string{"max-age=10000, &&&&&"}, nil},
		{[]string{"max-age=60; no-store; "}, nil},
		{[]string{"max-age=9999999999999999"}, nil}, // 16 digits
		{[]string{`no-cache="a`}, nil},
		{[]string{"no-store, max-age='60'"}, nil},
	} {
		want := noResponseDirectives()
		if tc.want != nil {
			tc.want(&want)
		}
		got, ok := parseTargeted(tc.lines)
		if ok != (tc.want != nil) || ok && !equalDirectives(got, want) {
			t.Errorf("%q: %v\ngot  %+v\nwant %+v", tc.lines, ok, got, want)
		}
	}
}

func TestTheFirstValidTargetedFieldDecidesAlone(t *testing.T) { // RFC 9213, Section 2.2
	v := newView(Config{}.ForReverse().targeted(), nil)
	future := "Expires: " + httpDate(noon.Add(time.Hour))
	for _, tc := range []struct {
		name   string
		res    []string
		want   Refusal
		life   time.Duration
		source Source
	}{
		{"targeted goes before no-store", []string{"CDN-Cache-Control: max-age=60", "Cache-Control: no-store"}, "", time.Minute, FromMaxAge},
		{"targeted no-store", []string{"CDN-Cache-Control: no-store", "Cache-Control: max-age=60", future}, ResponseNoStore, 0, NoLifetime},
		{"targeted private", []string{"CDN-Cache-Control: private", "Cache-Control: max-age=60"}, ResponsePrivate, 0, NoLifetime},
		{"Expires counts for nothing beside it", []string{"CDN-Cache-Control: none", future}, NeverUsable, 0, NoLifetime},
		{"nor does an invalid one", []string{"CDN-Cache-Control: max-age=60", "Expires: 0"}, "", time.Minute, FromMaxAge},
		{"targeted 0 against Expires", []string{"CDN-Cache-Control: max-age=0", future, `ETag: "a"`}, "", 0, FromMaxAge},
		{"ours goes before that of all", []string{"CDN-Cache-Control: no-store", "Fwdproxy-Cache-Control: max-age=9"}, "", 9 * time.Second, FromMaxAge},
		{"ours is malformed", []string{"CDN-Cache-Control: max-age=8", "Fwdproxy-Cache-Control: max-age=9,"}, "", 8 * time.Second, FromMaxAge},
		{"both are malformed", []string{"CDN-Cache-Control:", "Fwdproxy-Cache-Control: &", "Cache-Control: max-age=7"}, "", 7 * time.Second, FromMaxAge},
		{"both are malformed, no-store", []string{"CDN-Cache-Control: max-age=8, &", "Cache-Control: no-store"}, ResponseNoStore, 0, NoLifetime},
		{"one not on the list", []string{"Other-Cache-Control: no-store", "Cache-Control: max-age=7"}, "", 7 * time.Second, FromMaxAge},
		{"heuristics where it states none", []string{"CDN-Cache-Control: none", "Last-Modified: " + httpDate(noon.Add(-10*time.Hour))}, "", time.Hour, FromHeuristic},
	} {
		h := fields(tc.res...)
		r, d := newRecord(v, nil, 200, h, noon, noon, originAddr)
		if got := storable(v, "GET", plainRequest, r, h, d); got != tc.want || r.lifetime != tc.life || r.source != tc.source {
			t.Errorf("%s: got %q, %v by %v; want %q, %v by %v", tc.name, got, r.lifetime, r.source, tc.want, tc.life, tc.source)
		}
	}
}

func TestTheFieldForThisCacheAloneGoesNoFurther(t *testing.T) { // RFC 9213, Sections 2.2 and 3
	for _, reverse := range []bool{true, false} {
		b := newBench(t, always(200, "x", "Fwdproxy-Cache-Control: max-age=60", "CDN-Cache-Control: max-age=50", "Cache-Control: max-age=40", `ETag: "a"`))
		cfg := b.tr.cfg
		if reverse {
			cfg = cfg.ForReverse()
		}
		b.tr = b.c.Transport(cfg, "fwdproxy", b.o)
		for _, r := range []reply{b.get(), b.get(), b.get(`If-None-Match: "a"`), b.do("POST", page), b.get("If-Match: x")} {
			if got := len(r.header["Fwdproxy-Cache-Control"]); got == 1 == reverse {
				t.Errorf("reverse %v, %s: the client sees it %d times", reverse, r.outcome.Status, got)
			}
			if len(r.header["Cdn-Cache-Control"]) != 1 || len(r.header["Cache-Control"]) != 1 {
				t.Errorf("reverse %v: fields for others are gone: %v", reverse, r.header)
			}
		}
	}
}

func TestA304UpdatesATargetedField(t *testing.T) { // RFC 9111, Section 3.2
	v := newView([]string{"Cdn-Cache-Control"}, nil)
	r, _ := newRecord(v, nil, 200, fields("CDN-Cache-Control: max-age=5", `ETag: "a"`), noon, noon, originAddr)
	next, refusal := freshen(v, nil, plainRequest, r, fields("Cache-Control: max-age=99", `ETag: "a"`), noon, noon)
	if refusal != "" || next.lifetime != 5*time.Second {
		t.Errorf("Cache-Control of a 304 went before the targeted field: %v %q", next.lifetime, refusal)
	}
	next, refusal = freshen(v, nil, plainRequest, r, fields("CDN-Cache-Control: no-store", `ETag: "a"`), noon, noon)
	if refusal != ResponseNoStore {
		t.Errorf("a targeted no-store of a 304: %q, %v", refusal, next.lifetime)
	}
}

// What a plain reading of a valid dictionary finds to restrict is honoured,
// and no number leaves its bounds.
func FuzzTargeted(f *testing.F) {
	for _, s := range []string{"max-age=60, no-store", `private="a, b", x="y\"z"`, "max-age=1;a=2", "no-cache=(a b);c", "x=:YQ==:, y=@1, z=%\"a\"", "max-age=-", "a=1.5"} {
		f.Add(s, "max-age=10")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		d, ok := parseTargeted([]string{a, b})
		if !ok {
			return
		}
		for _, s := range []seconds{d.maxAge, d.sMaxAge, d.staleIfError, d.staleRevalidate} {
			if s < unset || s > maxAge {
				t.Fatalf("%q, %q: %+v", a, b, d)
			}
		}
		for _, name := range d.withheld {
			if !header.IsToken(name) {
				t.Fatalf("%q, %q: the field %q", a, b, name)
			}
		}
		if strings.ContainsAny(a+b, `"=;(`) {
			return
		}
		for member := range strings.SplitSeq(a+","+b, ",") {
			if header.Trim(member) == "no-store" && !d.noStore {
				t.Fatalf("%q, %q: no-store is lost", a, b)
			}
		}
		if got := readResponse(http.Header{"X": {a, b}}, []string{"X"}); !slices.Equal(got.withheld, d.withheld) || got.targeted != "X" {
			t.Fatalf("%+v and %+v", got, d)
		}
	})
}
