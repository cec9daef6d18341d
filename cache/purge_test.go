package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fwdproxy/cache/store"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
)

// ways are purges of page, one of each kind.
var ways = [][3]string{{page, "", ""}, {"", "http://example.com/pa", ""}, {"", "EXAMPLE.com", ""}, {"", "", "tag"}}

func (b *bench) purge(way [3]string, soft bool) Purged {
	b.Helper()
	p, err := ParsePurge(way[0], way[1], way[2], soft)
	if err != nil {
		b.Fatal(err)
	}
	done, err := b.tr.Purge(p, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	return done
}

func TestAPurgeTakesEveryVariantAndPartAndNothingElse(t *testing.T) {
	for _, way := range ways {
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			tag := map[string]string{"example.com": "a tag", "example.org": "a tag-alike"}[req.URL.Host]
			return response(200, fmt.Sprint(req.Header.Get("Foo"), n), "Cache-Control: max-age=100", "Vary: Foo", "Surrogate-Key: "+tag), nil
		})
		const other = "http://example.org/other"
		for _, v := range []string{"a", "b"} {
			b.get("Foo: " + v)
		}
		b.do("GET", other)
		b.asked(3)
		done := b.purge(way, false)
		if stored := done.Stored; (stored != nil) != (way[0] != "") || stored != nil && !*stored {
			t.Errorf("%v: %+v", way, done)
		}
		for _, v := range []string{"a", "b"} {
			if r := b.do("HEAD", page, "Foo: "+v, "Cache-Control: only-if-cached"); r.err == nil {
				t.Errorf("%v: HEAD was answered by %+v", way, r)
			}
			if r := b.get("Range: bytes=0-0", "Foo: "+v, "Cache-Control: only-if-cached"); r.err == nil {
				t.Errorf("%v: a range was answered by %+v", way, r)
			}
			if r := b.get("Foo: " + v); r.outcome.Result != Miss {
				t.Errorf("%v, variant %s: %+v", way, v, r)
			}
			if r := b.get("Foo: " + v); r.outcome.Result != Hit {
				t.Errorf("%v, variant %s stored again: %+v", way, v, r)
			}
		}
		if r := b.do("GET", other); r.outcome.Result != Hit {
			t.Errorf("%v took another URL along: %+v", way, r)
		}
	}
}

func TestAFetchThatBeganBeforeAPurgeIsNotUsedAfterIt(t *testing.T) { // hostile case: purge while a fetch is in flight
	for _, way := range ways {
		for _, soft := range []bool{false, true} {
			for _, when := range []string{"before the head", "after the head"} {
				t.Run(fmt.Sprint(way, soft, when), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						head, rest := make(chan struct{}), make(chan struct{})
						b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
							if n > 1 {
								return response(200, "new", "Cache-Control: max-age=100", "Cache-Tag: tag"), nil
							}
							<-head
							return chunked(&gated{gate: rest, data: "old"}, "Cache-Control: max-age=100", "Cache-Tag: a, tag"), nil
						})
						if when == "after the head" {
							close(head)
						}
						var readers [2]reply
						var wg sync.WaitGroup
						for i := range readers {
							wg.Go(func() { readers[i] = b.get() })
							synctest.Wait()
						}
						b.purge(way, soft)
						// Who comes now joins nothing that began before.
						if r := b.get(); r.body != "new" {
							t.Fatalf("a request after the purge got %+v", r)
						}
						if when == "before the head" {
							close(head)
						}
						close(rest)
						wg.Wait()
						for _, r := range readers {
							if r.body != "old" || r.bodyErr != nil {
								t.Fatalf("who was waiting got %q, %v", r.body, r.bodyErr)
							}
						}
						if r := b.get(); r.body != "new" || r.outcome.Result != Hit {
							t.Fatalf("after all of it: %+v", r)
						}
					})
				})
			}
		}
	}
}

func TestAFetchThatEndsAfterAPurgeIsNotStored(t *testing.T) { // the same, and nobody asked meanwhile
	for _, way := range ways {
		synctest.Test(t, func(t *testing.T) {
			rest := make(chan struct{})
			b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
				if n > 1 {
					return response(200, "new", "Cache-Control: max-age=100"), nil
				}
				return chunked(&gated{gate: rest, data: "old"}, "Cache-Control: max-age=100", "Cache-Tag: tag"), nil
			})
			done := make(chan reply)
			go func() { done <- b.get() }()
			synctest.Wait()
			b.purge(way, false)
			close(rest)
			<-done
			if n := b.store.Stats().Entries; n > 0 {
				t.Errorf("%v: %d entries were stored", way, n)
			}
			b.want(b.get(), 200, "new", Miss, "fwdproxy; fwd=uri-miss; stored")
		})
	}
}

