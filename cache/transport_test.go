package cache

import (
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
)

func TestAFreshResponseIsServedWithoutAskingTheOrigin(t *testing.T) { // RFC 9111, Section 4
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, always(200, "hello", "Cache-Control: max-age=60", "X-Some: thing"))
		b.want(b.get(), 200, "hello", Miss, "fwdproxy; fwd=uri-miss; stored")
		time.Sleep(10 * time.Second)
		r := b.get()
		b.want(r, 200, "hello", Hit, "fwdproxy; hit; ttl=50")
		b.asked(1)
		for name, want := range map[string]string{"Age": "10", "X-Some": "thing", "Content-Length": "5"} {
			if got := r.header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if r.header.Get("Date") == "" {
			t.Error("no Date was added to a response that came without (RFC 9110, Section 6.6.1)")
		}
		if r.hopName != "NONE" {
			t.Errorf("the next hop of a hit is %q", r.hopName)
		}
		time.Sleep(50 * time.Second)
		b.want(b.get(), 200, "hello", RefreshModified, "fwdproxy; fwd=stale; stored")
		b.asked(2)
	})
}

func TestTheDateOfAStoredResponseIsKept(t *testing.T) { // RFC 9111, Section 4.2.3
	synctest.Test(t, func(t *testing.T) {
		date := httpDate(time.Now().Add(-5 * time.Second))
		b := newBench(t, always(200, "x", "Cache-Control: max-age=60", "Date: "+date, "Age: 3"))
		if r := b.get(); r.header.Get("Age") != "3" {
			t.Errorf("a forwarded response has Age %q, the origin sent 3", r.header.Get("Age"))
		}
		time.Sleep(2 * time.Second)
		r := b.get()
		if r.header.Get("Date") != date || r.header.Get("Age") != "7" {
			t.Errorf("got Date %q and Age %q, want %q and 7", r.header.Get("Date"), r.header.Get("Age"), date)
		}
	})
}

func TestAStaleResponseIsValidatedWithItsOwnValidators(t *testing.T) { // RFC 9111, Section 4.3
	synctest.Test(t, func(t *testing.T) {
		modified := httpDate(time.Now().Add(-time.Hour))
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			if n == 1 {
				return response(200, "body", "Cache-Control: max-age=1", `ETag: "a"`, "Last-Modified: "+modified, "X-Old: 1", "X-Both: 1"), nil
			}
			if req.Header.Get("If-None-Match") != `"a"` || req.Header.Get("If-Modified-Since") != modified {
				t.Errorf("validated with %q and %q", req.Header["If-None-Match"], req.Header["If-Modified-Since"])
			}
			return response(304, "", "Cache-Control: max-age=100", `ETag: "a"`, "X-Both: 2", "Content-Length: 999", "Content-Type: x/y"), nil
		})
		b.get()
		time.Sleep(2 * time.Second)
		r := b.get()
		b.want(r, 200, "body", RefreshUnchanged, "fwdproxy; fwd=stale; fwd-status=304; ttl=100")
		if r.header.Get("X-Old") != "1" || r.header.Get("X-Both") != "2" || r.header.Get("Content-Length") != "4" || r.header.Get("Content-Type") != "" {
			t.Errorf("the header was not updated as RFC 9111, Section 3.2 says: %v", r.header)
		}
		if r.hopName != "DIRECT/192.0.2.1" {
			t.Errorf("the next hop is %q", r.hopName)
		}
		time.Sleep(50 * time.Second)
		b.want(b.get(), 200, "body", Hit, "fwdproxy; hit; ttl=50")
		b.asked(2)
	})
}

