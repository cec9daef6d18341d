package cache

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
)

// crowd sends n requests at once and returns what they got.
func (b *bench) crowd(n int, lines func(i int) []string) []reply {
	out := make([]reply, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { out[i] = b.get(lines(i)...) })
	}
	wg.Wait()
	return out
}

func plain(int) []string { return nil }

func TestManyRequestsForOneThingMakeOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(int, *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return response(200, "x", "Cache-Control: max-age=100"), nil
		})
		collapsed := 0
		for _, r := range b.crowd(50, plain) {
			if r.status != 200 || r.body != "x" {
				t.Fatalf("got %+v", r)
			}
			if r.outcome.Status == "fwdproxy; fwd=uri-miss; collapsed" {
				collapsed++
			}
		}
		b.asked(1)
		if collapsed != 49 {
			t.Errorf("%d were collapsed, want 49", collapsed)
		}
	})
}

func TestOneValidationServesAllThatWait(t *testing.T) { // RFC 9111, Section 4.3
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			if req.Header.Get("If-None-Match") != "" {
				return response(304, "", `ETag: "a"`), nil
			}
			return response(200, "x", "Cache-Control: max-age=2", `ETag: "a"`), nil
		})
		b.get()
		time.Sleep(3 * time.Second)
		for _, r := range b.crowd(20, plain) {
			if r.status != 200 || r.body != "x" {
				t.Fatalf("got %+v", r)
			}
		}
		b.asked(2)
	})
}

func TestAResponseThatIsNotForSharingIsFetchedByEachInParallel(t *testing.T) {
	for _, line := range []string{"Cache-Control: private, max-age=60", "Cache-Control: no-store", "Set-Cookie: a=b", "Vary: *", "X-Nothing: said", "Cache-Control: no-cache"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(n int, _ *http.Request) (*http.Response, error) {
				time.Sleep(time.Second)
				return response(200, decimal(int64(n)), line), nil
			})
			began := time.Now()
			seen := map[string]bool{}
			for _, r := range b.crowd(20, plain) {
				if seen[r.body] {
					t.Fatalf("%s: two got %q", line, r.body)
				}
				seen[r.body] = true
			}
			b.asked(20)
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("%s: it took %v, so they went one after the other", line, took)
			}
			// For a while nobody waits at all.
			began = time.Now()
			b.crowd(20, plain)
			if took := time.Since(began); took > time.Second {
				t.Errorf("%s: the next crowd took %v", line, took)
			}
		})
	}
}

func TestVariantsAreFetchedOnceEach(t *testing.T) { // RFC 9111, Section 4.1
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return response(200, req.Header.Get("Accept-Encoding"), "Cache-Control: max-age=100", "Vary: Accept-Encoding"), nil
		})
		codings := []string{"gzip", "br", "zstd"}
		rs := b.crowd(30, func(i int) []string { return []string{"Accept-Encoding: " + codings[i%3]} })
		for i, r := range rs {
			if r.body != codings[i%3] {
				t.Fatalf("%s was given %q", codings[i%3], r.body)
			}
		}
		b.asked(3)
		if r := b.get("Accept-Encoding: br"); r.body != "br" || r.outcome.Result != Hit {
			t.Fatalf("got %+v", r)
		}
		b.want(b.get("Accept-Encoding: x"), 200, "x", Miss, "fwdproxy; fwd=vary-miss; stored")
	})
}

func TestRequestsThatMustNotShareFetchAlone(t *testing.T) {
	for _, line := range []string{"Authorization: Basic x", "Cache-Control: no-store", "Cache-Control: no-cache", "Range: bytes=0-1"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(int, *http.Request) (*http.Response, error) {
				time.Sleep(time.Second)
				return response(200, "x", "Cache-Control: max-age=100"), nil
			})
			b.crowd(5, func(int) []string { return []string{line} })
			b.asked(5)
		})
	}
}

func TestAFollowerWaitsNoLongerThanTheCollapseTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, _ *http.Request) (*http.Response, error) {
			if n == 1 {
				time.Sleep(time.Hour)
			}
			return response(200, decimal(int64(n)), "Cache-Control: max-age=100"), nil
		})
		go b.get()
		synctest.Wait()
		began := time.Now()
		if r := b.get(); r.body != "2" || time.Since(began) != 5*time.Second {
			t.Fatalf("got %+v after %v", r, time.Since(began))
		}
		if r := b.get(); r.outcome.Result != Hit {
			t.Fatalf("what the follower fetched was not stored: %+v", r)
		}
		time.Sleep(time.Hour)
	})
}

