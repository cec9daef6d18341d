package cache

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fwdproxy/internal/hop"
	"fwdproxy/internal/unit"
)

// ruled gives the bench's cache the rules, as a reload would.
func (b *bench) ruled(rules ...RuleConfig) {
	b.Helper()
	cfg := b.tr.cfg
	cfg.Rules = rules
	if p := cfg.Validate(); len(p) > 0 {
		b.Fatal(p)
	}
	b.tr = b.c.Transport(cfg, "fwdproxy", b.o)
}

// viewOf returns the view of one rule.
func viewOf(t *testing.T, c RuleConfig) *view {
	t.Helper()
	rules, p := Config{Rules: []RuleConfig{c}}.rules()
	if len(p) > 0 {
		t.Fatal(p)
	}
	return newView(nil, rules[0])
}

func minutes(n int) unit.Duration { return unit.Duration(time.Duration(n) * time.Minute) }

func TestARulesLifetimesBoundWhatTheResponseSays(t *testing.T) { // against RFC 9111, Section 4.2.1, where it is labelled
	least := RuleConfig{MinTTL: minutes(10)}
	modified := "Last-Modified: " + httpDate(noon.Add(-10*time.Minute)) // a minute by the heuristic
	for _, tc := range []struct {
		name   string
		rule   RuleConfig
		req    []string
		status int
		res    []string
		want   time.Duration
		source Source
		bent   bend
	}{
		{"no rule says anything", RuleConfig{}, nil, 200, []string{"Cache-Control: max-age=60"}, time.Minute, FromMaxAge, 0},
		{"longer than stated", least, nil, 200, []string{"Cache-Control: max-age=60"}, 10 * time.Minute, FromRule, bendMinTTL},
		{"longer than zero", least, nil, 200, []string{"Cache-Control: max-age=0"}, 10 * time.Minute, FromRule, bendMinTTL},
		{"long enough already", least, nil, 200, []string{"Cache-Control: max-age=3600"}, time.Hour, FromMaxAge, 0},
		{"longer than the heuristic breaks nothing", least, nil, 200, []string{modified}, 10 * time.Minute, FromRule, 0},
		{"nothing stated breaks nothing", least, nil, 200, nil, 10 * time.Minute, FromRule, 0},
		{"a status that allows no heuristic", least, nil, 302, nil, 0, NoLifetime, 0},
		{"a stated lifetime of such a status", least, nil, 302, []string{"Cache-Control: max-age=1"}, 10 * time.Minute, FromRule, bendMinTTL},
		{"an error keeps its own", least, nil, 404, []string{"Cache-Control: max-age=1"}, time.Second, FromMaxAge, 0},
		{"a cookie and nothing stated", least, []string{"Cookie: a"}, 200, nil, 0, NoLifetime, 0},
		{"a cookie and a lifetime of zero", least, []string{"Cookie: a"}, 200, []string{"Cache-Control: max-age=0"}, 0, FromMaxAge, 0},
		{"a cookie and a stated lifetime", least, []string{"Cookie: a"}, 200, []string{"Cache-Control: max-age=1"}, 10 * time.Minute, FromRule, bendMinTTL},
		{"a cookie that the rule ignores", RuleConfig{MinTTL: minutes(10), Ignore: []string{"cookie"}}, []string{"Cookie: a"}, 200, nil, 10 * time.Minute, FromRule, 0},
		{"shorter than stated", RuleConfig{MaxTTL: minutes(1)}, nil, 200, []string{"Cache-Control: s-maxage=3600"}, time.Minute, FromRule, 0},
		{"shorter for an error too", RuleConfig{MaxTTL: minutes(1)}, nil, 404, []string{"Cache-Control: max-age=3600"}, time.Minute, FromRule, 0},
		{"in place of the heuristic", RuleConfig{DefaultTTL: minutes(5)}, nil, 200, []string{modified}, 5 * time.Minute, FromRule, 0},
		{"not in place of what is stated", RuleConfig{DefaultTTL: minutes(5)}, nil, 200, []string{"Expires: 0"}, 0, FromExpires, 0},
		{"not for errors", RuleConfig{DefaultTTL: minutes(5)}, nil, 404, []string{modified}, time.Minute, FromHeuristic, 0},
		{"a 404", RuleConfig{NegativeTTL: minutes(2)}, nil, 404, nil, 2 * time.Minute, FromRule, 0},
		{"a 503", RuleConfig{NegativeTTL: minutes(2)}, nil, 503, nil, 2 * time.Minute, FromRule, bendNegative},
		{"a 503 that says how long", RuleConfig{NegativeTTL: minutes(2)}, nil, 503, []string{"Cache-Control: max-age=1"}, time.Second, FromMaxAge, 0},
		{"a 400, which tells of the request", RuleConfig{NegativeTTL: minutes(2)}, nil, 400, nil, 0, NoLifetime, 0},
		{"a 403, which tells of the client", RuleConfig{NegativeTTL: minutes(2)}, nil, 403, nil, 0, NoLifetime, 0},
		{"a 404 for somebody", RuleConfig{NegativeTTL: minutes(2)}, []string{"Authorization: x"}, 404, nil, 0, NoLifetime, 0},
	} {
		r, _ := newRecord(viewOf(t, tc.rule), fields(tc.req...), tc.status, fields(tc.res...), noon, noon, originAddr)
		if r.lifetime != tc.want || r.source != tc.source || r.bent != tc.bent {
			t.Errorf("%s: got %v by %v, bent %b; want %v by %v, %b", tc.name, r.lifetime, r.source, r.bent, tc.want, tc.source, tc.bent)
		}
	}
}

