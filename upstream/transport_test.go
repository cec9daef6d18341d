package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
	"fwdproxy/internal/target"
)

func TestNoAddressIsUsedWithoutPermission(t *testing.T) {
	o := answering(t, ok("secret"))
	tr := newTransport(t, nil)
	get(t, tr, o) // leaves a connection that could be used
	no := fault.New(fault.DestinationIPProhibited, "no", nil)
	asked := netip.MustParseAddrPort(o.addr)
	for name, h := range map[string]*hop.Hop{
		"no hop":    nil,
		"no permit": {},
		"refused": {Permit: func(a netip.AddrPort) error {
			if a != asked {
				t.Errorf("asked about %s, want %s", a, asked)
			}
			return no
		}},
	} {
		err := fails(t, tr, requestWith(t, h, "GET", "http://"+o.addr+"/", nil))
		if name == "refused" && err != no {
			t.Errorf("%s: %v, want the permit's own error", name, err)
		}
		to, _ := target.FromAuthority(o.addr, "")
		ctx := hop.With(t.Context(), h)
		if h == nil {
			ctx = t.Context()
		}
		if c, _, err := tr.Dial(ctx, to); err == nil {
			c.Close()
			t.Errorf("%s: a tunnel was opened", name)
		}
	}
	if o.conns.Load() != 1 {
		t.Errorf("%d connections reached the origin, want 1", o.conns.Load())
	}
	if idle, _ := tr.Stats(); idle != 1 {
		t.Error("the connection is not kept for those who may use it")
	}
}

func TestTheNextHopIsRecordedForTheLog(t *testing.T) {
	o := answering(t, ok(""))
	tr := newTransport(t, nil, PoolConfig{Name: "app", Peers: at(o.addr)})
	for pool, want := range map[string]string{"": "DIRECT/127.0.0.1", "app": "app/" + o.addr} {
		h := &hop.Hop{Permit: permitAll, Pool: pool}
		do(t, tr, requestWith(t, h, "GET", "http://"+o.addr+"/", nil))
		if addr, name := h.Answered(); addr.String() != o.addr || name != want {
			t.Errorf("pool %q: %s %s, want %s %s", pool, addr, name, o.addr, want)
		}
	}
	h := &hop.Hop{Permit: permitAll}
	to, _ := target.FromAuthority(o.addr, "")
	c, _, err := tr.Dial(hop.With(t.Context(), h), to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, plain := c.(*net.TCPConn); !plain {
		t.Errorf("a tunnel gets a %T, want a plain *net.TCPConn", c)
	}
	if addr, name := h.Answered(); addr.String() != o.addr || name != "DIRECT/127.0.0.1" {
		t.Errorf("tunnel: %s %s", addr, name)
	}
}

func TestADeadKeptConnectionIsNoticedBeforeUse_RFC9112_9_3(t *testing.T) {
	for name, after := range map[string]string{"closed": "", "unasked answer": ok("evil"), "one byte": "x"} {
		kept := make(chan bool)
		o := serve(t, func(number int, c net.Conn, r *bufio.Reader) {
			readRequestHead(r)
			io.WriteString(c, ok("good"))
			if number == 1 {
				<-kept
				io.WriteString(c, after)
				if after == "" {
					c.Close()
				}
			}
			readRequestHead(r)
		})
		tr := newTransport(t, nil)
		get(t, tr, o)
		if idle, _ := tr.Stats(); idle != 1 {
			t.Fatalf("%s: %d connections are kept", name, idle)
		}
		close(kept)
		disturbed(t, tr)
		// PATCH would not be sent again, so it must not meet the dead connection.
		req := request(t, "PATCH", "http://"+o.addr+"/", nil)
		if _, body := do(t, tr, req); body != "good" || o.conns.Load() != 2 {
			t.Errorf("%s: %q over %d connections", name, body, o.conns.Load())
		}
	}
}

func TestBytesBehindTheAnswerEndTheConnection(t *testing.T) {
	for _, answer := range []string{
		ok("good") + ok("evil"),
		"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx",
	} {
		o := answering(t, answer)
		tr := newTransport(t, nil)
		get(t, tr, o)
		if idle, used := tr.Stats(); idle+used != 0 {
			t.Errorf("%.30q: %d connections are kept", answer, idle)
		}
	}
}

// flaky is an origin that answers once on each connection, and closes it
// unanswered at the second request of the first.
func flaky(t *testing.T) *origin {
	return serve(t, func(number int, c net.Conn, r *bufio.Reader) {
		for i := 1; readRequestHead(r) != ""; i++ {
			if number == 1 && i == 2 {
				return
			}
			io.WriteString(c, ok(fmt.Sprint(number)))
		}
	})
}

func TestOnlyWhatIsSafeToRepeatIsRepeated_RFC9110_9_2_2(t *testing.T) {
	for method, repeated := range map[string]bool{
		"GET": true, "HEAD": true, "OPTIONS": true, "PUT": true, "DELETE": true, "POST": false, "PATCH": false, "FOO": false,
	} {
		o, tr := flaky(t), newTransport(t, nil)
		get(t, tr, o)
		res, err := tr.RoundTrip(request(t, method, "http://"+o.addr+"/", nil))
		if !repeated {
			wantFault(t, err, fault.ConnectionTerminated, 502)
		} else if err != nil {
			t.Errorf("%s: %v", method, err)
		} else {
			res.Body.Close()
		}
		if want := int32(1); o.conns.Load() != want && !repeated {
			t.Errorf("%s: %d connections", method, o.conns.Load())
		}
	}
	o, tr := flaky(t), newTransport(t, nil)
	get(t, tr, o)
	wantFault(t, fails(t, tr, request(t, "PUT", "http://"+o.addr+"/", strings.NewReader("body"))), fault.ConnectionTerminated, 502)
}

func TestWhatWasAnsweredInPartIsNotRepeated(t *testing.T) {
	o := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readRequestHead(r)
		io.WriteString(c, ok("good"))
		readRequestHead(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nX:")
	})
	tr := newTransport(t, nil)
	get(t, tr, o)
	wantFault(t, fails(t, tr, request(t, "GET", "http://"+o.addr+"/", nil)), fault.ConnectionTerminated, 502)
	if o.conns.Load() != 1 {
		t.Errorf("%d connections", o.conns.Load())
	}
}

