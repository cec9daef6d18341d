package cache

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"fwdproxy/internal/fault"
)

var broken = fault.New(fault.ConnectionTerminated, "closed", nil)

func TestAStaleResponseStandsInWhenTheOriginCannotBeReached(t *testing.T) { // RFC 9111, Section 4.2.4
	const day = 24 * time.Hour
	for _, tc := range []struct {
		name    string
		control string
		request string
		after   time.Duration
		err     error
		served  bool
	}{
		{"nothing forbids it", "max-age=2", "", 10 * time.Second, broken, true},
		{"almost a day late", "max-age=2", "", day, broken, true},
		{"more than a day late", "max-age=2", "", day + 3*time.Second, broken, false},
		{"must-revalidate", "max-age=2, must-revalidate", "", 10 * time.Second, broken, false},
		{"proxy-revalidate", "max-age=2, proxy-revalidate", "", 10 * time.Second, broken, false},
		{"malformed must-revalidate", "max-age=2, must-revalidate=1", "", 10 * time.Second, broken, false},
		{"s-maxage", "s-maxage=2", "", 10 * time.Second, broken, false},
		{"within stale-if-error", "max-age=2, stale-if-error=60", "", 50 * time.Second, broken, true},
		{"beyond stale-if-error", "max-age=2, stale-if-error=60", "", 70 * time.Second, broken, false},
		{"must-revalidate beats stale-if-error", "max-age=2, stale-if-error=60, must-revalidate", "", 10 * time.Second, broken, false},
		{"must-revalidate beats max-stale", "max-age=2, must-revalidate", "max-stale=100", 10 * time.Second, broken, false},
		{"the request says no-cache", "max-age=2", "no-cache", 10 * time.Second, broken, false},
		{"the request says max-age", "max-age=2", "max-age=5", 10 * time.Second, broken, false},
		{"the request says min-fresh", "max-age=2", "min-fresh=5", 10 * time.Second, broken, false},
		{"a refusal is no failure of the origin", "max-age=2", "", 10 * time.Second, fault.New(fault.RequestDenied, "no", nil), false},
		{"a bad certificate is not one either", "max-age=2", "", 10 * time.Second, fault.New(fault.TLSCertificateError, "no", nil), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, func(n int, _ *http.Request) (*http.Response, error) {
					if n > 1 {
						return nil, tc.err
					}
					return response(200, "old", "Cache-Control: "+tc.control), nil
				})
				b.get()
				time.Sleep(tc.after)
				var lines []string
				if tc.request != "" {
					lines = []string{"Cache-Control: " + tc.request}
				}
				r := b.get(lines...)
				b.asked(2)
				if !tc.served {
					if !errors.Is(r.err, tc.err) {
						t.Fatalf("got %d %q, %v", r.status, r.body, r.err)
					}
					return
				}
				ttl := "fwdproxy; fwd=stale; ttl=" + decimal(2-int64(tc.after/time.Second)) + "; detail=stale-if-error"
				b.want(r, 200, "old", RefreshFailOld, ttl)
				if r.hopName != "NONE" {
					t.Errorf("the next hop is %q", r.hopName)
				}
			})
		})
	}
}

func TestAServerErrorGivesWayToAStaleResponseOnlyWithinStaleIfError(t *testing.T) { // RFC 5861, Section 4
	for _, tc := range []struct {
		control string
		status  int
		served  bool
	}{
		{"max-age=2, stale-if-error=60", 503, true},
		{"max-age=2, stale-if-error=60", 500, true},
		{"max-age=2, stale-if-error=60", 404, false},
		{"max-age=2, stale-if-error=60", 501, false},
		{"max-age=2, stale-if-error=5", 503, false},
		{"max-age=2, stale-if-error=oops", 503, false},
		{"max-age=2", 503, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(n int, _ *http.Request) (*http.Response, error) {
				if n > 1 {
					time.Sleep(time.Second)
					return response(tc.status, "error"), nil
				}
				return response(200, "old", "Cache-Control: "+tc.control), nil
			})
			b.get()
			time.Sleep(10 * time.Second)
			for _, r := range b.crowd(5, plain) {
				if tc.served != (r.body == "old") || r.err != nil {
					t.Errorf("%s and %d: got %d %q, %v", tc.control, tc.status, r.status, r.body, r.err)
				}
			}
			if tc.served {
				b.asked(2)
			}
		})
	}
}