func TestAClientsOwnConditionIsAnsweredFromAValidatedResponse(t *testing.T) { // RFC 9111, Section 4.3.2
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			if n == 1 {
				return response(200, "body", "Cache-Control: max-age=1", `ETag: "a"`), nil
			}
			if got := req.Header["If-None-Match"]; len(got) != 1 || got[0] != `"a"` {
				t.Errorf("the client's condition went out: %q", got)
			}
			return response(304, "", `ETag: "a"`), nil
		})
		b.get()
		time.Sleep(2 * time.Second)
		b.want(b.get(`If-None-Match: "other"`), 200, "body", RefreshUnchanged, "fwdproxy; fwd=stale; fwd-status=304; ttl=1")
		time.Sleep(2 * time.Second)
		b.want(b.get(`If-None-Match: "x", W/"a"`), 304, "", RefreshUnchanged, "fwdproxy; fwd=stale; fwd-status=304; ttl=1")
		b.want(b.get(`If-None-Match: "a"`), 304, "", Hit, "fwdproxy; hit; ttl=1")
	})
}

func TestANewerResponseReplacesTheStaleOneEvenWhenTheClientHoldsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			return response(200, "body"+decimal(int64(n)), "Cache-Control: max-age=1", `ETag: "`+decimal(int64(n))+`"`), nil
		})
		b.get()
		time.Sleep(2 * time.Second)
		b.want(b.get(`If-None-Match: "2"`), 304, "", RefreshModified, "fwdproxy; fwd=stale; fwd-status=200; stored")
		synctest.Wait()
		b.want(b.get(), 200, "body2", Hit, "fwdproxy; hit; ttl=1")
		b.asked(2)
	})
}

func TestA304AboutSomethingElseDoesNotFreshen(t *testing.T) { // RFC 9111, Section 4.3.4
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			switch n {
			case 1:
				return response(200, "old", "Cache-Control: max-age=1", `ETag: "a"`), nil
			case 2:
				return response(304, "", `ETag: "b"`, "Cache-Control: max-age=100"), nil
			}
			if len(req.Header["If-None-Match"]) > 0 {
				t.Error("the second try is conditional too")
			}
			return response(200, "new", `ETag: "b"`, "Cache-Control: max-age=100"), nil
		})
		b.get()
		time.Sleep(2 * time.Second)
		b.want(b.get(`If-None-Match: "zz"`), 200, "new", RefreshModified, "fwdproxy; fwd=stale; stored")
		b.want(b.get(), 200, "new", Hit, "fwdproxy; hit; ttl=100")
		b.asked(3)
	})
}

func TestA304ThatNobodyAskedForIsAProtocolError(t *testing.T) { // RFC 9110, Section 15.4.5
	b := newBench(t, always(304, "", `ETag: "a"`))
	var f *fault.Error
	if r := b.get(); !errors.As(r.err, &f) || f.Kind != fault.ProtocolError || f.HTTPStatus() != 502 {
		t.Fatalf("got %v", r.err)
	}
	if r := b.get(`If-None-Match: "a"`); r.status != 304 {
		t.Fatalf("a 304 to the client's own condition became %d, %v", r.status, r.err)
	}
}

func TestA304ThatForbidsStoringIsObeyed(t *testing.T) { // hostile case: a 304 with no-store or private
	for _, line := range []string{"no-store", "private", "max-age=100, no-store", "max-age=oops, no-store=1"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
				if req.Header.Get("If-None-Match") != "" {
					return response(304, "", "Cache-Control: "+line), nil
				}
				return response(200, "body", "Cache-Control: max-age=1", `ETag: "a"`), nil
			})
			b.get()
			time.Sleep(2 * time.Second)
			if r := b.get(); r.status != 200 || r.body != "body" {
				t.Fatalf("%s: got %d %q", line, r.status, r.body)
			}
			b.want(b.get(), 200, "body", Miss, "fwdproxy; fwd=uri-miss; stored")
		})
	}
}

func TestACookieSetByA304IsForOneClientOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			if n > 1 {
				return response(304, "", "Set-Cookie: who=alice", "Cache-Control: max-age=60"), nil
			}
			return response(200, "body", "Cache-Control: max-age=1", `ETag: "a"`), nil
		})
		b.get()
		time.Sleep(2 * time.Second)
		if r := b.get(); r.header.Get("Set-Cookie") != "who=alice" {
			t.Error("the client that asked does not get the cookie")
		}
		if r := b.get(); r.outcome.Result != Hit || len(r.header["Set-Cookie"]) > 0 {
			t.Errorf("another client got %v, %q", r.outcome, r.header["Set-Cookie"])
		}
	})
}