func TestWhatARuleIgnoresIsWhatItNamesAndNoMore(t *testing.T) {
	for _, tc := range []struct {
		ignore   string
		req, res []string
		want     Refusal
		bent     bend
	}{
		{"no-store", nil, []string{"Cache-Control: no-store, max-age=60"}, "", bendNoStore},
		{"no-store", nil, []string{"Cache-Control: no-store, private, max-age=60"}, ResponsePrivate, bendNoStore},
		{"no-store", []string{"Cache-Control: no-store"}, []string{"Cache-Control: max-age=60"}, RequestNoStore, 0},
		{"private", nil, []string{"Cache-Control: private, max-age=60"}, "", bendPrivate},
		{"private", nil, []string{"Cache-Control: private, no-store, max-age=60"}, ResponseNoStore, bendPrivate},
		{"no-cache", nil, []string{"Cache-Control: no-cache, max-age=60"}, "", bendNoCache},
		{"must-revalidate", nil, []string{"Cache-Control: must-revalidate, max-age=60"}, "", bendRevalidate},
		{"authorization", []string{"Authorization: x"}, []string{"Cache-Control: max-age=60"}, "", bendAuthorization},
		{"authorization", []string{"Authorization: x"}, []string{"Cache-Control: public, max-age=60"}, "", 0},
		{"authorization", []string{"Authorization: x"}, []string{"Cache-Control: private, max-age=60"}, ResponsePrivate, bendAuthorization},
		{"set-cookie", nil, []string{"Cache-Control: max-age=60", "Set-Cookie: a"}, "", 0},
		{"cookie", []string{"Cookie: a"}, []string{`ETag: "a"`}, "", 0},
		{"cookie", []string{"Cookie: a"}, []string{"Cache-Control: max-age=60", "Set-Cookie: a"}, SetsCookie, 0},
		{"reload", []string{"Cookie: a"}, []string{`ETag: "a"`}, CookieHeuristic, 0},
	} {
		v, rh, h := viewOf(t, RuleConfig{Ignore: []string{tc.ignore}}), fields(tc.req...), fields(tc.res...)
		r, d := newRecord(v, rh, 200, h, noon, noon, originAddr)
		if got := storable(v, "GET", parseRequest(rh), r, h, d); got != tc.want || r.bent != tc.bent {
			t.Errorf("ignoring %s, %v %v: got %q, bent %b; want %q, %b", tc.ignore, tc.req, tc.res, got, r.bent, tc.want, tc.bent)
		}
		if len(r.header["Set-Cookie"]) > 0 && tc.ignore == "set-cookie" {
			t.Error("a cookie is stored")
		}
	}
}

