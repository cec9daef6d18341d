package cache

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fwdproxy/internal/hop"
)

func keptApart(apart string) *hop.Hop { return &hop.Hop{Permit: permitAll, Apart: apart} }

func TestRequestsThatAreKeptApartNeverShareAResponse(t *testing.T) { // RFC 9111, Section 4
	for _, vary := range []string{"", "Vary: Accept-Language, X-Tenant"} {
		b := newBench(t, func(n int, _ *http.Request) (*http.Response, error) {
			lines := []string{"Cache-Control: max-age=60"}
			if vary != "" {
				lines = append(lines, vary)
			}
			return response(200, decimal(int64(n)), lines...), nil
		})
		for range 2 {
			for want, apart := range []string{"", "set X-Tenant: one\n", "set X-Tenant: two\n", "sent X-Tenant: one\n"} {
				if r := b.with(keptApart(apart), "GET", page); r.body != decimal(int64(want+1)) {
					t.Errorf("%q, %q got %q", vary, apart, r.body)
				}
			}
		}
		b.asked(4)
		// What the URL is invalidated or purged for counts for all of them.
		b.do("POST", page)
		for _, apart := range []string{"", "set X-Tenant: one\n"} {
			if r := b.with(keptApart(apart), "GET", page); r.outcome.Result != Miss {
				t.Errorf("%q: %s after an unsafe request", apart, r.outcome.Result)
			}
		}
	}
}

func TestRequestsThatAreKeptApartDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, _ *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return response(200, decimal(int64(n)), "Cache-Control: max-age=60"), nil
		})
		bodies := make(chan string, 4)
		for _, apart := range []string{"", "x", "", "x"} {
			go func() { bodies <- apart + "=" + b.with(keptApart(apart), "GET", page).body }()
		}
		got := map[string]int{}
		for range 4 {
			got[<-bodies]++
		}
		b.asked(2)
		if len(got) != 2 || (got["=1"] != 2 || got["x=2"] != 2) && (got["=2"] != 2 || got["x=1"] != 2) {
			t.Errorf("got %v", got)
		}
	})
}

func TestARefreshInTheBackgroundStaysApart(t *testing.T) { // RFC 5861, Section 3
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, _ *http.Request) (*http.Response, error) {
			return response(200, decimal(int64(n)), "Cache-Control: max-age=1, stale-while-revalidate=60"), nil
		})
		b.with(keptApart("x"), "GET", page)
		b.with(keptApart(""), "GET", page)
		time.Sleep(2 * time.Second)
		b.with(keptApart("x"), "GET", page) // stale, and refreshed as the third
		synctest.Wait()
		if r := b.with(keptApart("x"), "GET", page); r.body != "3" {
			t.Errorf("got %q", r.body)
		}
		if r := b.with(keptApart(""), "GET", page); r.body != "2" {
			t.Errorf("the other got %q", r.body)
		}
	})
}

func TestWhatBypassesIsNeitherAnsweredNorStored(t *testing.T) {
	b := newBench(t, func(n int, _ *http.Request) (*http.Response, error) {
		return response(200, decimal(int64(n)), "Cache-Control: max-age=60", "Content-Location: "+page), nil
	})
	past := &hop.Hop{Permit: permitAll, Bypass: "modify x"}
	b.get()
	if r := b.with(past, "GET", page); r.body != "2" || r.outcome.Status != `fwdproxy; fwd=bypass; detail="modify x"` {
		t.Errorf("%q %q", r.body, r.outcome.Status)
	}
	if r := b.with(past, "GET", page, "Cache-Control: only-if-cached"); r.err == nil {
		t.Error("only-if-cached was fetched")
	}
	if r := b.get(); r.body != "1" {
		t.Errorf("%q took the place of what was stored", r.body)
	}
	// A POST whose response would answer later GETs (RFC 9110, Section 9.3.3).
	if b.with(past, "POST", page); b.get().outcome.Result != Miss {
		t.Error("the response to a POST was stored")
	}
	if h := b.tr.Hot(request(hop.With(t.Context(), past), "GET", page), time.Now()); h != nil {
		t.Error("it is answered on the spot")
	}
}

func TestALargerBodyThanTheRequestMayStoreIsNotStored(t *testing.T) {
	for _, chunks := range []bool{false, true} {
		b := newBench(t, func(int, *http.Request) (*http.Response, error) {
			if chunks {
				return chunked(strings.NewReader("123456"), "Cache-Control: max-age=60"), nil
			}
			return response(200, "123456", "Cache-Control: max-age=60"), nil
		})
		for i, most := range []int64{5, 5, 6, 5} {
			r := b.with(&hop.Hop{Permit: permitAll, MaxStored: most}, "GET", page)
			if hit := r.outcome.Result == Hit; r.body != "123456" || hit != (i == 3) {
				t.Errorf("chunks %v, request %d: %q, %s", chunks, i, r.body, r.outcome.Result)
			}
		}
	}
}