func TestRequestDirectivesAreHonoured(t *testing.T) { // RFC 9111, Section 5.2.1
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, always(200, "x", "Cache-Control: max-age=100"))
		b.get()
		time.Sleep(10 * time.Second)
		b.want(b.get("Cache-Control: max-age=20"), 200, "x", Hit, "fwdproxy; hit; ttl=90")
		b.want(b.get("Cache-Control: min-fresh=80"), 200, "x", Hit, "fwdproxy; hit; ttl=90")
		b.want(b.get("Cache-Control: max-age=5"), 200, "x", RefreshModified, "fwdproxy; fwd=request; stored")
		time.Sleep(10 * time.Second)
		b.want(b.get("Cache-Control: min-fresh=95"), 200, "x", RefreshModified, "fwdproxy; fwd=request; stored")
		b.want(b.get("Cache-Control: no-cache"), 200, "x", ClientRefresh, "fwdproxy; fwd=request; stored")
		b.want(b.get("Pragma: no-cache"), 200, "x", ClientRefresh, "fwdproxy; fwd=request; stored")
		b.want(b.get("Pragma: no-cache", "Cache-Control: x"), 200, "x", Hit, "fwdproxy; hit; ttl=100")
		b.asked(5)
		time.Sleep(110 * time.Second)
		b.want(b.get("Cache-Control: max-stale"), 200, "x", Hit, "fwdproxy; hit; ttl=-10")
		b.want(b.get("Cache-Control: max-stale=10"), 200, "x", Hit, "fwdproxy; hit; ttl=-10")
		b.want(b.get("Cache-Control: max-stale=9"), 200, "x", RefreshModified, "fwdproxy; fwd=stale; stored")
	})
}

func TestOnlyIfCachedIsA504WhenNothingFits(t *testing.T) { // RFC 9111, Section 5.2.1.7
	b := newBench(t, always(200, "x", "Cache-Control: max-age=100"))
	r := b.get("Cache-Control: only-if-cached")
	var f *fault.Error
	if !errors.As(r.err, &f) || f.HTTPStatus() != 504 || f.Kind != fault.InternalResponse || r.outcome.Status != "fwdproxy; detail=only-if-cached" {
		t.Fatalf("got %v, %+v", r.err, r.outcome)
	}
	b.asked(0)
	b.get()
	if r := b.get("Cache-Control: only-if-cached"); r.outcome.Result != Hit {
		t.Fatalf("got %+v", r)
	}
}

func TestANoStoreRequestIsNotStored(t *testing.T) { // RFC 9111, Section 5.2.1.5
	b := newBench(t, always(200, "x", "Cache-Control: max-age=100"))
	b.want(b.get("Cache-Control: no-store"), 200, "x", Miss, "fwdproxy; fwd=uri-miss")
	b.want(b.get(), 200, "x", Miss, "fwdproxy; fwd=uri-miss; stored")
}

func TestAStoredResponseIsReusedOnlyWhereThePolicyPermitsItsAddress(t *testing.T) {
	b := newBench(t, always(200, "secret", "Cache-Control: max-age=100"))
	b.get()
	denied := fault.New(fault.DestinationIPProhibited, "no", nil)
	var asked netip.AddrPort
	h := &hop.Hop{Permit: func(a netip.AddrPort) error { asked = a; return denied }}
	r := b.with(h, "GET", page)
	if r.err != error(denied) || r.body != "" || asked != originAddr {
		t.Fatalf("got %v %q, asked about %v", r.err, r.body, asked)
	}
	r = b.with(h, "HEAD", page, `If-None-Match: *`)
	if r.err != error(denied) {
		t.Fatalf("got %v", r.err)
	}
	b.asked(1)
	b.want(b.get(), 200, "secret", Hit, "fwdproxy; hit; ttl=99")
}