func TestAResponseThatARuleKeepsAgainstTheRFCSaysSo(t *testing.T) { // RFC 9211, Section 2.8
	b := newBench(t, always(200, "x", "Cache-Control: max-age=0, no-store"))
	b.ruled(RuleConfig{Name: "mirrors", MinTTL: minutes(1), Ignore: []string{"no-store", "reload"}})
	b.want(b.get(), 200, "x", Miss, `fwdproxy; fwd=uri-miss; stored; detail="rule mirrors: min_ttl, ignore no-store"`)
	b.want(b.get(), 200, "x", Hit, `fwdproxy; hit; ttl=59; detail="rule mirrors: min_ttl, ignore no-store"`)
	b.want(b.get("Cache-Control: no-cache"), 200, "x", Hit, `fwdproxy; hit; ttl=59; detail="rule mirrors: min_ttl, ignore no-store, ignore reload"`)
	ex := b.tr.Explain(request(hop.With(t.Context(), &hop.Hop{Permit: permitAll}), "GET", page), time.Now())
	if ex.Rule != "mirrors" || ex.Bends != "rule mirrors: min_ttl, ignore no-store" || ex.Stored.LifetimeSource != "rule" {
		t.Errorf("explain: %+v %+v", ex, ex.Stored)
	}
	b.asked(1)
}

func TestACookieThatARuleIgnoresReachesTheClientItIsForAlone(t *testing.T) {
	b := newBench(t, always(200, "x", "Cache-Control: max-age=60", "Set-Cookie: a=b", `ETag: "a"`))
	b.ruled(RuleConfig{Ignore: []string{"set-cookie"}})
	if r := b.get(); r.header.Get("Set-Cookie") != "a=b" {
		t.Errorf("the first client got %v", r.header)
	}
	if r := b.get(); r.outcome.Result != Hit || r.header.Get("Set-Cookie") != "" {
		t.Errorf("the second client got %v, %v", r.outcome, r.header)
	}
	b.ruled()
	if r := b.get(); r.outcome.Result == Hit {
		t.Error("without the rule it is still served")
	}
}

func TestAReloadedRuleHoldsForWhatIsStoredAlready(t *testing.T) {
	b := newBench(t, always(200, "x", "Cache-Control: max-age=600, private", `ETag: "a"`))
	private := RuleConfig{Name: "r", Ignore: []string{"private"}}
	b.ruled(private)
	b.want(b.get(), 200, "x", Miss, `fwdproxy; fwd=uri-miss; stored; detail="rule r: ignore private"`)
	private.MaxTTL = minutes(5)
	b.ruled(private)
	b.want(b.get(), 200, "x", Hit, `fwdproxy; hit; ttl=299; detail="rule r: ignore private"`)
	b.ruled()
	b.want(b.get(), 200, "x", Miss, "fwdproxy; fwd=uri-miss")
	b.ruled(RuleConfig{Name: "r", Bypass: true})
	b.want(b.get(), 200, "x", "", `fwdproxy; fwd=bypass; detail="rule r"`)
	b.asked(3)
}

func TestABypassStillInvalidatesAndKnowsOnlyIfCached(t *testing.T) { // RFC 9111, Sections 4.4 and 5.2.1.7
	b := newBench(t, always(200, "x", "Cache-Control: max-age=600"))
	b.get()
	b.ruled(RuleConfig{Bypass: true})
	if r := b.get("Cache-Control: only-if-cached"); r.err == nil {
		t.Error("only-if-cached was passed on")
	}
	b.do("POST", page)
	b.ruled()
	b.want(b.get(), 200, "x", Miss, "fwdproxy; fwd=uri-miss; stored")
}