func TestABodyThatIsBeingReadFromTheStoreIsReadToItsEnd(t *testing.T) {
	for _, way := range ways {
		body := strings.Repeat("0123456789abcdef", 20<<10)
		b := newBench(t, always(200, body, "Cache-Control: max-age=100", "Cache-Tag: tag"))
		b.get()
		req := request(hop.With(t.Context(), &hop.Hop{Permit: permitAll}), "GET", page)
		res, err := b.tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b.purge(way, false)
		got, err := io.ReadAll(res.Body)
		if err != nil || string(got) != body {
			t.Errorf("%v: %d of %d bytes, %v", way, len(got), len(body), err)
		}
		res.Body.Close()
	}
}

func TestASoftPurgeMakesAResponseStaleUntilItIsValidated(t *testing.T) {
	for _, way := range ways {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
				if req.Header.Get("If-None-Match") != "" {
					return response(304, "", `ETag: "a"`), nil
				}
				return response(200, "x", "Cache-Control: max-age=1000", `ETag: "a"`, "Cache-Tag: tag"), nil
			})
			b.get()
			time.Sleep(10 * time.Second)
			done := b.purge(way, true)
			if !done.Soft {
				t.Errorf("%+v", done)
			}
			if r := b.get("Cache-Control: only-if-cached, max-stale"); r.err == nil {
				t.Fatalf("max-stale was given %+v", r)
			}
			time.Sleep(5 * time.Second)
			b.want(b.get(), 200, "x", RefreshUnchanged, "fwdproxy; fwd=stale; fwd-status=304; ttl=1000")
			b.want(b.get(), 200, "x", Hit, "fwdproxy; hit; ttl=1000")
			b.asked(2)
		})
	}
}

func TestASoftlyPurgedResponseIsServedWithinItsStaleWindowsCountedFromThePurge(t *testing.T) { // RFC 5861
	synctest.Test(t, func(t *testing.T) {
		down := false
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			if down {
				return nil, fault.New(fault.ConnectionRefused, "down", nil)
			}
			return response(200, decimal(int64(n)), "Cache-Control: max-age=1000, stale-while-revalidate=20, stale-if-error=60"), nil
		})
		b.get()
		time.Sleep(500 * time.Second)
		b.purge(ways[0], true)
		time.Sleep(19 * time.Second)
		b.want(b.get(), 200, "1", Hit, "fwdproxy; hit; ttl=-19")
		synctest.Wait()
		b.want(b.get(), 200, "2", Hit, "fwdproxy; hit; ttl=1000")
		b.purge(ways[1], true)
		time.Sleep(20 * time.Second)
		down = true
		if r := b.get(); r.body != "2" || r.outcome.Result != RefreshFailOld {
			t.Fatalf("within stale-if-error: %+v", r)
		}
		time.Sleep(40 * time.Second)
		if r := b.get(); r.err == nil {
			t.Fatalf("after it: %+v", r)
		}
	})
}

func TestAHardPurgeIsNotUndoneByAnErrorOrAValidationOnItsWay(t *testing.T) {
	for _, answer := range []string{"error", "503", "304"} {
		synctest.Test(t, func(t *testing.T) {
			gate := make(chan struct{})
			b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
				if n == 1 {
					return response(200, "old", "Cache-Control: max-age=1, stale-if-error=100", `ETag: "a"`, "Cache-Tag: tag"), nil
				}
				if n == 2 {
					<-gate
				}
				switch {
				case answer == "error":
					return nil, fault.New(fault.ConnectionRefused, "down", nil)
				case answer == "503":
					return response(503, "sorry"), nil
				case n == 2:
					return response(304, "", `ETag: "a"`, "Cache-Control: max-age=100"), nil
				}
				return response(200, "new", "Cache-Control: max-age=100"), nil
			})
			b.get()
			time.Sleep(2 * time.Second)
			done := make(chan reply)
			go func() { done <- b.get() }()
			synctest.Wait()
			b.purge(ways[3], false)
			close(gate)
			if r := <-done; answer != "304" && r.body == "old" {
				t.Errorf("%s: what is purged stood in: %+v", answer, r)
			}
			if r := b.get(); r.body == "old" || answer == "304" && r.body != "new" {
				t.Errorf("%s: the next got %+v", answer, r)
			}
		})
	}
}