func TestALeaderThatLeavesDoesNotTakeTheOthersAlong(t *testing.T) {
	for _, when := range []string{"before the head", "while the body comes"} {
		synctest.Test(t, func(t *testing.T) {
			rest := make(chan struct{})
			b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
				time.Sleep(time.Second)
				return chunked(&tied{ctx: req.Context(), r: &gated{gate: rest, data: "all of it"}}, "Cache-Control: max-age=100"), nil
			})
			ctx, leave := context.WithCancel(hop.With(t.Context(), &hop.Hop{Permit: permitAll}))
			led := make(chan error)
			go func() {
				res, err := b.tr.RoundTrip(request(ctx, "GET", page))
				if err == nil {
					_, err = io.ReadAll(res.Body)
					res.Body.Close()
				}
				led <- err
			}()
			synctest.Wait()
			followed := make(chan reply)
			go func() { followed <- b.get() }()
			synctest.Wait()
			if when != "before the head" {
				time.Sleep(2 * time.Second)
			}
			leave()
			if err := <-led; !errors.Is(err, context.Canceled) {
				t.Fatalf("%s: the leader got %v", when, err)
			}
			close(rest)
			if r := <-followed; r.body != "all of it" || r.bodyErr != nil {
				t.Fatalf("%s: the follower got %q, %v, %v", when, r.body, r.err, r.bodyErr)
			}
			if r := b.get(); r.outcome.Result != Hit {
				t.Fatalf("%s: it was not stored", when)
			}
			b.asked(1)
		})
	}
}

// tied is a body that ends with its request's context, as a real one does.
type tied struct {
	ctx context.Context
	r   io.Reader
}

func (b *tied) Read(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	buf := make([]byte, len(p))
	go func() {
		n, err := b.r.Read(buf)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return copy(p, buf[:r.n]), r.err
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	}
}

func TestAFetchThatNobodyWantsAnyMoreIsCancelledAndNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rest := make(chan struct{})
		var fetch context.Context
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			if n > 1 {
				return response(200, "second", "Cache-Control: max-age=100"), nil
			}
			fetch = req.Context()
			return chunked(&tied{ctx: fetch, r: &gated{gate: rest, data: "x"}}, "Cache-Control: max-age=100"), nil
		})
		res, err := b.tr.RoundTrip(request(hop.With(t.Context(), &hop.Hop{Permit: permitAll}), "GET", page))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		synctest.Wait()
		if fetch.Err() == nil {
			t.Error("the fetch goes on")
		}
		b.want(b.get(), 200, "second", Miss, "fwdproxy; fwd=uri-miss; stored")
		close(rest)
		synctest.Wait()
		if n := b.c.filling.Load(); n != 0 {
			t.Errorf("%d bytes are still held", n)
		}
	})
}

func TestABodyThatBreaksOffIsAnErrorForAllAndNotStored(t *testing.T) { // RFC 9111, Section 3.3
	reset := &fault.Error{Kind: fault.ConnectionTerminated, Err: syscall.ECONNRESET}
	for name, tc := range map[string]struct {
		res  func() *http.Response
		want error
	}{
		"a Content-Length that is not reached": {func() *http.Response {
			r := response(200, "1234567890", "Cache-Control: max-age=100", "Content-Length: 20")
			r.ContentLength = 20
			return r
		}, io.ErrUnexpectedEOF},
		"a Content-Length that is exceeded": {func() *http.Response {
			r := response(200, "1234567890", "Cache-Control: max-age=100", "Content-Length: 5")
			r.ContentLength = 5
			return r
		}, errTooLong},
		"a large Content-Length that is exceeded": {func() *http.Response {
			r := response(200, strings.Repeat("x", 70010), "Cache-Control: max-age=100", "Content-Length: 70000")
			r.ContentLength = 70000
			return r
		}, errTooLong},
		"chunks that are cut": {func() *http.Response {
			return chunked(io.MultiReader(strings.NewReader("1234"), errReader{io.ErrUnexpectedEOF}), "Cache-Control: max-age=100")
		}, io.ErrUnexpectedEOF},
		"a reset": {func() *http.Response {
			return chunked(io.MultiReader(strings.NewReader("1234"), errReader{reset}), "Cache-Control: max-age=100")
		}, reset},
		"a reset of a response that is not stored": {func() *http.Response {
			return chunked(io.MultiReader(strings.NewReader("1234"), errReader{reset}), "Cache-Control: no-store")
		}, reset},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, func(n int, _ *http.Request) (*http.Response, error) {
					time.Sleep(time.Second)
					return tc.res(), nil
				})
				for _, r := range b.crowd(3, plain) {
					if !errors.Is(r.bodyErr, tc.want) {
						t.Errorf("got %q with %v, want %v", r.body, r.bodyErr, tc.want)
					}
				}
				before := b.o.count()
				b.get()
				b.asked(before + 1)
			})
		})
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestFollowersShareAFailureOfTheNextHopButNotARefusal(t *testing.T) {
	for _, tc := range []struct {
		err   error
		asked int
	}{
		{fault.New(fault.ConnectionRefused, "refused", nil), 1},
		{fault.New(fault.DNSError, "no such host", nil), 1},
		{fault.New(fault.DestinationIPProhibited, "not for you", nil), 5},
		{fault.New(fault.RequestDenied, "not for you", nil), 5},
		{context.Canceled, 5},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(int, *http.Request) (*http.Response, error) {
				time.Sleep(time.Second)
				return nil, tc.err
			})
			for _, r := range b.crowd(5, plain) {
				if !errors.Is(r.err, tc.err) {
					t.Errorf("got %v, want %v", r.err, tc.err)
				}
			}
			b.asked(tc.asked)
		})
	}
}