func TestTheFirstRuleThatHoldsCountsAlone(t *testing.T) {
	rules, p := Config{Rules: []RuleConfig{
		{Name: "a", To: []string{"a.example"}, Path: `\.deb$`},
		{Name: "b", To: []string{".example", "192.0.2.1", "2001:db8::1"}},
		{Name: "c", To: []string{"*"}, Path: "^/c/"},
		{Name: "d", To: []string{"BÜCHER.test."}},
	}}.rules()
	if len(p) > 0 {
		t.Fatal(p)
	}
	tr := &Transport{plain: newView(nil, nil)}
	for _, r := range rules {
		tr.rules = append(tr.rules, newView(nil, r))
	}
	for target, want := range map[string]string{
		"http://a.example/x.deb": "a", "http://a.example/x.deb?q=1": "a", "http://a.example/x.rpm": "b", "http://example/": "b",
		"http://b.a.example:8080/": "b", "http://aexample/": "", "http://192.0.2.1/": "b", "http://[2001:db8::1]:80/": "b",
		"http://other/c/": "c", "http://other": "", "http://other/?x=/c/": "", "http://xn--bcher-kva.test/": "d", "http://a.example/x%2edeb": "b",
	} {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if r := tr.view(u).rule; r != nil {
			got = r.Name
		}
		if got != want {
			t.Errorf("%s: rule %q, want %q", target, got, want)
		}
	}
}

func TestRuleKeysMapWhatTheyNameAndNoMore(t *testing.T) { // hostile case: parameter cloaking
	for _, tc := range []struct {
		rule      RuleConfig
		url, want string
	}{
		{RuleConfig{IgnoreQuery: []string{"utm_*", "x"}}, "http://a/?utm_a=1&y=2&x=3&utm_=", "http://a/?y=2"},
		{RuleConfig{IgnoreQuery: []string{"x"}}, "http://a/?X=1&xx=2&x%20=3&%78=4", "http://a/?X=1&xx=2&x%20=3&%78=4"},
		{RuleConfig{IgnoreQuery: []string{"utm_*"}}, "http://a/?utm_a=1;evil=2", "http://a/?utm_a=1;evil=2"},
		{RuleConfig{IgnoreQuery: []string{"*"}}, "http://a/?a=1&b&c=d", "http://a/"},
		{RuleConfig{IgnoreQuery: []string{"*"}}, "http://a/?", "http://a/"},
		{RuleConfig{IgnoreQuery: []string{"x"}}, "http://a/?x&a=b%26x=1", "http://a/?a=b%26x=1"},
		{RuleConfig{SortQuery: true}, "http://a/?b=1&a=2&b=0&a=1", "http://a/?a=2&a=1&b=1&b=0"},
		{RuleConfig{SortQuery: true}, "http://a/?", "http://a/?"},
		{RuleConfig{KeyHost: "debian"}, "http://a:8080/x?y", "http://{debian}:8080/x?y"},
		{RuleConfig{KeyHost: "debian"}, "https://[2001:db8::1]/", "https://{debian}/"},
	} {
		u, err := url.Parse(tc.url)
		if err != nil {
			t.Fatal(err)
		}
		k := Key{u, viewOf(t, tc.rule).rule}
		if k.String() != tc.want || k.bent() != (tc.want != tc.url) {
			t.Errorf("%+v: %s has the key %s, bent %v; want %s", tc.rule, tc.url, k, k.bent(), tc.want)
		}
	}
}

func TestAKeyThatIsNotTheURLIsShown(t *testing.T) { // RFC 9211, Section 2.7
	b := newBench(t, always(200, "x", "Cache-Control: max-age=60"))
	b.ruled(RuleConfig{Name: "r", IgnoreQuery: []string{"utm_*"}})
	b.want(b.do("GET", page+"?utm_a=1"), 200, "x", Miss, `fwdproxy; fwd=uri-miss; stored; key="http://example.com/page"; detail="rule r: key"`)
	b.want(b.get(), 200, "x", Hit, "fwdproxy; hit; ttl=59")
	if got := b.o.request(1).URL.RawQuery; got != "utm_a=1" {
		t.Errorf("the origin was sent the query %q", got)
	}
	b.do("DELETE", page+"?utm_b=2") // invalidates what the key stands for
	b.want(b.get(), 200, "x", Miss, "fwdproxy; fwd=uri-miss; stored")
}