func TestAFreshConnectionIsTriedOnce(t *testing.T) {
	o := serve(t, func(_ int, c net.Conn, r *bufio.Reader) { readRequestHead(r) })
	wantFault(t, fails(t, newTransport(t, nil), request(t, "GET", "http://"+o.addr+"/", nil)), fault.ConnectionTerminated, 502)
	if o.conns.Load() != 1 {
		t.Errorf("%d connections", o.conns.Load())
	}
}

func TestASlowKeptConnectionIsNotTriedAgain(t *testing.T) {
	o := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readRequestHead(r)
		io.WriteString(c, ok("good"))
		readRequestHead(r)
		readRequestHead(r) // until the proxy leaves
	})
	tr := newTransport(t, func(c *Config) { c.ResponseTimeout = short(100 * time.Millisecond) })
	get(t, tr, o)
	wantFault(t, fails(t, tr, request(t, "GET", "http://"+o.addr+"/", nil)), fault.ResponseTimeout, 504)
	if o.conns.Load() != 1 {
		t.Errorf("%d connections", o.conns.Load())
	}
}

func TestEachPhaseHasItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, func(c *Config) {
			c.ResponseTimeout, c.ReadTimeout = short(7*time.Second), short(3*time.Second)
		})
		c, origin := piped(tr)
		go func() { readRequestHead(bufio.NewReader(origin)) }()
		begun := time.Now()
		_, err := exchange(c, request(t, "GET", "http://a/", nil))
		wantFault(t, err, fault.ResponseTimeout, 504)
		if took := time.Since(begun); took != 7*time.Second {
			t.Errorf("a head that never comes takes %s", took)
		}

		c, origin = piped(tr)
		go func() {
			readRequestHead(bufio.NewReader(origin))
			time.Sleep(6 * time.Second)
			io.WriteString(origin, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
			for range 3 {
				time.Sleep(2 * time.Second)
				io.WriteString(origin, "a")
			}
		}()
		res, err := exchange(c, request(t, "GET", "http://a/", nil))
		if err != nil {
			t.Fatal(err)
		}
		begun = time.Now()
		body, err := io.ReadAll(res.Body)
		wantFault(t, err, fault.ConnectionReadTimeout, 504)
		if took := time.Since(begun); string(body) != "aaa" || took != 9*time.Second {
			t.Errorf("%q after %s", body, took)
		}
		origin.Close()
	})
}