func TestAClockThatStepsBackMakesNothingPurgedUsable(t *testing.T) {
	b := newBench(t, func(n int, _ *http.Request) (*http.Response, error) {
		return response(200, decimal(int64(n)), "Cache-Control: max-age=1000000", "Cache-Tag: tag"), nil
	})
	for _, soft := range []bool{false, true} {
		before := b.get().body
		p, _ := ParsePurge("", "", "tag", soft)
		if _, err := b.tr.Purge(p, time.Now().Add(24*time.Hour)); err != nil { // since when the clock has stepped back
			t.Fatal(err)
		}
		if r := b.get(); r.body == before {
			t.Errorf("soft %v: %+v", soft, r)
		}
	}
}

func TestPurgesSurviveARestartWithTheStore(t *testing.T) {
	for _, way := range ways {
		for _, soft := range []bool{false, true} {
			b := newBench(t, func(n int, _ *http.Request) (*http.Response, error) {
				return response(200, decimal(int64(n)), "Cache-Control: max-age=100", "Cache-Tag: tag"), nil
			})
			path := filepath.Join(t.TempDir(), "purges")
			restart := func() {
				t.Helper()
				c, damage, err := Open(undeleting{b.store}, store.NewJournal(path))
				if err != nil || damage != nil {
					t.Fatal(err, damage)
				}
				b.c, b.tr = c, c.Transport(b.tr.cfg, "fwdproxy", b.o)
			}
			restart()
			b.get()
			restart()
			if r := b.get(); r.outcome.Result != Hit {
				t.Fatalf("before any purge: %+v", r)
			}
			b.purge(way, soft)
			restart()
			if r := b.get(); r.body != "2" {
				t.Errorf("%v, soft %v: after the restart %+v", way, soft, r)
			}
			restart()
			if r := b.get(); r.body != "2" || r.outcome.Result != Hit {
				t.Errorf("%v, soft %v: what came after the purge: %+v", way, soft, r)
			}
		}
	}
}

// undeleting is a store that was killed before it deleted.
type undeleting struct{ store.Store }

func (undeleting) Delete(store.Key) {}

func TestAPurgeThatCannotBeWrittenDownHoldsAndSaysSo(t *testing.T) {
	b := newBench(t, always(200, "x", "Cache-Control: max-age=100", "Cache-Tag: tag"))
	dir := filepath.Join(t.TempDir(), "gone")
	if _, _, err := Open(b.store, store.NewJournal(filepath.Join(dir, "purges"))); err == nil {
		t.Fatal("a journal in a directory that is not there was opened")
	}
	b.c.purges.journal = store.NewJournal(filepath.Join(dir, "purges"))
	b.get()
	p, _ := ParsePurge("", "", "tag", false)
	if _, err := b.tr.Purge(p, time.Now()); !errors.Is(err, ErrPurgeNotKept) {
		t.Errorf("got %v", err)
	}
	if r := b.get(); r.outcome.Result != Miss {
		t.Errorf("got %+v", r)
	}
}

func TestWhatAPurgeIsAskedFor(t *testing.T) {
	long := strings.Repeat("x", maxTag+1)
	for _, tc := range []struct {
		url, prefix, tag string
		want             string // kind and what, or a part of the error
		wrong            bool
	}{
		{url: "http://EXAMPLE.com:80/a%2Fb?x#y", want: "url http://example.com/a%2Fb?x"},
		{url: "https://bücher.example.", want: "url https://xn--bcher-kva.example/"},
		{url: "HTTP://[::FFFF:1.2.3.4]/", want: "url http://1.2.3.4/"},
		{url: "http://a/x?", want: "url http://a/x?"},
		{url: "example.com/x", want: "as in http://example.com/x", wrong: true},
		{url: "//example.com/x", want: "as in http://example.com/x", wrong: true},
		{url: "http://a/*", want: "--prefix http://a/", wrong: true},
		{url: "ftp://a/", want: "http and https are", wrong: true},
		{url: "http://u:p@a/", want: "user name", wrong: true},
		{url: "http://", want: "host", wrong: true},
		{url: "http://a/%zz", want: "escape", wrong: true},
		{url: "http://a/", tag: "b", want: "one of", wrong: true},
		{want: "one of", wrong: true},
		{prefix: "http://A:80/img", want: "prefix http://a/img"},
		{prefix: "http://a", want: "prefix http://a/"},
		{prefix: "https://a:8443/x?y=", want: "prefix https://a:8443/x?y="},
		{prefix: "Example.COM.", want: "host example.com"},
		{prefix: "[2001:DB8::1]", want: "host [2001:db8::1]"},
		{prefix: "2001:db8::1", want: "host [2001:db8::1]"},
		{prefix: "1.2.3.4", want: "host 1.2.3.4"},
		{prefix: "a/img", want: "as in http://a/img", wrong: true},
		{prefix: "a:8080", want: "as in http://a:8080/", wrong: true},
		{prefix: "*.example.com", want: "no wildcards", wrong: true},
		{prefix: "http://a/*/b", want: "no wildcards", wrong: true},
		{prefix: "a b", want: "host", wrong: true},
		{tag: "p 17,x", want: "tag p 17,x"},
		{tag: "*", want: "tag *"},
		{tag: " a", want: "no space", wrong: true},
		{tag: "a\nb", want: "control", wrong: true},
		{tag: long, want: "1025", wrong: true},
	} {
		p, err := ParsePurge(tc.url, tc.prefix, tc.tag, true)
		got := p.Kind.String() + " " + p.What
		if err != nil {
			got = err.Error()
		}
		if (err != nil) != tc.wrong || !tc.wrong && (got != tc.want || !p.Soft) || !strings.Contains(got, tc.want) {
			t.Errorf("%q %q %q: got %q, want %q", tc.url, tc.prefix, tc.tag, got, tc.want)
		}
	}
}

