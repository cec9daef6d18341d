package cache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
)

func TestPartsOfAStoredResponseAreServed(t *testing.T) { // RFC 9110, Sections 14 and 15.3.7
	b := newBench(t, always(200, "0123456789", "Cache-Control: max-age=100", `ETag: "a"`, "Content-Type: a/b", "X-A: 1"))
	b.get()
	for _, tc := range []struct {
		lines  []string
		status int
		body   string
		rng    string
	}{
		{[]string{"Range: bytes=2-4"}, 206, "234", "bytes 2-4/10"},
		{[]string{"Range: bytes=-2"}, 206, "89", "bytes 8-9/10"},
		{[]string{"Range: bytes=7-"}, 206, "789", "bytes 7-9/10"},
		{[]string{"Range: bytes=10-"}, 416, "", "bytes */10"},
		{[]string{"Range: bytes=0-1,4-5"}, 206, "012345", "bytes 0-5/10"}, // one part is shorter than two
		{[]string{"Range: bytes=a-1"}, 200, "0123456789", ""},
		{[]string{"Range: bytes=2-4", `If-Range: "a"`}, 206, "234", "bytes 2-4/10"},
		{[]string{"Range: bytes=2-4", `If-Range: "b"`}, 200, "0123456789", ""},
		{[]string{"Range: bytes=2-4", `If-None-Match: "a"`}, 304, "", ""},
		{[]string{"Range: bytes=2-4", `If-None-Match: "b"`}, 206, "234", "bytes 2-4/10"},
	} {
		r := b.get(tc.lines...)
		if r.status != tc.status || r.body != tc.body || r.header.Get("Content-Range") != tc.rng || r.outcome.Result != Hit {
			t.Errorf("%v: got %d %q %q %+v", tc.lines, r.status, r.body, r.header.Get("Content-Range"), r.outcome)
		}
		length := decimal(int64(len(tc.body)))
		if tc.status == 304 {
			length = ""
		}
		if r.header.Get("Content-Length") != length || r.header.Get("X-A") != "1" || r.header.Get("Etag") != `"a"` {
			t.Errorf("%v: the header is %v", tc.lines, r.header)
		}
		if got := r.header.Get("Content-Type") != ""; got != (tc.status/100 == 2) {
			t.Errorf("%v: Content-Type is there: %v", tc.lines, got)
		}
	}
	if r := b.do("HEAD", page, "Range: bytes=2-4"); r.status != 200 || r.header.Get("Content-Length") != "10" {
		t.Errorf("HEAD with Range: got %d %v", r.status, r.header)
	}
	b.asked(1)
}

func TestARangeThatMissesPassesThroughAsItIs(t *testing.T) {
	b := newBench(t, func(_ int, req *http.Request) (*http.Response, error) {
		if req.Header.Get("Range") != "bytes=0-1" {
			t.Errorf("the Range went out as %q", req.Header["Range"])
		}
		return response(206, "01", "Cache-Control: max-age=100", "Content-Range: bytes 0-1/10"), nil
	})
	for range 2 {
		b.want(b.get("Range: bytes=0-1", "Cache-Control: no-store"), 206, "01", Miss, "fwdproxy; fwd=uri-miss")
	}
	b.asked(2)
}

func TestAStaleResponseIsValidatedForAPartOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			switch {
			case n == 1:
				return response(200, "0123456789", "Cache-Control: max-age=1", `ETag: "a"`), nil
			case req.Header.Get("Range") != "bytes=2-4" || req.Header.Get("If-None-Match") != `"a"`:
				t.Errorf("asked with %v", req.Header)
			case n == 2:
				return response(304, "", `ETag: "a"`), nil
			}
			return response(206, "new", `ETag: "b"`, "Content-Range: bytes 2-4/10", "Cache-Control: max-age=100"), nil
		})
		b.get()
		time.Sleep(2 * time.Second)
		b.want(b.get("Range: bytes=2-4"), 206, "234", RefreshUnchanged, "fwdproxy; fwd=stale; fwd-status=304; ttl=1")
		time.Sleep(2 * time.Second)
		b.want(b.get("Range: bytes=2-4"), 206, "new", RefreshModified, "fwdproxy; fwd=stale; stored")
		if r := b.get("Cache-Control: only-if-cached, max-stale"); r.err == nil {
			t.Error("what the origin replaced is still there")
		}
	})
}

