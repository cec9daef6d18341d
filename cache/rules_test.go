package cache

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"fwdproxy/cache/store"
)

// refusalOf asks whether a response that came at noon may be stored.
func refusalOf(method string, req []string, status int, res []string) Refusal {
	rh, h := fields(req...), fields(res...)
	r, d := newRecord(plainView, rh, status, h, noon, noon, originAddr)
	return storable(plainView, method, parseRequest(rh), r, h, d)
}

func TestWhatMayBeStored(t *testing.T) { // RFC 9111, Section 3
	modified := "Last-Modified: " + httpDate(noon.Add(-time.Hour))
	fresh := "Cache-Control: max-age=60"
	for _, tc := range []struct {
		name   string
		method string
		req    []string
		status int
		res    []string
		want   Refusal
	}{
		{"fresh", "GET", nil, 200, []string{fresh}, ""},
		{"heuristically fresh", "GET", nil, 200, []string{modified}, ""},
		{"an entity tag alone", "GET", nil, 200, []string{`ETag: "a"`}, ""},
		{"no-cache with a validator", "GET", nil, 200, []string{"Cache-Control: no-cache", `ETag: "a"`}, ""},
		{"stale, yet good for stale-if-error", "GET", nil, 200, []string{"Cache-Control: max-age=0, stale-if-error=60"}, ""},
		{"neither fresh nor a validator", "GET", nil, 200, nil, NeverUsable},
		{"max-age of zero without validator", "GET", nil, 200, []string{"Cache-Control: max-age=0"}, NeverUsable},
		{"no-cache without validator", "GET", nil, 200, []string{"Cache-Control: no-cache, max-age=60"}, NeverUsable},
		{"too old on arrival", "GET", nil, 200, []string{fresh, "Age: 60"}, NeverUsable},
		{"Expires of 0", "GET", nil, 200, []string{"Expires: 0"}, NeverUsable},
		{"HEAD", "HEAD", nil, 200, []string{fresh}, NotGET},
		{"POST", "POST", nil, 200, []string{fresh}, NotGET},
		{"no-store", "GET", nil, 200, []string{"Cache-Control: max-age=60, no-store"}, ResponseNoStore},
		{"no-store on a second line", "GET", nil, 200, []string{fresh, "Cache-Control: no-store"}, ResponseNoStore},
		{"private", "GET", nil, 200, []string{"Cache-Control: max-age=60, private"}, ResponsePrivate},
		{"private with a name, unquoted", "GET", nil, 200, []string{"Cache-Control: max-age=60, private=x"}, ResponsePrivate},
		{"private with a name, quoted", "GET", nil, 200, []string{`Cache-Control: max-age=60, private="x"`}, ""},
		{"no-store of the request", "GET", []string{"Cache-Control: no-store"}, 200, []string{fresh}, RequestNoStore},
		{"206", "GET", nil, 206, []string{fresh}, StatusNever},
		{"304", "GET", nil, 304, []string{fresh}, StatusNever},
		{"429 (RFC 6585)", "GET", nil, 429, []string{fresh}, StatusNever},
		{"103", "GET", nil, 103, []string{fresh}, StatusNever},
		{"an unknown final status", "GET", nil, 299, []string{fresh}, ""},
		{"302 without freshness", "GET", nil, 302, []string{modified}, NotCacheable},
		{"302 with freshness", "GET", nil, 302, []string{fresh}, ""},
		{"public 599 with Last-Modified", "GET", nil, 599, []string{modified, "Cache-Control: public"}, ""},
		{"must-understand overrides no-store", "GET", nil, 200, []string{"Cache-Control: max-age=60, no-store, must-understand"}, ""},
		{"must-understand with an unknown status", "GET", nil, 599, []string{"Cache-Control: max-age=60, must-understand"}, StatusUnknown},
		{"malformed must-understand", "GET", nil, 200, []string{"Cache-Control: max-age=60, no-store, must-understand=1"}, ResponseNoStore},
		{"Authorization", "GET", []string{"Authorization: x"}, 200, []string{fresh}, Authorized},
		{"Authorization with public", "GET", []string{"Authorization: x"}, 200, []string{"Cache-Control: max-age=60, public"}, ""},
		{"Authorization with must-revalidate", "GET", []string{"Authorization: x"}, 200, []string{"Cache-Control: max-age=60, must-revalidate"}, ""},
		{"Authorization with s-maxage", "GET", []string{"Authorization: x"}, 200, []string{"Cache-Control: s-maxage=60"}, ""},
		{"Authorization with malformed permissions", "GET", []string{"Authorization: x"}, 200, []string{"Cache-Control: max-age=60, must-revalidate=1, public=x, s-maxage=x", `ETag: "a"`}, Authorized},
		{"Set-Cookie", "GET", nil, 200, []string{fresh, "Set-Cookie: a=b"}, SetsCookie},
		{"Set-Cookie with public", "GET", nil, 200, []string{"Cache-Control: public, max-age=60", "Set-Cookie: a=b"}, ""},
		{"Set-Cookie with s-maxage", "GET", nil, 200, []string{"Cache-Control: s-maxage=60", "Set-Cookie: a=b"}, ""},
		{"Cookie without stated freshness", "GET", []string{"Cookie: a=b"}, 200, []string{modified}, CookieHeuristic},
		{"Cookie with a tag alone", "GET", []string{"Cookie: a=b"}, 200, []string{`ETag: "a"`}, CookieHeuristic},
		{"Cookie with stated freshness", "GET", []string{"Cookie: a=b"}, 200, []string{fresh}, ""},
		{"Vary: *", "GET", nil, 200, []string{fresh, "Vary: *"}, VaryAll},
		{"Vary: * on a second line", "GET", nil, 200, []string{fresh, "Vary: a", "Vary: , *"}, VaryAll},
		{"malformed Vary", "GET", nil, 200, []string{fresh, "Vary: a b"}, VaryAll},
	} {
		if got := refusalOf(tc.method, tc.req, tc.status, tc.res); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
	r, d := newRecord(plainView, nil, 200, fields(fresh), noon, noon, netip.AddrPort{})
	if got := storable(plainView, "GET", plainRequest, r, fields(fresh), d); got != FromUnknown {
		t.Errorf("from no address: got %q", got)
	}
}

func TestKeysTellTargetsApart(t *testing.T) { // hostile cases: host, scheme, port, path bytes
	seen := map[store.Key]string{}
	for _, s := range []string{
		"http://a/", "https://a/", "http://b/", "http://a:8080/", "http://a/x", "http://a/X", "http://a/x?", "http://a/x?a", "http://a/x?b", "http://a/x?a=1&b=2", "http://a/x?b=2&a=1",
		"http://a/x%2fy", "http://a/x%2Fy", "http://a/x/y", "http://a//x", "http://a/x;y", "http://a/a/../x", "http://a/a/%2e%2e/x", "http://a/%00x", "http://a/x%3fa", "http://a.b/", "http://a/.b/",
	} {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if k := KeyOf(u); k.String() != s {
			t.Errorf("the key of %s is %s", s, k)
		} else if other, ok := seen[k.hash()]; ok {
			t.Errorf("%s and %s have one key", s, other)
		} else {
			seen[k.hash()] = s
		}
	}
	u, _ := url.Parse("http://a")
	if KeyOf(u).String() != "http://a/" {
		t.Error("an empty path is not /")
	}
}

func TestVaryComparesWhatItNamesAndNothingElse(t *testing.T) { // RFC 9111, Section 4.1
	for _, tc := range []struct {
		vary []string
		a, b []string
		same bool
	}{
		{[]string{"Vary: Foo"}, []string{"Foo: 1", "Other: 2"}, []string{"Foo: 1", "Other: 3"}, true},
		{[]string{"Vary: Foo"}, []string{"Foo: 1"}, []string{"Foo: 2"}, false},
		{[]string{"Vary: Foo"}, []string{"Foo: 1"}, nil, false},
		{[]string{"Vary: Foo"}, []string{"Foo:"}, nil, false},
		{[]string{"Vary: Foo"}, nil, nil, true},
		{[]string{"Vary: foo", "Vary: BAR"}, []string{"Foo: 1", "Bar: 1"}, []string{"Foo: 1", "Bar: 2"}, false},
		{[]string{"Vary: Foo, Bar"}, []string{"Foo: 1", "Bar: 1"}, []string{"Foo: 1", "Bar: 1"}, true},
		{[]string{"Vary: Foo, Bar"}, []string{"Foo: ab"}, []string{"Foo: a", "Bar: b"}, false},
		{[]string{"Vary: Foo"}, []string{"Foo: 1, 2"}, []string{"Foo: 1", "Foo: 2"}, true},
		{[]string{"Vary: Foo"}, []string{"Foo: 1,2"}, []string{"Foo:  1 , 2 "}, true},
		{[]string{"Vary: Foo"}, []string{"Foo: 1,2"}, []string{"Foo: 2,1"}, false},
		{[]string{"Vary: Foo"}, []string{"Foo: 1,2"}, []string{"Foo: 1,,2"}, false},
		{[]string{"Vary: Foo"}, []string{`Foo: "a,b"`}, []string{`Foo: "a, b"`}, false},
		{[]string{"Vary: Cookie"}, []string{"Cookie: a,b"}, []string{"Cookie: a, b"}, false},
		// What servers take for another host, path or method is a part of every key.
		{nil, []string{"X-Forwarded-Host: evil"}, nil, false},
		{nil, []string{"X-Forwarded-Host: a"}, []string{"X-Forwarded-Host: a"}, true},
		{nil, []string{"X-Forwarded-Host: a"}, []string{"X-Host: a"}, false},
		{nil, []string{"X-Original-Url: /admin"}, nil, false},
		{nil, []string{"X-Http-Method-Override: POST"}, nil, false},
		{nil, []string{"Forwarded: host=evil"}, nil, false},
		{nil, []string{"X-Forwarded-For: 1"}, nil, true},
	} {
		names, ok := varyNames(fields(tc.vary...))
		if !ok {
			t.Fatalf("%v matches nothing", tc.vary)
		}
		if got := sameVariant(names, fields(tc.a...), fields(tc.b...)); got != tc.same {
			t.Errorf("%v: %v and %v: same is %v", tc.vary, tc.a, tc.b, got)
		}
	}
	if _, ok := varyNames(http.Header{"Vary": {strings.Repeat("a,", 5) + strings.Join(manyNames(40), ",")}}); ok {
		t.Error("an endless Vary is accepted")
	}
}

func manyNames(n int) []string {
	var out []string
	for i := range n {
		out = append(out, "f"+decimal(int64(i)))
	}
	return out
}

// Two requests have one variant key only when their fields mean the same.
func FuzzVaryKey(f *testing.F) {
	f.Add("1, 2", "1,2", "x")
	f.Add("\x00", "", "\xff")
	f.Add(`"a,b"`, `"a, b"`, ",")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		names := []string{"Bar", "Foo"}
		ha, hb := http.Header{"Foo": {a}, "Bar": {c}}, http.Header{"Foo": {b}, "Bar": {c}}
		strip := func(s string) string { return strings.NewReplacer(" ", "", "\t", "").Replace(s) }
		if sameVariant(names, ha, hb) && strip(a) != strip(b) {
			t.Fatalf("%q and %q are taken for the same", a, b)
		}
		if !sameVariant(names, ha, ha.Clone()) {
			t.Fatal("a request does not match itself")
		}
		if sameVariant(names, ha, http.Header{"Foo": {a}}) {
			t.Fatal("a field that is there matches one that is not")
		}
		if strip(a) != "" && strip(c) != "" && sameVariant(names, ha, http.Header{"Foo": {a + c}, "Bar": {""}}) {
			t.Fatal("one field's end is taken for another's begin")
		}
	})
}

