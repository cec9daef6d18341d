package cache

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fwdproxy/internal/hop"
	"fwdproxy/internal/unit"
)

// slowly gives a byte string in steps, one a second, and ends with its context.
type slowly struct {
	ctx   context.Context
	steps []string
}

func (s *slowly) Read(p []byte) (int, error) {
	if len(s.steps) == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(time.Second):
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	}
	n := copy(p, s.steps[0])
	if s.steps[0] = s.steps[0][n:]; s.steps[0] == "" {
		s.steps = s.steps[1:]
	}
	return n, nil
}

// arriving10 is a bench on which a body of ten times n bytes takes ten seconds
// to arrive; the origin answers ranges at once. The leader is under way, and
// half of the body is there.
func arriving10(t *testing.T, n int, lines ...string) (b *bench, leave context.CancelFunc, body string) {
	var steps []string
	for i := range 10 {
		steps = append(steps, strings.Repeat(string(rune('0'+i)), n))
	}
	body = strings.Join(steps, "")
	o := &ranged{body: body, tag: `"a"`}
	b = newBench(t, func(n int, req *http.Request) (*http.Response, error) {
		if n > 1 {
			return o.answer(n, req)
		}
		r := response(200, body, append(lines, "Cache-Control: max-age=100", `ETag: "a"`)...)
		r.Body = io.NopCloser(&slowly{ctx: req.Context(), steps: steps})
		return r, nil
	})
	ctx, leave := context.WithCancel(hop.With(t.Context(), &hop.Hop{Permit: permitAll}))
	go func() {
		res, err := b.tr.RoundTrip(request(ctx, "GET", page))
		if err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}()
	time.Sleep(5*time.Second + time.Millisecond)
	synctest.Wait()
	return b, leave, body
}

func TestARangeIsTakenFromABodyThatIsArriving(t *testing.T) { // RFC 9110, Section 14.2
	for _, tc := range []struct {
		lines  []string
		status int
		from   int // of the body
		to     int
		took   time.Duration
		alone  bool
	}{
		{lines: []string{"Range: bytes=0-1"}, status: 206, from: 0, to: 2},
		{lines: []string{"Range: bytes=45-49"}, status: 206, from: 45, to: 50},
		{lines: []string{"Range: bytes=48-51"}, status: 206, from: 48, to: 52, took: time.Second},
		{lines: []string{"Range: bytes=55-59"}, status: 206, from: 55, to: 60, took: time.Second},
		{lines: []string{"Range: bytes=-5"}, status: 206, from: 95, to: 100, took: 5 * time.Second},
		{lines: []string{"Range: bytes=0-1", `If-Range: "a"`}, status: 206, from: 0, to: 2},
		{lines: []string{"Range: bytes=0-1", `If-Range: "b"`}, status: 200, from: 0, to: 100, took: 5 * time.Second},
		{lines: []string{"Range: bytes=5-4"}, status: 200, from: 0, to: 100, took: 5 * time.Second},
		{lines: []string{"Range: bytes=100-"}, status: 416, alone: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			b, leave, body := arriving10(t, 10)
			defer func() { leave(); time.Sleep(time.Minute) }()
			b.tr.cfg.CollapseTimeout *= 2
			began := time.Now()
			r := b.get(tc.lines...)
			took := time.Since(began).Round(10 * time.Millisecond)
			if r.status != tc.status || r.body != body[tc.from:tc.to] || took != tc.took || r.bodyErr != nil {
				t.Errorf("%v: got %d %q after %v, %v", tc.lines, r.status, r.body, took, r.bodyErr)
			}
			if want := contentRange(span{int64(tc.from), int64(tc.to - tc.from)}, 100); tc.status == 206 && r.header.Get("Content-Range") != want {
				t.Errorf("%v: Content-Range is %q", tc.lines, r.header.Get("Content-Range"))
			}
			if !tc.alone {
				b.asked(1)
				if r.outcome.Status != "fwdproxy; fwd=uri-miss; collapsed" {
					t.Errorf("%v: Cache-Status is %q", tc.lines, r.outcome.Status)
				}
			}
		})
	}
}