func TestALargeBodyComesBackByteForByte(t *testing.T) {
	body := make([]byte, 3<<20+12345)
	for i := range body {
		body[i] = byte(rand.Uint32())
	}
	b := newBench(t, func(int, *http.Request) (*http.Response, error) {
		return chunked(bytes.NewReader(body), "Cache-Control: max-age=100"), nil
	})
	for i := range 3 {
		r := b.get()
		if r.bodyErr != nil || r.body != string(body) || (i > 0) != (r.outcome.Result == Hit) {
			t.Fatalf("got %d bytes, %v, %s", len(r.body), r.bodyErr, r.outcome.Result)
		}
	}
	if r := b.get("Range: bytes=1000000-2999999"); r.body != string(body[1000000:3000000]) {
		t.Errorf("got %d bytes of a part", len(r.body))
	}
	if r := b.do("HEAD", page); r.header.Get("Content-Length") != decimal(int64(len(body))) {
		t.Errorf("Content-Length is %q", r.header.Get("Content-Length"))
	}
	b.asked(1)
}

func TestEmptyBodiesAreStored(t *testing.T) {
	for _, tc := range []struct {
		status int
		length string
	}{{204, ""}, {200, "0"}, {301, "0"}} {
		b := newBench(t, always(tc.status, "", "Cache-Control: max-age=100", "Location: /x"))
		b.get()
		r := b.get()
		if r.status != tc.status || r.outcome.Result != Hit || r.header.Get("Content-Length") != tc.length {
			t.Errorf("%d: got %+v", tc.status, r)
		}
	}
}

func TestAnUnsafeRequestRemovesEveryVariant(t *testing.T) { // RFC 9111, Section 4.4
	b := newBench(t, func(_ int, req *http.Request) (*http.Response, error) {
		return response(200, req.Header.Get("Foo"), "Cache-Control: max-age=100", "Vary: Foo"), nil
	})
	for range 2 {
		for _, v := range []string{"a", "b", "c"} {
			b.get("Foo: " + v)
		}
	}
	b.asked(3)
	b.do("PUT", page)
	for _, v := range []string{"a", "b", "c"} {
		if r := b.get("Foo: " + v); r.outcome.Result != Miss || r.body != v {
			t.Errorf("%s: %+v", v, r)
		}
	}
}

func TestTheLatestOfTheResponsesThatMatchIsServed(t *testing.T) { // RFC 9111, Section 4.1
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			if n == 1 {
				return response(200, "varies", "Cache-Control: max-age=100", "Vary: Foo"), nil
			}
			return response(200, "for all", "Cache-Control: max-age=100"), nil
		})
		b.get("Foo: 1")
		time.Sleep(2 * time.Second)
		b.get("Foo: 2")
		for _, v := range []string{"Foo: 1", "Foo: 2", "Foo: 3"} {
			if r := b.get(v); r.body != "for all" || r.outcome.Result != Hit {
				t.Errorf("%s: got %+v", v, r)
			}
		}
	})
}

func TestTheVariantsOfOneURIAreBounded(t *testing.T) { // hostile case: variants are capped
	b := newBench(t, always(200, "x", "Cache-Control: max-age=600", "Vary: Foo"))
	for i := range 3 * maxVariants {
		b.get("Foo: " + decimal(int64(i)))
	}
	b.want(b.get("Foo: "+decimal(3*maxVariants-1)), 200, "x", Hit, "fwdproxy; hit; ttl=599")
	hits := 0
	for i := range 3 * maxVariants {
		if b.get("Foo: "+decimal(int64(i)), "Cache-Control: only-if-cached").err == nil {
			hits++
		}
	}
	if hits != maxVariants {
		t.Errorf("%d variants are stored", hits)
	}
}

