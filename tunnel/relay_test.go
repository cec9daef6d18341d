package tunnel

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestBytesPassBothWaysAndAreCounted_RFC9110_9_3_6(t *testing.T) {
	tn := open(t, t.Context(), time.Minute)
	for range 3 {
		send(t, tn.client, "question")
		expect(t, tn.server, "question")
		send(t, tn.server, "reply")
		expect(t, tn.client, "reply")
	}
	tn.client.CloseWrite()
	expectEnd(t, tn.server)
	tn.server.CloseWrite()
	expectEnd(t, tn.client)
	if r := tn.result(t); r != (Result{Up: 24, Down: 15}) {
		t.Errorf("%+v", r)
	}
}

func TestWhatWasReadEarlyGoesFirstAndCounts(t *testing.T) {
	tn := open(t, t.Context(), time.Minute, "client hello ", "220 ready ")
	send(t, tn.client, "more")
	send(t, tn.server, "go on")
	expect(t, tn.server, "client hello more")
	expect(t, tn.client, "220 ready go on")
	tn.client.CloseWrite()
	tn.server.CloseWrite()
	if r := tn.result(t); r != (Result{Up: 17, Down: 15}) {
		t.Errorf("%+v", r)
	}
}

func TestAHalfCloseLeavesTheOtherDirectionOpen_RFC9293_3_6(t *testing.T) {
	for name, first := range map[string]string{"client": "client", "server": "server"} {
		t.Run(name+" first", func(t *testing.T) {
			tn := open(t, t.Context(), time.Minute)
			a, b := tn.client, tn.server
			if first == "server" {
				a, b = b, a
			}
			send(t, a, "last words")
			a.CloseWrite()
			expect(t, b, "last words")
			expectEnd(t, b)
			for range 3 {
				send(t, b, "still here")
				expect(t, a, "still here")
			}
			select {
			case r := <-tn.done:
				t.Fatalf("it ended with one half-close: %+v", r)
			default:
			}
			b.CloseWrite()
			expectEnd(t, a)
			if r := tn.result(t); r.Err != nil || r.Up+r.Down != 40 {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestAResetOfOneSideEndsBoth(t *testing.T) {
	for _, name := range []string{"client", "server"} {
		t.Run(name, func(t *testing.T) {
			tn := open(t, t.Context(), time.Minute)
			a, b := tn.client, tn.server
			if name == "server" {
				a, b = b, a
			}
			send(t, a, "x")
			expect(t, b, "x")
			_ = a.SetLinger(0)
			a.Close()
			expectEnd(t, b)
			if r := tn.result(t); !errors.Is(r.Err, syscall.ECONNRESET) {
				t.Errorf("%+v, want a reset", r)
			}
		})
	}
}

func TestWhatASideSentBeforeItsResetIsDelivered_RFC9110_9_3_6(t *testing.T) {
	for range 100 {
		tn := open(t, t.Context(), time.Minute)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { // the proxy finds the server gone by writing to it, or by reading
			for {
				if _, err := tn.client.Write([]byte("upload")); err != nil {
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
		expect(t, tn.server, "upload")
		send(t, tn.server, "413 too large")
		tn.server.Close() // with bytes unread: a reset
		expect(t, tn.client, "413 too large")
		close(stop)
		wg.Wait()
		tn.client.Close()
		tn.result(t)
	}
}

func TestTheContextEndsATunnel(t *testing.T) {
	drained := errors.New("drained")
	for _, early := range []bool{false, true} {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		if early {
			cancel(drained)
		}
		tn := open(t, ctx, time.Minute)
		if !early {
			send(t, tn.client, "abc")
			expect(t, tn.server, "abc")
			cancel(drained)
		}
		if r := tn.result(t); r.Err != drained || r.Up != 3 && !early {
			t.Errorf("early %v: %+v", early, r)
		}
		for _, c := range []net.Conn{tn.client, tn.server} {
			if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("early %v: a side is still open: %d, %v", early, n, err)
			}
		}
	}
}

func TestAnEndOfTheContextAfterTheTunnelIsNotItsError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	tn := open(t, ctx, time.Minute)
	tn.client.CloseWrite()
	tn.server.CloseWrite()
	r := tn.result(t)
	cancel()
	if r.Err != nil {
		t.Error(r.Err)
	}
}

func TestALargeTransferBothWaysIsByteExact(t *testing.T) {
	const size = 48 << 20
	tn := open(t, t.Context(), time.Minute)
	sums := make([][32]byte, 2)
	var wg sync.WaitGroup
	for i, c := range []*net.TCPConn{tn.client, tn.server} {
		wg.Go(func() {
			src, sum := rand.NewChaCha8([32]byte{byte(i)}), sha256.New()
			if _, err := io.Copy(io.MultiWriter(c, sum), io.LimitReader(src, size)); err != nil {
				t.Error(err)
			}
			c.CloseWrite()
			sums[i] = [32]byte(sum.Sum(nil))
		})
	}
	got := make([][32]byte, 2)
	for i, c := range []*net.TCPConn{tn.server, tn.client} {
		wg.Go(func() {
			sum := sha256.New()
			if n, err := io.Copy(sum, c); n != size || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			got[i] = [32]byte(sum.Sum(nil))
		})
	}
	wg.Wait()
	if got[0] != sums[0] || got[1] != sums[1] {
		t.Error("other bytes came out than went in")
	}
	if r := tn.result(t); r != (Result{Up: size, Down: size}) {
		t.Errorf("%+v", r)
	}
}

// hidden hides the methods of a TCP connection beyond net.Conn, as a wrapper
// does.
type hidden struct{ net.Conn }

func TestAConnectionThatCannotCloseByHalfIsClosed(t *testing.T) {
	client, clientSide := tcpPair(t)
	server, serverSide := tcpPair(t)
	done := make(chan Result, 1)
	go func() {
		done <- Relay(t.Context(), Side{Conn: hidden{clientSide}}, Side{Conn: hidden{serverSide}}, time.Minute, nil)
	}()
	send(t, client, "request")
	expect(t, server, "request")
	send(t, server, "answer")
	server.Close()
	expect(t, client, "answer")
	expectEnd(t, client)
	client.Close()
	if r := <-done; r.Up != 7 || r.Down != 6 {
		t.Errorf("%+v", r)
	}
}

func TestFiveHundredTunnelsLeaveNoGoroutineAndNoFile(t *testing.T) {
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for i := range 500 {
		ctx, cancel := context.WithCancel(t.Context())
		client, clientSide := tcpPair(t)
		server, serverSide := tcpPair(t)
		done := make(chan Result, 1)
		go func() { done <- Relay(ctx, Side{Conn: clientSide}, Side{Conn: serverSide}, time.Minute, nil) }()
		send(t, client, "x")
		expect(t, server, "x")
		switch i % 5 {
		case 0: // both ends in order
			client.CloseWrite()
			server.CloseWrite()
		case 1:
			client.Close()
		case 2:
			server.Close()
		case 3:
			_ = server.SetLinger(0)
			server.Close()
		case 4:
			cancel()
		}
		// A peer that closed its half may wait for the other; whoever is left ends too.
		if i%5 == 1 {
			expectEnd(t, server)
			server.Close()
		}
		if i%5 == 2 {
			expectEnd(t, client)
			client.Close()
		}
		<-done
		cancel()
		client.Close()
		server.Close()
	}
	eventually(t, "goroutines are at the baseline", func() bool { return runtime.NumGoroutine() <= goroutines })
	// What splice(2) keeps for later is not a leak: its pipes go with the next two collections.
	eventually(t, "files are at the baseline", func() bool { runtime.GC(); return openFiles(t) <= files })
}

func BenchmarkRelay(b *testing.B) {
	for name, size := range map[string]int{"1KiB": 1 << 10, "1MiB": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			tn := open(b, b.Context(), time.Minute)
			chunk, buf := make([]byte, size), make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				go tn.client.Write(chunk)
				if _, err := io.ReadFull(tn.server, buf); err != nil {
					b.Fatal(err)
				}
			}
			tn.client.Close()
			tn.server.Close()
		})
	}
}

// BenchmarkStream is one direction at full speed.
func BenchmarkStream(b *testing.B) {
	tn := open(b, b.Context(), time.Minute)
	chunk := make([]byte, 256<<10)
	go func() {
		for {
			if _, err := tn.client.Write(chunk); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 256<<10)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		if _, err := io.ReadFull(tn.server, buf); err != nil {
			b.Fatal(err)
		}
	}
	tn.client.Close()
	tn.server.Close()
}