func TestAClientsConditionsAreJudgedByWhatIsStored(t *testing.T) { // RFC 9111, Section 4.3.2
	early, late := httpDate(noon.Add(-2*time.Hour)), httpDate(noon.Add(-time.Hour))
	for _, tc := range []struct {
		stored, request []string
		want            bool
	}{
		{[]string{`ETag: "a"`}, []string{`If-None-Match: "a"`}, true},
		{[]string{`ETag: "a"`}, []string{`If-None-Match: W/"a"`}, true},
		{[]string{`ETag: W/"a"`}, []string{`If-None-Match: "b", "a"`}, true},
		{[]string{`ETag: "a"`}, []string{`If-None-Match: "b"`, `If-None-Match: "a"`}, true},
		{[]string{`ETag: "a,b"`}, []string{`If-None-Match: "a,b"`}, true},
		{[]string{`ETag: "a"`}, []string{`If-None-Match: "A"`}, false},
		{nil, []string{"If-None-Match: *"}, true},
		{nil, []string{`If-None-Match: ""`}, false},
		{[]string{"Last-Modified: " + early}, []string{"If-Modified-Since: " + early}, true},
		{[]string{"Last-Modified: " + early}, []string{"If-Modified-Since: " + late}, true},
		{[]string{"Last-Modified: " + late}, []string{"If-Modified-Since: " + early}, false},
		{[]string{"Date: " + early}, []string{"If-Modified-Since: " + late}, true},
		{[]string{"Date: " + late}, []string{"If-Modified-Since: " + early}, false},
		{nil, []string{"If-Modified-Since: " + late}, false}, // it came at noon
		{[]string{"Last-Modified: " + early}, []string{"If-Modified-Since: x"}, false},
		// If-None-Match goes before If-Modified-Since.
		{[]string{`ETag: "a"`, "Last-Modified: " + early}, []string{`If-None-Match: "b"`, "If-Modified-Since: " + late}, false},
		{[]string{`ETag: "a"`, "Last-Modified: " + late}, []string{`If-None-Match: "a"`, "If-Modified-Since: " + early}, true},
		{nil, nil, false},
	} {
		r := &record{status: 200, received: noon, header: fields(tc.stored...)}
		if got := notModified(fields(tc.request...), r); got != tc.want {
			t.Errorf("%v against %v: got %v", tc.request, tc.stored, got)
		}
		r.status = 404
		if notModified(fields(tc.request...), r) {
			t.Errorf("%v: a 404 became a 304", tc.request)
		}
	}
}