func TestAnOlderFetchDoesNotReplaceANewerOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, _ *http.Request) (*http.Response, error) {
			if n == 1 {
				time.Sleep(10 * time.Second)
			}
			return response(200, decimal(int64(n)), "Cache-Control: max-age=100"), nil
		})
		go b.get()
		time.Sleep(time.Second)
		b.get("Cache-Control: no-cache")
		time.Sleep(20 * time.Second)
		if r := b.get(); r.body != "2" || r.outcome.Result != Hit {
			t.Fatalf("got %+v", r)
		}
	})
}

func TestANoStoreAnswerToAValidationRemovesWhatWasStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for status, gone := range map[int]bool{200: true, 404: true, 410: true, 403: false, 429: false, 500: false} {
			b := newBench(t, func(n int, _ *http.Request) (*http.Response, error) {
				if n == 1 {
					return response(200, "old", "Cache-Control: max-age=1", `ETag: "a"`), nil
				}
				return response(status, "new", "Cache-Control: no-store"), nil
			})
			b.get()
			time.Sleep(2 * time.Second)
			if r := b.get(); r.status != status || r.body != "new" {
				t.Fatalf("got %+v", r)
			}
			r := b.get("Cache-Control: only-if-cached, max-stale")
			if (r.err != nil) != gone {
				t.Errorf("after %d: gone is %v", status, r.err != nil)
			}
		}
	})
}

func TestWithheldFieldsReachOnlyTheClientTheyWereSentTo(t *testing.T) { // RFC 9111, Section 5.2.2.7
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(int, *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return response(200, "x", `Cache-Control: max-age=100, private="x-user"`, "X-User: alice", "X-Other: 1"), nil
		})
		got := 0
		for _, r := range append(b.crowd(5, plain), b.get()) {
			if r.header.Get("X-User") != "" {
				got++
			}
			if r.header.Get("X-Other") != "1" {
				t.Errorf("got %v", r.header)
			}
		}
		if got != 1 {
			t.Errorf("%d clients were given the private field", got)
		}
		b.asked(1)
	})
}

func TestTrailersReachTheClientAndAreNotStored(t *testing.T) {
	b := newBench(t, func(int, *http.Request) (*http.Response, error) {
		res := chunked(strings.NewReader("x"), "Cache-Control: max-age=100")
		res.Trailer = http.Header{"X-Sum": {"1"}}
		return res, nil
	})
	res, err := b.tr.RoundTrip(request(hop.With(t.Context(), &hop.Hop{Permit: permitAll}), "GET", page))
	if err != nil || res.Trailer.Get("X-Sum") != "1" {
		t.Fatalf("got %v, %v", res, err)
	}
	res.Body.Close()
	if r := b.get(); r.outcome.Result != Miss {
		t.Errorf("got %+v", r.outcome)
	}
}

func TestExplainSaysWhatRoundTripWouldDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, always(200, "hello", "Cache-Control: max-age=60", `ETag: "a"`, "Vary: Foo"))
		explain := func(permit func(netip.AddrPort) error, method string, lines ...string) Explanation {
			return b.tr.Explain(request(hop.With(t.Context(), &hop.Hop{Permit: permit}), method, page, lines...), time.Now())
		}
		refuse := func(netip.AddrPort) error { return fault.New(fault.RequestDenied, "", nil) }
		if ex := explain(permitAll, "GET"); ex.Key != page || ex.Decision != "fetch" || ex.Reason != string(NothingStored) || ex.Stored != nil {
			t.Errorf("got %+v", ex)
		}
		b.get("Foo: 1")
		time.Sleep(10 * time.Second)
		ex := explain(permitAll, "GET", "Foo: 1")
		if s := ex.Stored; ex.Decision != "serve" || s == nil || s.Status != 200 || s.Size != 5 || s.LifetimeSource != "max-age" || s.Lifetime != 60 || s.Age != 10 || s.TTL != 50 ||
			s.ETag != `"a"` || s.Address != originAddr.String() || len(ex.Vary) != 1 || ex.Vary[0] != "Foo" {
			t.Errorf("got %+v, %+v", ex, s)
		}
		if ex := explain(permitAll, "GET", "Foo: 2"); ex.Decision != "fetch" || ex.Reason != string(NoVariant) {
			t.Errorf("got %+v", ex)
		}
		if ex := explain(refuse, "GET", "Foo: 1"); ex.Decision != "fail" {
			t.Errorf("got %+v", ex)
		}
		if ex := explain(nil, "GET"); ex.Decision != "bypass" {
			t.Errorf("got %+v", ex)
		}
		if ex := explain(permitAll, "POST"); ex.Decision != "bypass" {
			t.Errorf("got %+v", ex)
		}
		time.Sleep(time.Minute)
		if ex := explain(permitAll, "HEAD", "Foo: 1"); ex.Decision != "validate" || ex.Reason != string(Stale) || ex.Stored.TTL != -10 {
			t.Errorf("got %+v", ex)
		}
		if ex := explain(refuse, "GET", "Foo: 1"); ex.Decision != "fetch" {
			t.Errorf("got %+v", ex)
		}
		b.asked(1)
	})
}

