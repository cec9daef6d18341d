package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"fwdproxy/internal/hop"
)

func TestTheFirstByteGoesOutBeforeTheBodyIsComplete(t *testing.T) {
	for _, cc := range []string{"max-age=100", "no-store"} {
		synctest.Test(t, func(t *testing.T) {
			rest := make(chan struct{})
			b := newBench(t, func(int, *http.Request) (*http.Response, error) {
				return chunked(io.MultiReader(strings.NewReader("first"), &gated{gate: rest, data: "second"}), "Cache-Control: "+cc), nil
			})
			res, err := b.tr.RoundTrip(request(hop.With(t.Context(), &hop.Hop{Permit: permitAll}), "GET", page))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			p := make([]byte, 5)
			if _, err := io.ReadFull(res.Body, p); err != nil || string(p) != "first" {
				t.Fatalf("got %q, %v", p, err)
			}
			close(rest)
			if tail, err := io.ReadAll(res.Body); err != nil || string(tail) != "second" {
				t.Fatalf("got %q, %v", tail, err)
			}
		})
	}
}

func TestAFollowerJoinsABodyThatIsHalfThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rest := make(chan struct{})
		b := newBench(t, func(int, *http.Request) (*http.Response, error) {
			return chunked(io.MultiReader(strings.NewReader("first"), &gated{gate: rest, data: "second"}), "Cache-Control: max-age=100"), nil
		})
		replies := make(chan reply)
		go func() { replies <- b.get() }()
		synctest.Wait()
		go func() { replies <- b.get() }()
		synctest.Wait()
		close(rest)
		for range 2 {
			if r := <-replies; r.body != "firstsecond" || r.bodyErr != nil {
				t.Errorf("got %q, %v", r.body, r.bodyErr)
			}
		}
		b.asked(1)
	})
}

// endless gives zeros and counts them.
type endless struct {
	given atomic.Int64
	limit int64
}

func (e *endless) Read(p []byte) (int, error) {
	if e.given.Load() >= e.limit {
		return 0, io.EOF
	}
	n := min(int64(len(p)), e.limit-e.given.Load())
	clear(p[:n])
	e.given.Add(n)
	return int(n), nil
}

func TestABodyThatOutgrowsMaxObjectStaysWithinItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := &endless{limit: 64 << 20}
		b := newBench(t, func(int, *http.Request) (*http.Response, error) {
			return chunked(body, "Cache-Control: max-age=100"), nil
		})
		res, err := b.tr.RoundTrip(request(hop.With(t.Context(), &hop.Hop{Permit: permitAll}), "GET", page))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		most := int64(b.tr.cfg.MaxObject) + 2*window
		if got := body.given.Load(); got > most {
			t.Fatalf("%d bytes were read ahead", got)
		}
		buf, total := make([]byte, 100<<10), int64(0)
		for {
			n, err := res.Body.Read(buf)
			total += int64(n)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if total > int64(b.tr.cfg.MaxObject)+window && b.c.filling.Load() > 4*window {
				t.Fatalf("%d bytes are held after %d were read", b.c.filling.Load(), total)
			}
		}
		res.Body.Close()
		synctest.Wait()
		if total != body.limit || b.c.filling.Load() != 0 {
			t.Fatalf("%d bytes came, %d are held", total, b.c.filling.Load())
		}
		if r := b.do("HEAD", page, "Cache-Control: only-if-cached"); r.err == nil {
			t.Error("it was stored")
		}
	})
}

func TestABodyOfExactlyMaxObjectIsStoredAndOneByteMoreIsNot(t *testing.T) {
	for _, known := range []bool{true, false} {
		for extra, want := range map[int]Result{0: Hit, 1: Miss} {
			b := newBench(t, func(int, *http.Request) (*http.Response, error) {
				body := strings.Repeat("x", 4<<20+extra)
				if known {
					return response(200, body, "Cache-Control: max-age=100"), nil
				}
				return chunked(strings.NewReader(body), "Cache-Control: max-age=100"), nil
			})
			if r := b.get(); len(r.body) != 4<<20+extra {
				t.Fatalf("got %d bytes", len(r.body))
			}
			if r := b.get(); r.outcome.Result != want || len(r.body) != 4<<20+extra {
				t.Errorf("length known: %v, %d more: %s with %d bytes", known, extra, r.outcome.Result, len(r.body))
			}
		}
	}
}

func TestFillsTogetherHoldNoMoreThanTheirRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(int, *http.Request) (*http.Response, error) {
			return chunked(&endless{limit: 3 << 20}, "Cache-Control: max-age=100"), nil
		})
		var all []*http.Response
		for i := range 20 {
			res, err := b.tr.RoundTrip(request(hop.With(t.Context(), &hop.Hop{Permit: permitAll}), "GET", fmt.Sprint(page, i)))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, res)
			synctest.Wait()
		}
		if held := b.c.filling.Load(); held > 4<<20+20*2*window {
			t.Errorf("%d bytes are held", held)
		}
		for _, res := range all {
			if n, err := io.Copy(io.Discard, res.Body); n != 3<<20 || err != nil {
				t.Errorf("got %d bytes, %v", n, err)
			}
			res.Body.Close()
		}
		if held := b.c.filling.Load(); held != 0 {
			t.Errorf("%d bytes are held in the end", held)
		}
	})
}

func TestReadersOfDifferentPaceAllGetEveryByte(t *testing.T) {
	body := make([]byte, 3<<20)
	for i := range body {
		body[i] = byte(i * 7 / 3)
	}
	for _, limit := range []int64{4 << 20, 1 << 20} { // kept to the end, and not
		var total atomic.Int64
		f := newFill(-1, limit, 1<<40, &total)
		var wg sync.WaitGroup
		for i := range 4 {
			r, _ := f.reader(t.Context(), 0, -1, func() {})
			wg.Go(func() {
				defer r.Close()
				var got bytes.Buffer
				if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{r}, make([]byte, 1000*(1+i*i*9))); err != nil || !bytes.Equal(got.Bytes(), body) {
					t.Errorf("reader %d: %v, %d bytes", i, err, got.Len())
				}
			})
		}
		stored := false
		f.from(bytes.NewReader(body), func(came content, err error) {
			stored = err == io.EOF && bytes.Equal(bytes.Join(came.segs, nil), body)
		})
		wg.Wait()
		f.seal()
		if stored != (limit > int64(len(body))) || total.Load() != 0 {
			t.Errorf("limit %d: stored %v, %d bytes held", limit, stored, total.Load())
		}
	}
}

func TestAReaderEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var total atomic.Int64
		f := newFill(-1, 1<<20, 1<<40, &total)
		ctx, cancel := context.WithCancel(t.Context())
		r, _ := f.reader(ctx, 0, -1, func() {})
		done := make(chan error)
		go func() { _, err := r.Read(make([]byte, 1)); done <- err }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		r.Close()
	})
}