func TestWithoutAPermissionNothingIsReusedOrStored(t *testing.T) {
	b := newBench(t, always(200, "x", "Cache-Control: max-age=100"))
	b.want(b.with(&hop.Hop{}, "GET", page), 200, "x", "", "fwdproxy; fwd=bypass")
	b.want(b.get(), 200, "x", Miss, "fwdproxy; fwd=uri-miss; stored")
	b.want(b.with(&hop.Hop{}, "GET", page), 200, "x", "", "fwdproxy; fwd=bypass")
	b.asked(3)
}

func TestAResponseFromAnUnknownAddressIsNotStored(t *testing.T) {
	b := newBench(t, nil)
	b.tr.next = roundTripper(func(*http.Request) (*http.Response, error) {
		return response(200, "x", "Cache-Control: max-age=100"), nil
	})
	b.get()
	b.want(b.get(), 200, "x", Miss, "fwdproxy; fwd=uri-miss")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestWithNoMemoryTheCacheIsOff(t *testing.T) {
	b := newBench(t, always(200, "x", "Cache-Control: max-age=100"))
	b.get()
	b.tr = b.c.Transport(Config{}, "fwdproxy", b.o)
	b.want(b.get(), 200, "x", "", "fwdproxy; fwd=bypass")
	b.asked(2)
}

func TestRequestsThatNoKeyCoversBypass(t *testing.T) { // hostile case: a GET with a body
	b := newBench(t, always(200, "x", "Cache-Control: max-age=100"))
	b.get()
	h := &hop.Hop{Permit: permitAll}
	for _, lines := range [][]string{{`If-Match: "a"`}, {"If-Unmodified-Since: x"}} {
		b.want(b.get(lines...), 200, "x", "", "fwdproxy; fwd=bypass")
	}
	req := request(hop.With(t.Context(), h), "GET", page)
	req.Body, req.ContentLength = io.NopCloser(strings.NewReader("fat")), 3
	if _, err := b.tr.RoundTrip(req); err != nil || b.o.count() != 4 {
		t.Fatalf("a GET with a body: %v, the origin was asked %d times", err, b.o.count())
	}
}

func TestHeadIsAnsweredFromWhatGetStored(t *testing.T) { // RFC 9111, Section 4
	b := newBench(t, always(200, "hello", "Cache-Control: max-age=100"))
	b.want(b.do("HEAD", page), 200, "hello", Miss, "fwdproxy; fwd=uri-miss") // the script's body
	b.get()
	r := b.do("HEAD", page)
	b.want(r, 200, "", Hit, "fwdproxy; hit; ttl=99")
	if r.header.Get("Content-Length") != "5" {
		t.Errorf("Content-Length is %q", r.header.Get("Content-Length"))
	}
	b.asked(2)
}

func TestAHeadResponseFreshensOrInvalidatesWhatGetStored(t *testing.T) { // RFC 9111, Section 4.3.5
	for _, tc := range []struct {
		name  string
		lines []string
		fresh bool
	}{
		{"the same", []string{"Cache-Control: max-age=100", "Content-Length: 5", "X-New: 1"}, true},
		{"without length", []string{"Cache-Control: max-age=100", "X-New: 1"}, true},
		{"another length", []string{"Cache-Control: max-age=100", "Content-Length: 6"}, false},
		{"another tag", []string{"Cache-Control: max-age=100", `ETag: "b"`, "Content-Length: 5"}, false},
		{"no-store", []string{"Cache-Control: no-store", "Content-Length: 5"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
					if req.Method == "HEAD" {
						return &http.Response{StatusCode: 200, Header: fields(tc.lines...), ContentLength: -1}, nil
					}
					return response(200, "hello", "Cache-Control: max-age=1"), nil
				})
				b.get()
				time.Sleep(2 * time.Second)
				if r := b.do("HEAD", page); r.status != 200 || b.o.request(2).Method != "HEAD" {
					t.Fatalf("got %+v", r)
				}
				r := b.get()
				if (r.outcome.Result == Hit) != tc.fresh {
					t.Fatalf("the next GET was a %s", r.outcome.Result)
				}
				if tc.fresh && (r.body != "hello" || r.header.Get("X-New") != "1" || r.header.Get("Content-Length") != "5") {
					t.Fatalf("got %+v", r)
				}
			})
		})
	}
}