// turnsShareable is a bench whose responses were private when a crowd asked, and
// are for sharing from now on.
func turnsShareable(t *testing.T, lines ...string) *bench {
	private := true
	b := newBench(t, func(int, *http.Request) (*http.Response, error) {
		time.Sleep(time.Second)
		if private {
			return response(200, "x", "Cache-Control: private"), nil
		}
		return response(200, "x", lines...), nil
	})
	b.crowd(3, plain)
	private = false
	return b
}

func TestAResponseForSharingEndsThatRequestsGoAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := turnsShareable(t, "Cache-Control: max-age=3")
		b.get()
		time.Sleep(5 * time.Second)
		before := b.o.count()
		b.crowd(5, plain)
		b.asked(before + 1)
	})
}

func TestAfterAWhileRequestsWaitForEachOtherAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := turnsShareable(t, "Cache-Control: max-age=100")
		time.Sleep(aloneFor)
		before := b.o.count()
		b.crowd(5, plain)
		b.asked(before + 1)
	})
}

// Whatever readers, writers, purges and evictions do at once, everybody gets
// a whole body that belongs to what was asked for.
func TestUnderLoadEveryBodyIsWholeAndItsOwn(t *testing.T) {
	body := func(path, v string) string { return strings.Repeat(path+v, 1+len(path)*1000) }
	b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
		if req.Method == "POST" {
			return response(200, ""), nil
		}
		v := req.Header.Get("V")
		lines := []string{"Vary: V", `ETag: "` + v + `"`, "Cache-Control: max-age=" + decimal(int64(n%2))}
		if inm := req.Header.Get("If-None-Match"); inm == `"`+v+`"` && n%3 == 0 {
			return response(304, "", lines...), nil
		}
		if n%7 == 0 {
			return nil, errors.New("no luck")
		}
		if n%2 == 0 {
			return chunked(strings.NewReader(body(req.URL.Path, v)), lines...), nil
		}
		return response(200, body(req.URL.Path, v), lines...), nil
	})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for range 80 {
				path := "/" + strings.Repeat("p", r.IntN(12))
				v := fmt.Sprint(r.IntN(3))
				switch r.IntN(10) {
				case 0:
					b.do("POST", "http://example.com"+path)
				case 1:
					res, err := b.tr.RoundTrip(request(hop.With(b.Context(), &hop.Hop{Permit: permitAll}), "GET", "http://example.com"+path, "V: "+v))
					if err == nil {
						io.CopyN(io.Discard, res.Body, 100)
						res.Body.Close()
					}
				default:
					got := b.do("GET", "http://example.com"+path, "V: "+v)
					if got.err == nil && got.bodyErr == nil && got.body != body(path, v) {
						t.Errorf("%s %s: a wrong body of %d bytes", path, v, len(got.body))
					}
					if got.bodyErr != nil {
						t.Errorf("%s %s: %v", path, v, got.bodyErr)
					}
				}
			}
		})
	}
	wg.Wait()
}