func TestTheCallersEndIsTheCallersError(t *testing.T) {
	boom := errors.New("boom")
	silent := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readRequestHead(r)
		r.ReadByte()
	})
	tr := newTransport(t, nil)
	ctx, cancel := context.WithCancelCause(hop.With(t.Context(), &hop.Hop{Permit: permitAll}))
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+silent.addr+"/", nil)
	time.AfterFunc(30*time.Millisecond, func() { cancel(boom) })
	if err := fails(t, tr, req); err != boom {
		t.Errorf("waiting for the head: %v", err)
	}
	req = request(t, "GET", "http://"+silent.addr+"/", nil)
	if err := fails(t, tr, req.WithContext(canceled(req.Context()))); !errors.Is(err, context.Canceled) {
		t.Errorf("before the dial: %v", err)
	}

	half := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
	ctx, cancel = context.WithCancelCause(hop.With(t.Context(), &hop.Hop{Permit: permitAll}))
	req, _ = http.NewRequestWithContext(ctx, "GET", "http://"+half.addr+"/", nil)
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(30*time.Millisecond, func() { cancel(boom) })
	if body, err := io.ReadAll(res.Body); err != boom || string(body) != "half" {
		t.Errorf("in the body: %q, %v", body, err)
	}
	if idle, used := tr.Stats(); idle+used != 0 {
		t.Errorf("%d idle, %d used connections are left", idle, used)
	}
}

func TestAnEndOfTheCallerAfterTheAnswerHarmsNobody(t *testing.T) {
	o, tr := answering(t, ok("good")), newTransport(t, nil)
	for range 50 {
		ctx, cancel := context.WithCancel(hop.With(t.Context(), &hop.Hop{Permit: permitAll}))
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+o.addr+"/", nil)
		res, _ := do(t, tr, req)
		cancel()
		res.Body.Close()
	}
	if o.conns.Load() != 1 {
		t.Errorf("%d connections", o.conns.Load())
	}
}

func TestCloseEndsConnectionsAsTheyAreGivenBack(t *testing.T) {
	gate := make(chan struct{})
	o := serve(t, func(number int, c net.Conn, r *bufio.Reader) {
		for readRequestHead(r) != "" {
			if number == 2 {
				<-gate
			}
			io.WriteString(c, ok("good"))
		}
	})
	tr := newTransport(t, nil)
	first, err := tr.RoundTrip(request(t, "GET", "http://"+o.addr+"/", nil))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan string)
	go func() {
		_, body := do(t, tr, request(t, "GET", "http://"+o.addr+"/", nil))
		done <- body
	}()
	eventually(t, "both are under way", func() bool { return o.conns.Load() == 2 })
	io.ReadAll(first.Body)
	if idle, used := tr.Stats(); idle != 1 || used != 1 {
		t.Errorf("%d idle, %d used", idle, used)
	}
	tr.Close()
	close(gate)
	if body := <-done; body != "good" {
		t.Errorf("the request in flight got %q", body)
	}
	if idle, used := tr.Stats(); idle+used != 0 {
		t.Errorf("%d idle, %d used after Close", idle, used)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	var fail atomic.Bool
	o := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for readRequestHead(r) != "" {
			if fail.Load() {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
				return
			}
			io.WriteString(c, ok("good"))
		}
	})
	tr := newTransport(t, nil)
	baseline := runtime.NumGoroutine()
	for _, broken := range []bool{false, true} {
		fail.Store(broken)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for range 20 {
					req := request(t, "POST", "http://"+o.addr+"/", nil)
					res, err := tr.RoundTrip(req)
					if err != nil {
						continue
					}
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			})
		}
		wg.Wait()
	}
	tr.Close()
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= baseline })
	if idle, used := tr.Stats(); idle+used != 0 {
		t.Errorf("%d idle, %d used", idle, used)
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	body := strings.Repeat("a", 1024)
	o := answering(b, "HTTP/1.1 200 OK\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Type: text/plain\r\nCache-Control: max-age=60\r\nEtag: \"a\"\r\n"+
		fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body))+body)
	tr := newTransport(b, nil)
	req := request(b, "GET", "http://"+o.addr+"/path?query", nil)
	req.Header = http.Header{"Accept": {"*/*"}, "User-Agent": {"x"}, "Via": {"1.1 fwdproxy"}}
	b.ReportAllocs()
	for b.Loop() {
		res, err := tr.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
}