func TestMirrorsShareWhatOneSentWhereItsAddressIsPermitted(t *testing.T) {
	b := newBench(t, always(200, "x", "Cache-Control: max-age=60"))
	b.ruled(RuleConfig{Name: "m", To: []string{".mirror.example"}, KeyHost: "mirror.example"})
	b.do("GET", "http://a.mirror.example/p")
	b.want(b.do("GET", "http://b.mirror.example/p"), 200, "x", Hit, `fwdproxy; hit; ttl=59; key="http://{mirror.example}/p"; detail="rule m: key"`)
	// A host of that name, which the rule may hold for or not, has its own.
	if r := b.do("GET", "http://other.example/p"); r.outcome.Result == Hit {
		t.Error("a host outside the rule was answered from the mirrors'")
	}
	refused := &hop.Hop{Permit: func(netip.AddrPort) error { return errors.New("no") }}
	n := b.o.count()
	if r := b.with(refused, "GET", "http://c.mirror.example/p"); r.outcome.Result == Hit || b.o.count() != n+1 {
		t.Errorf("a mirror whose client may not use the address got %v", r.outcome)
	}
}

func TestAResponseIsStoredOnlyAtItsNthUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, always(200, "x", "Cache-Control: max-age=60"))
		b.ruled(RuleConfig{MinUses: 3})
		for i, want := range []string{"fwdproxy; fwd=uri-miss", "fwdproxy; fwd=uri-miss", "fwdproxy; fwd=uri-miss; stored"} {
			if got := b.get().outcome.Status; got != want {
				t.Errorf("use %d: %s, want %s", i+1, got, want)
			}
		}
		if b.get().outcome.Result != Hit {
			t.Error("the fourth use is no hit")
		}
		other := page + "2"
		b.do("GET", other)
		b.do("GET", other)
		time.Sleep(25 * time.Hour)
		if got := b.do("GET", other).outcome.Status; got != "fwdproxy; fwd=uri-miss" {
			t.Errorf("uses of the day before count: %s", got)
		}
	})
}

func TestUsesAreCountedInATableThatDoesNotGrow(t *testing.T) {
	var u uses
	for i := range 300 {
		k := KeyOf(&url.URL{Scheme: "http", Host: "a", Path: "/"}).hash()
		if got := u.add(k, noon); got != min(i+1, maxUses) {
			t.Fatalf("use %d is counted as %d", i+1, got)
		}
	}
	for i := range 200_000 {
		k := KeyOf(&url.URL{Scheme: "http", Host: "b", Path: fmt.Sprint("/", i)}).hash()
		if got := u.add(k, noon); got != 1 {
			t.Fatalf("the first use of %d is counted as %d", i, got)
		}
	}
}

func TestStaleWindowsOfARuleFillInForTheResponse(t *testing.T) { // RFC 9111, Section 4.2.4; RFC 5861
	synctest.Test(t, func(t *testing.T) {
		fail := false
		b := newBench(t, func(int, *http.Request) (*http.Response, error) {
			if fail {
				return response(503, "down"), nil
			}
			return response(200, "x", "Cache-Control: max-age=60", `ETag: "a"`), nil
		})
		b.ruled(RuleConfig{Name: "r", StaleIfError: minutes(10)})
		b.want(b.get(), 200, "x", Miss, "fwdproxy; fwd=uri-miss; stored")
		fail = true
		time.Sleep(2 * time.Minute)
		b.want(b.get(), 200, "x", RefreshFailOld, `fwdproxy; fwd=stale; fwd-status=503; ttl=-60; detail="stale-if-error; rule r: stale"`)
		b.ruled()
		b.want(b.get(), 503, "down", RefreshModified, "fwdproxy; fwd=stale")
	})
	for _, said := range []string{"stale-if-error=1", "stale-while-revalidate=1"} {
		v := viewOf(t, RuleConfig{StaleIfError: minutes(1), StaleWhileRevalidate: minutes(1)})
		r, _ := newRecord(v, nil, 200, fields("Cache-Control: max-age=1, "+said), noon, noon, originAddr)
		if min(r.staleIfError, r.staleRevalidate) != 1 || max(r.staleIfError, r.staleRevalidate) != 60 {
			t.Errorf("%s: windows of %d and %d", said, r.staleIfError, r.staleRevalidate)
		}
	}
}

