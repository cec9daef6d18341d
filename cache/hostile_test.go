package cache

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// What an attacker or a careless origin sends, and what the next client gets.

func TestTheOverridesOfOneClientReachNoOther(t *testing.T) { // RFC 9111, Section 7.1
	for _, line := range []string{"X-Forwarded-Host: evil", "X-Original-Url: /admin", "X-Http-Method-Override: DELETE", "Forwarded: host=evil", "X-Forwarded-Scheme: http"} {
		b := newBench(t, func(_ int, req *http.Request) (*http.Response, error) {
			body := "good"
			if hasOverride(req.Header) {
				body = "evil"
			}
			return response(200, body, "Cache-Control: public, max-age=60"), nil
		})
		b.get(line)
		if r := b.get(); r.body != "good" {
			t.Errorf("%s: the next client got %q", line, r.body)
		}
		if r := b.get(line); r.outcome.Result != Hit || r.body != "evil" {
			t.Errorf("%s: its sender got %q by %v", line, r.body, r.outcome.Result)
		}
	}
}

func TestANameThatLooksStaticIsNoReasonToStore(t *testing.T) { // web cache deception
	for _, path := range []string{"/account/x.css", "/account;x.css", "/account%2fx.css", "/account%00.js", "/static/..%2faccount", "/account?x.png"} {
		b := newBench(t, func(n int, _ *http.Request) (*http.Response, error) { return response(200, decimal(int64(n))), nil })
		b.do("GET", "http://example.com"+path, "Cookie: session=1")
		if r := b.do("GET", "http://example.com"+path); r.body != "2" {
			t.Errorf("%s: another client got %q", path, r.body)
		}
		if got := b.o.request(1).URL.String(); got != "http://example.com"+path {
			t.Errorf("%s: the origin was asked for %s", path, got)
		}
	}
}

func TestAnErrorThatOneClientProvokedIsNotKept(t *testing.T) { // RFC 9111, Section 3; cache-poisoned denial of service
	for _, status := range []int{400, 403, 404, 405, 413, 414, 431, 500, 501, 502, 503} {
		fail := true
		b := newBench(t, func(int, *http.Request) (*http.Response, error) {
			if fail {
				return response(status, "error"), nil
			}
			return response(200, "page", "Cache-Control: max-age=60"), nil
		})
		b.get("X-Evil: 1")
		fail = false
		if r := b.get(); r.body != "page" {
			t.Errorf("%d: the next client got %q", status, r.body)
		}
	}
}

func TestTwoUsersOfOneURLAreNotMixedUp(t *testing.T) { // RFC 9111, Section 7.3
	modified := "Last-Modified: " + httpDate(time.Now().Add(-100*time.Hour))
	for _, tc := range []struct{ field, res string }{
		{"Cookie: session=", modified}, {"Cookie: session=", `ETag: "same"`}, {"Authorization: Bearer ", modified}, {"Authorization: Bearer ", "Cache-Control: max-age=60"},
	} {
		b := newBench(t, func(_ int, req *http.Request) (*http.Response, error) {
			return response(200, req.Header.Get("Cookie")+req.Header.Get("Authorization"), tc.res), nil
		})
		alice, bob := b.get(tc.field+"alice"), b.get(tc.field+"bob")
		if alice.body == bob.body {
			t.Errorf("%s with %s: both got %q", tc.field, tc.res, bob.body)
		}
		if r := b.get(); r.body != "" {
			t.Errorf("%s with %s: nobody got %q", tc.field, tc.res, r.body)
		}
	}
}

func TestNothingThatMustBeValidatedIsServedStale(t *testing.T) { // RFC 9111, Sections 4.2.4, 5.2.2.2, 5.2.2.4, 5.2.2.8 and 5.2.2.10
	for _, line := range []string{"max-age=1, must-revalidate", "max-age=1, proxy-revalidate", "s-maxage=1", "no-cache, max-age=1000", "max-age=1, must-revalidate=yes"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(n int, _ *http.Request) (*http.Response, error) {
				if n > 1 {
					return response(503, "down"), nil
				}
				return response(200, "x", "Cache-Control: "+line+", stale-if-error=1000, stale-while-revalidate=1000", `ETag: "a"`), nil
			})
			b.get()
			time.Sleep(10 * time.Second)
			for _, req := range []string{"X: y", "Cache-Control: max-stale", "Cache-Control: max-stale=1000"} {
				if r := b.get(req); r.status != 503 {
					t.Errorf("%s, %s: got %d %q", line, req, r.status, r.body)
				}
			}
			if r := b.get("Cache-Control: only-if-cached, max-stale"); r.err == nil {
				t.Errorf("%s: only-if-cached with max-stale got %d", line, r.status)
			}
		})
	}
}

func TestWhatConcernedOneConnectionIsNotReplayed(t *testing.T) { // RFC 9111, Section 3.1
	b := newBench(t, always(200, "x", "Cache-Control: max-age=60", "Connection: X-Secret, close", "X-Secret: 1", "Keep-Alive: timeout=5", "Proxy-Authenticate: Basic", "Proxy-Connection: close", "Upgrade: h2c", "Te: trailers"))
	b.get()
	r := b.get()
	if r.outcome.Result != Hit {
		t.Fatal(r.outcome)
	}
	for _, name := range []string{"Connection", "X-Secret", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Upgrade", "Te"} {
		if v := r.header[name]; len(v) > 0 {
			t.Errorf("%s: %q", name, v)
		}
	}
}

func TestAClockThatStepsBackMakesWhatIsStoredStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, always(200, "x", "Cache-Control: max-age=60", `ETag: "a"`))
		b.get()
		u := request(t.Context(), "GET", page).URL
		e := b.c.lookup(KeyOf(u).hash(), u, "", http.Header{}, time.Now()).entry
		if dec := decide(plainRequest, e.rec, true, time.Now().Add(-time.Hour)); dec.Action != Validate {
			t.Errorf("an hour before it came: %v, %s", dec.Action, dec.Reason)
		}
		if dec := decide(plainRequest, e.rec, true, time.Now().Add(-time.Second)); dec.Action != Serve {
			t.Errorf("a second before it came: %v, %s", dec.Action, dec.Reason)
		}
	})
}