func TestConfigSaysWhatIsWrong(t *testing.T) {
	ok := DefaultConfig()
	for _, tc := range []struct {
		change func(*Config)
		key    string
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.Memory = 0 }, ""},
		{func(c *Config) { c.Memory = 1 << 20 }, "cache.memory"},
		{func(c *Config) { c.Memory = 255 << 20 }, "cache.max_object"},
		{func(c *Config) { c.MaxObject = 0 }, "cache.max_object"},
		{func(c *Config) { c.Memory, c.MaxObject = store.MinMemory, store.MinMemory/4 }, ""},
	} {
		c := ok
		tc.change(&c)
		p := c.Validate()
		if (tc.key == "") != (len(p) == 0) || len(p) > 0 && (p[0].Key != tc.key || p[0].Hint == "") {
			t.Errorf("%+v: got %v, want %q", c, p, tc.key)
		}
	}
}

func TestCacheStatusIsWrittenAsStructuredField(t *testing.T) { // RFC 9211, Section 2
	for _, tc := range []struct {
		name string
		s    status
		want string
	}{
		{"fwdproxy", status{hit: true, ttl: 1500 * time.Millisecond, hasTTL: true}, "fwdproxy; hit; ttl=1"},
		{"fwdproxy", status{hit: true, ttl: -1500 * time.Millisecond, hasTTL: true}, "fwdproxy; hit; ttl=-2"},
		{"fwdproxy", status{fwd: "stale", fwdStatus: 304, stored: true, collapsed: true}, "fwdproxy; fwd=stale; fwd-status=304; stored; collapsed"},
		{"my proxy", status{hit: true}, `"my proxy"; hit`},
		{`1"\`, status{hit: true}, `"1\"\\"; hit`},
	} {
		if got := tc.s.String(tc.name); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
	h := fields("Cache-Status: origin; hit")
	addStatus(h, "fwdproxy; hit")
	if !slices.Equal(h["Cache-Status"], []string{"origin; hit", "fwdproxy; hit"}) {
		t.Errorf("got %q", h["Cache-Status"])
	}
}