func TestRulesThatCannotBeMeantAreProblems(t *testing.T) {
	for key, r := range map[string]RuleConfig{
		"cache.rule[0].to[1]":           {To: []string{"a", "http://b/"}},
		"cache.rule[0].to[0]":           {To: []string{".192.0.2.1"}},
		"cache.rule[0].path":            {Path: "("},
		"cache.rule[0].bypass":          {Bypass: true, MinUses: 2},
		"cache.rule[0].min_ttl":         {MinTTL: 2, MaxTTL: 1},
		"cache.rule[0].min_uses":        {MinUses: 256},
		"cache.rule[0].key_host":        {KeyHost: "a/b"},
		"cache.rule[0].ignore_query[0]": {IgnoreQuery: []string{"a*b"}},
		"cache.rule[0].ignore[1]":       {Ignore: []string{"private", "everything"}},
	} {
		c := DefaultConfig()
		c.Rules = []RuleConfig{r}
		if p := c.Validate(); len(p) != 1 || p[0].Key != key || p[0].Hint == "" {
			t.Errorf("%s: %v", key, p)
		}
	}
	c := DefaultConfig()
	c.Rules = []RuleConfig{{Name: "a"}, {Name: "a"}}
	c.Targeted = []string{"CDN-Cache-Control", "a b", "cache-control"}
	if p := c.Validate(); len(p) != 3 || p[0].Key != "cache.rule[1].name" || p[1].Key != "cache.targeted[1]" || p[2].Key != "cache.targeted[2]" {
		t.Error(p)
	}
}

func TestEveryWayToBreakTheRFCIsAWarningWithItsSection(t *testing.T) {
	c := Config{Rules: []RuleConfig{
		{Name: "harmless", MaxTTL: minutes(1), DefaultTTL: minutes(1), MinUses: 2, Ignore: []string{"set-cookie", "cookie"}},
		{Name: "min", MinTTL: minutes(1)}, {Name: "neg", NegativeTTL: minutes(1)},
		{Name: "swr", StaleWhileRevalidate: minutes(1)}, {Name: "sie", StaleIfError: minutes(1)},
		{Name: "query", IgnoreQuery: []string{"a"}}, {Name: "sort", SortQuery: true}, {Name: "host", KeyHost: "a"},
		{Name: "ignore", Ignore: []string{"no-store", "no-cache", "private", "must-revalidate", "authorization", "reload"}},
	}}
	want := map[string]string{
		"cache.rule[1].min_ttl": "4.2.1", "cache.rule[2].negative_ttl": "Section 3", "cache.rule[3].stale_while_revalidate": "4.2.4",
		"cache.rule[4].stale_if_error": "4.2.4", "cache.rule[5].ignore_query": "Section 4:", "cache.rule[6].sort_query": "Section 4:", "cache.rule[7].key_host": "Section 4:",
		"cache.rule[8].ignore": "RFC 9111, Section ",
	}
	got := map[string]int{}
	for _, w := range c.Warnings() {
		got[w.Key]++
		if want[w.Key] == "" || !strings.Contains(w.Message, want[w.Key]) {
			t.Errorf("unexpected: %v", w)
		}
	}
	for key := range want {
		if n := got[key]; n == 0 || key == "cache.rule[8].ignore" && n != 6 {
			t.Errorf("%s has %d warnings", key, n)
		}
	}
}