func TestAFollowerIsGivenNothingThatItsPolicyRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(int, *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return response(200, "secret", "Cache-Control: max-age=100"), nil
		})
		go b.get()
		synctest.Wait()
		denied := fault.New(fault.DestinationIPProhibited, "no", nil)
		r := b.with(&hop.Hop{Permit: func(netip.AddrPort) error { return denied }}, "GET", page)
		if r.err != error(denied) || r.body != "" {
			t.Fatalf("got %v %q", r.err, r.body)
		}
		b.asked(1)
	})
}

func TestInterimResponsesReachTheLeaderWithinRoundTrip(t *testing.T) { // RFC 9110, Section 15.2
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			trace := httptrace.ContextClientTrace(req.Context())
			for range 3 {
				if err := trace.Got1xxResponse(103, textproto.MIMEHeader{"Link": {"</a>"}}); err != nil {
					return nil, err
				}
			}
			time.Sleep(time.Second)
			return response(200, "x", "Cache-Control: max-age=100"), nil
		})
		inside, got := true, 0 // no lock: the race detector tells if another goroutine calls
		ctx := hop.With(t.Context(), &hop.Hop{Permit: permitAll})
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if !inside || code != 103 || h.Get("Link") != "</a>" {
				t.Errorf("got %d %v, inside RoundTrip: %v", code, h, inside)
			}
			got++
			return nil
		}})
		res, err := b.tr.RoundTrip(request(ctx, "GET", page))
		inside = false
		if err != nil || got != 3 {
			t.Fatalf("got %d interim responses, %v", got, err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if r := b.get(); r.outcome.Result != Hit || len(r.header["Link"]) > 0 {
			t.Errorf("got %+v", r)
		}
	})
}

func TestALeaderThatLeavesAmongInterimResponsesHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			for range 3 {
				httptrace.ContextClientTrace(req.Context()).Got1xxResponse(103, nil)
			}
			return response(200, "x", "Cache-Control: max-age=100"), nil
		})
		ctx, cancel := context.WithCancel(hop.With(t.Context(), &hop.Hop{Permit: permitAll}))
		go b.tr.RoundTrip(request(ctx, "GET", page))
		synctest.Wait()
		followed := make(chan reply)
		go func() { followed <- b.get() }()
		synctest.Wait()
		cancel()
		if r := <-followed; r.body != "x" {
			t.Fatalf("got %+v", r)
		}
	})
}

func TestAPanicInTheNextHopIsThatRequestsErrorAlone(t *testing.T) {
	b := newBench(t, func(int, *http.Request) (*http.Response, error) { panic("oh") })
	var f *fault.Error
	if r := b.get(); !errors.As(r.err, &f) || f.Kind != fault.InternalError {
		t.Fatalf("got %v", r.err)
	}
	b = newBench(t, func(int, *http.Request) (*http.Response, error) {
		return chunked(panicReader{}, "Cache-Control: max-age=100"), nil
	})
	if r := b.get(); !errors.As(r.bodyErr, &f) || f.Kind != fault.InternalError {
		t.Fatalf("got %v, %v", r.err, r.bodyErr)
	}
}

type panicReader struct{}

func (panicReader) Read([]byte) (int, error) { panic("oh") }

func TestNoFlightIsLeftBehind(t *testing.T) {
	b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
		switch n % 4 {
		case 0:
			return nil, io.EOF
		case 1:
			return response(500, "x"), nil
		case 2:
			return response(200, "x", "Cache-Control: no-store"), nil
		}
		return response(200, "x", "Cache-Control: max-age=0", `ETag: "a"`), nil
	})
	for range 20 {
		b.crowd(10, plain)
	}
	deadline := time.Now().Add(5 * time.Second)
	for i := range b.c.books {
		for {
			b.c.books[i].mu.Lock()
			n := len(b.c.books[i].flights)
			b.c.books[i].mu.Unlock()
			if n == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d keys have flights", n)
			}
			time.Sleep(time.Millisecond)
		}
	}
	if n := b.c.filling.Load(); n != 0 {
		t.Errorf("%d bytes are held", n)
	}
}