func TestExplainSaysWhichPurgeItWas(t *testing.T) {
	for i, want := range []string{"", "gone by a purge of the prefix http://example.com/pa", "gone by a purge of the host example.com", `gone by a purge of the tag "tag"`} {
		b := newBench(t, always(200, "x", "Cache-Control: max-age=100", "Cache-Tag: tag"))
		b.get()
		b.purge(ways[i], false)
		explain := func() Explanation {
			return b.tr.Explain(request(hop.With(context.Background(), &hop.Hop{Permit: permitAll}), "GET", page), time.Now())
		}
		if ex := explain(); ex.Purged != want || ex.Decision != "fetch" || ex.Stored != nil {
			t.Errorf("%+v", ex)
		}
		if got := b.c.PurgeCounts(); got.Refused[PurgeKind(i).String()] != 0 || got.Made[PurgeKind(i).String()] != 1 {
			t.Errorf("explaining was counted: %+v", got)
		}
		b.get()
		if got := b.c.PurgeCounts().Refused[PurgeKind(i).String()]; got != 1 && i > 0 {
			t.Errorf("%s: %d look-ups were refused", PurgeKind(i), got)
		}
		b.purge(ways[i], true)
		if ex := explain(); !strings.HasPrefix(ex.Purged, "stale by a purge of the ") || ex.Stored == nil || ex.Stored.TTL > 0 {
			t.Errorf("%+v", ex)
		}
	}
}

func TestUnderLoadNothingIsServedThatBeganBeforeAPurge(t *testing.T) {
	var version struct {
		sync.RWMutex
		n int
	}
	b := newBench(t, func(_ int, req *http.Request) (*http.Response, error) {
		version.RLock()
		defer version.RUnlock()
		return response(200, decimal(int64(version.n)), "Cache-Control: max-age=1000", "Surrogate-Key: tag", `Cache-Groups: "g"`), nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				version.RLock()
				least := version.n - 1 // whose purge may be under way
				version.RUnlock()
				r := b.get("X-Reader: " + decimal(int64(i)))
				var got int
				if _, err := fmt.Sscan(r.body, &got); err != nil || got < least {
					t.Errorf("got %q, %v after version %d was purged", r.body, err, least)
					return
				}
			}
		})
	}
	for i := range 400 {
		version.Lock()
		version.n++
		version.Unlock()
		b.purge(ways[i%len(ways)], i%3 == 0)
	}
	cancel()
	wg.Wait()
}

func FuzzParsePurge(f *testing.F) {
	f.Add("http://a/b?c", "")
	f.Add("", "http://a/b")
	f.Add("", "[::1]")
	f.Fuzz(func(t *testing.T, rawURL, prefix string) {
		p, err := ParsePurge(rawURL, prefix, "", false)
		if err != nil {
			return
		}
		again, prefixAgain := p.What, ""
		if p.Kind != ByURL {
			again, prefixAgain = "", p.What
		}
		q, err := ParsePurge(again, prefixAgain, "", false)
		if err != nil || q.What != p.What || q.Kind != p.Kind {
			t.Fatalf("%s %q became %+v, %v", p.Kind, p.What, q, err)
		}
		if p.Kind != ByURL {
			return
		}
		u, err := url.Parse(p.What)
		if err != nil || KeyOf(u).String() != p.What || hostOf(p.What) == "" {
			t.Fatalf("%q: key %v, host %q, %v", p.What, u, hostOf(p.What), err)
		}
	})
}