func TestARangeThatIsFarAheadIsAskedForByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, leave, body := arriving10(t, 10)
		defer func() { leave(); time.Sleep(time.Minute) }()
		b.tr.cfg.RangeAhead = 20
		began := time.Now()
		if r := b.get("Range: bytes=71-75"); r.status != 206 || r.body != body[71:76] || time.Since(began) > time.Millisecond {
			t.Errorf("got %d %q after %v", r.status, r.body, time.Since(began))
		}
		b.asked(2)
		time.Sleep(6 * time.Second)
		if r := b.get(); r.outcome.Result != Hit || r.body != body {
			t.Errorf("the whole, which was asked for earlier, is not in the part's place: %+v", r.outcome)
		}
	})
}

func TestARangeWaitsForItsFirstByteNoLongerThanTheCollapseTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, leave, body := arriving10(t, 10)
		defer func() { leave(); time.Sleep(time.Minute) }()
		b.tr.cfg.CollapseTimeout /= 5
		began := time.Now()
		if r := b.get("Range: bytes=90-94"); r.status != 206 || r.body != body[90:95] || time.Since(began) != time.Second {
			t.Errorf("got %d %q after %v", r.status, r.body, time.Since(began))
		}
		b.asked(2)
		if got := b.o.request(2).Header.Get("Range"); got != "bytes=90-94" {
			t.Errorf("asked with %q", got)
		}
	})
}

func TestHeadAndConditionsAreAnsweredFromTheHeadThatArrived(t *testing.T) { // RFC 9110, Sections 9.3.2 and 13.1.2
	synctest.Test(t, func(t *testing.T) {
		b, leave, _ := arriving10(t, 10, "X-A: 1")
		defer func() { leave(); time.Sleep(time.Minute) }()
		began := time.Now()
		if r := b.do("HEAD", page); r.status != 200 || r.header.Get("Content-Length") != "100" || r.header.Get("X-A") != "1" || r.body != "" {
			t.Errorf("HEAD: got %+v", r)
		}
		if r := b.get(`If-None-Match: "a"`); r.status != 304 {
			t.Errorf("If-None-Match: got %+v", r)
		}
		if r := b.get(`If-None-Match: "a"`, "Range: bytes=0-1"); r.status != 304 {
			t.Errorf("If-None-Match with Range: got %+v", r)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
		b.asked(1)
	})
}

func TestAFetchThatIsNearlyDoneGoesOnWithoutItsClient(t *testing.T) {
	for _, tc := range []struct {
		name     string
		min, max unit.Size
		percent  int
		goesOn   bool
	}{
		{"little is missing", 50, 50, 100, true},
		{"too much is missing", 10, 49, 0, false},
		{"more than the percentage is there", 10, 1000, 49, true},
		{"less than the percentage is there", 10, 1000, 50, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			b, leave, body := arriving10(t, 10)
			b.tr.cfg.QuickAbortMin, b.tr.cfg.QuickAbortMax, b.tr.cfg.QuickAbortPercent = tc.min, tc.max, tc.percent
			leave()
			time.Sleep(10 * time.Second)
			r := b.get()
			if r.body != body || (r.outcome.Result == Hit) != tc.goesOn {
				t.Fatalf("%s: got %s with %q", tc.name, r.outcome.Result, r.body)
			}
			if !tc.goesOn {
				// What came is not asked for again (RFC 9111, Section 3.3).
				if h := b.o.request(2).Header; h.Get("Range") != "bytes=50-" || h.Get("If-Range") != `"a"` {
					t.Errorf("%s: asked for the rest with %v", tc.name, h)
				}
			}
			if n := b.c.filling.Load(); n != 0 {
				t.Errorf("%s: %d bytes are held", tc.name, n)
			}
		})
	}
}

func TestAFetchWithoutAClientEndsAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fetch context.Context
		b := newBench(t, func(_ int, req *http.Request) (*http.Response, error) {
			fetch = req.Context()
			r := response(200, strings.Repeat("x", 1000), "Cache-Control: max-age=1000")
			r.Body = io.NopCloser(&slowly{ctx: fetch, steps: strings.SplitAfter(strings.Repeat("x", 1000), "x")})
			return r, nil
		})
		res, err := b.tr.RoundTrip(request(hop.With(t.Context(), &hop.Hop{Permit: permitAll}), "GET", page))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		time.Sleep(finishFor - time.Second)
		if fetch.Err() != nil {
			t.Error("it ended at once")
		}
		time.Sleep(2 * time.Second)
		if fetch.Err() == nil {
			t.Error("it goes on")
		}
		synctest.Wait()
	})
}

func TestAThousandFollowersOfEveryKindMakeOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := strings.Repeat("0123456789", 20<<10)
		b := newBench(t, func(_ int, req *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			r := response(200, body, "Cache-Control: max-age=100", `ETag: "a"`)
			r.Body = io.NopCloser(&slowly{ctx: req.Context(), steps: []string{body[:1000], body[1000:]}})
			return r, nil
		})
		go b.get()
		synctest.Wait()
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				var r reply
				status, want := 200, body
				switch i % 4 {
				case 0:
					r = b.get()
				case 1:
					r, want, status = b.get("Range: bytes=500-1499"), body[500:1500], 206
				case 2:
					r, want = b.do("HEAD", page), ""
				case 3:
					r, want, status = b.get(`If-None-Match: "a"`), "", 304
				}
				if r.status != status || r.body != want || r.err != nil || r.bodyErr != nil {
					t.Errorf("follower %d: got %d with %d bytes, %v, %v", i, r.status, len(r.body), r.err, r.bodyErr)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		b.asked(1)
		if n := b.c.filling.Load(); n != 0 {
			t.Errorf("%d bytes are held", n)
		}
	})
}

func TestASlowReaderHoldsTheOthersUpForSoLongAndNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 32 << 20
		b := newBench(t, func(_ int, req *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			// All have begun to read before the body outgrows what is kept.
			first := &slowly{ctx: req.Context(), steps: []string{"first"}}
			return chunked(io.MultiReader(first, &endless{limit: size - 5}), "Cache-Control: max-age=100"), nil
		})
		get := func(each time.Duration) (n int64, err error) {
			res, err := b.tr.RoundTrip(request(hop.With(t.Context(), &hop.Hop{Permit: permitAll}), "GET", page))
			if err != nil {
				return 0, err
			}
			defer res.Body.Close()
			p := make([]byte, 32<<10)
			for err == nil {
				var k int
				k, err = res.Body.Read(p)
				n += int64(k)
				if each > 0 {
					time.Sleep(each)
				}
			}
			if err == io.EOF {
				err = nil
			}
			return n, err
		}
		var wg sync.WaitGroup
		began := time.Now()
		for range 3 {
			wg.Go(func() {
				n, err := get(0)
				if took := time.Since(began); n != size || err != nil || took > patience+2*time.Second {
					t.Errorf("one that is fast got %d bytes after %v, %v", n, took, err)
				}
			})
		}
		wg.Go(func() {
			if n, err := get(time.Second); n >= size || err == nil || err == io.EOF {
				t.Errorf("the slow one got %d bytes, %v", n, err)
			}
		})
		wg.Wait()
		synctest.Wait()
		b.asked(1)
		if n := b.c.filling.Load(); n != 0 {
			t.Errorf("%d bytes are held", n)
		}
	})
}

func TestASlowReaderDoesNotHoldUpABodyThatIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, always(200, strings.Repeat("x", 3<<20), "Cache-Control: max-age=100"))
		res, err := b.tr.RoundTrip(request(hop.With(t.Context(), &hop.Hop{Permit: permitAll}), "GET", page))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		synctest.Wait() // its client reads nothing
		if r := b.get(); r.outcome.Result != Hit || len(r.body) != 3<<20 {
			t.Errorf("got %s with %d bytes", r.outcome.Result, len(r.body))
		}
	})
}