func TestUnsafeMethodsInvalidate(t *testing.T) { // RFC 9111, Section 4.4
	for _, tc := range []struct {
		method string
		status int
		lines  []string
		gone   bool
	}{
		{"POST", 200, nil, true}, {"PUT", 204, nil, true}, {"DELETE", 303, nil, true}, {"M-SEARCH", 200, nil, true},
		{"get", 200, nil, true},
		{"POST", 400, nil, false}, {"POST", 500, nil, false}, {"OPTIONS", 200, nil, false},
	} {
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			if req.Method != "GET" {
				return response(tc.status, "", tc.lines...), nil
			}
			return response(200, "x", "Cache-Control: max-age=100"), nil
		})
		b.get()
		r := b.do(tc.method, page)
		if r.outcome.Status != "fwdproxy; fwd=method" || r.outcome.Result != "" {
			t.Errorf("%s: outcome %+v", tc.method, r.outcome)
		}
		if got := b.get().outcome.Result == Miss; got != tc.gone {
			t.Errorf("%s with %d: gone is %v, want %v", tc.method, tc.status, got, tc.gone)
		}
	}
}

func TestLocationInvalidatesWithinTheOriginOnly(t *testing.T) { // RFC 9111, Section 4.4
	for location, gone := range map[string]bool{
		"/page":                        true,
		"page":                         true,
		"http://example.com:80/page":   true,
		"http://EXAMPLE.com/page":      true,
		"https://example.com/page":     false,
		"http://example.org/page":      false,
		"//example.com:8080/page":      false,
		"http://user@example.com/page": false,
	} {
		for _, field := range []string{"Location", "Content-Location"} {
			b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
				if req.Method == "POST" {
					return response(201, "", field+": "+location), nil
				}
				return response(200, "x", "Cache-Control: max-age=100"), nil
			})
			b.get()
			b.do("POST", "http://example.com/form")
			if got := b.get().outcome.Result == Miss; got != gone {
				t.Errorf("%s: %s: gone is %v, want %v", field, location, got, gone)
			}
		}
	}
}

func TestAFetchThatBeganBeforeAnUnsafeRequestIsNotStored(t *testing.T) { // RFC 9111, Section 4.4
	for _, when := range []string{"before the head", "after the head"} {
		synctest.Test(t, func(t *testing.T) {
			head, rest := make(chan struct{}), make(chan struct{})
			b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
				if n > 1 {
					return response(200, "new", "Cache-Control: max-age=100"), nil
				}
				<-head
				return chunked(&gated{gate: rest, data: "old"}, "Cache-Control: max-age=100"), nil
			})
			done := make(chan reply)
			if when == "after the head" {
				close(head)
			}
			go func() { done <- b.get() }()
			synctest.Wait()
			b.do("POST", page)
			if when == "before the head" {
				close(head)
			}
			close(rest)
			if r := <-done; r.body != "old" || r.bodyErr != nil {
				t.Fatalf("the fetch gave %q, %v", r.body, r.bodyErr)
			}
			b.want(b.get(), 200, "new", Miss, "fwdproxy; fwd=uri-miss; stored")
		})
	}
}

// gated gives its data once the gate is open.
type gated struct {
	gate chan struct{}
	data string
	err  error
}

func (g *gated) Read(p []byte) (int, error) {
	<-g.gate
	if g.data == "" {
		if g.err != nil {
			return 0, g.err
		}
		return 0, io.EOF
	}
	n := copy(p, g.data)
	g.data = g.data[n:]
	return n, nil
}