func TestFollowersOfAFailedValidationGetTheStaleResponseToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, _ *http.Request) (*http.Response, error) {
			if n > 1 {
				time.Sleep(time.Second)
				return nil, broken
			}
			return response(200, "old", "Cache-Control: max-age=2"), nil
		})
		b.get()
		time.Sleep(10 * time.Second)
		for _, r := range b.crowd(10, plain) {
			if r.body != "old" || r.outcome.Result != RefreshFailOld {
				t.Errorf("got %+v", r)
			}
		}
		b.asked(2)
	})
}

func TestStaleWhileRevalidateMakesOneFetchInTheBackground(t *testing.T) { // RFC 5861, Section 3
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			if n > 1 {
				if req.Method != "GET" || len(req.Header["Range"]) > 0 || req.Header.Get("If-None-Match") != `"1"` {
					t.Errorf("the background fetch is %s with %v", req.Method, req.Header)
				}
				time.Sleep(2 * time.Second)
			}
			return response(200, "body"+decimal(int64(n)), "Cache-Control: max-age=5, stale-while-revalidate=10", `ETag: "`+decimal(int64(n))+`"`), nil
		})
		b.get()
		time.Sleep(7 * time.Second)
		for _, r := range b.crowd(10, func(i int) []string {
			if i%2 == 0 {
				return []string{"Range: bytes=0-3"}
			}
			return nil
		}) {
			if r.outcome.Result != Hit || r.outcome.Status != "fwdproxy; hit; ttl=-2" {
				t.Errorf("got %+v", r)
			}
		}
		time.Sleep(3 * time.Second)
		b.want(b.get(), 200, "body2", Hit, "fwdproxy; hit; ttl=2")
		b.asked(2)
	})
}

func TestNothingIsServedStaleAfterTheWindow(t *testing.T) { // RFC 5861, Section 3
	for _, control := range []string{
		"max-age=5, stale-while-revalidate=10",
		"max-age=5, stale-while-revalidate=100, must-revalidate",
		"s-maxage=5, stale-while-revalidate=100",
		"max-age=5, stale-while-revalidate=100, stale-while-revalidate=10",
		"max-age=5, stale-while-revalidate",
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, always(200, "x", "Cache-Control: "+control))
			b.get()
			time.Sleep(15 * time.Second)
			if r := b.get(); r.outcome.Result == Hit {
				t.Errorf("%s: served stale", control)
			}
		})
	}
}

func TestAFailedBackgroundFetchLeavesTheWindowAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, _ *http.Request) (*http.Response, error) {
			if n > 1 {
				return response(500, "no"), nil
			}
			return response(200, "old", "Cache-Control: max-age=5, stale-while-revalidate=10"), nil
		})
		b.get()
		for range 3 {
			time.Sleep(4 * time.Second)
			if r := b.get(); r.body != "old" {
				t.Fatalf("got %+v", r)
			}
			synctest.Wait()
		}
		time.Sleep(4 * time.Second)
		if r := b.get(); r.status != 500 {
			t.Fatalf("got %+v", r)
		}
	})
}

func TestTheBackgroundFetchIsNotStoredAfterAnUnsafeRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			if n == 2 {
				time.Sleep(5 * time.Second)
			}
			return response(200, decimal(int64(n)), "Cache-Control: max-age=5, stale-while-revalidate=10"), nil
		})
		b.get()
		time.Sleep(6 * time.Second)
		b.get()
		synctest.Wait()
		b.do("DELETE", page)
		time.Sleep(10 * time.Second)
		if r := b.get(); r.outcome.Result != Miss || r.body != "4" {
			t.Fatalf("got %+v", r)
		}
	})
}
