package tunnel

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

func TestATunnelWithoutBytesEndsBetweenIdleAndTwiceIdle(t *testing.T) {
	const idle = 10 * time.Minute
	for _, last := range []time.Duration{0, time.Second, 3 * time.Minute, idle - time.Second, idle, 25 * time.Minute} {
		inBubble(t, idle, func(t *testing.T, client, server net.Conn, done <-chan Result) {
			var silent time.Time
			for elapsed := time.Duration(0); ; elapsed += time.Minute {
				send(t, client, "x") // keeps it open up to the last byte
				expect(t, server, "x")
				silent = time.Now()
				if elapsed >= last {
					break
				}
				time.Sleep(min(time.Minute, last-elapsed))
			}
			r := <-done
			if took := time.Since(silent); took < idle || took > 2*idle || !errors.Is(r.Err, ErrIdle) {
				t.Errorf("last byte at %s: %v after %s", last, r.Err, took)
			}
		})
	}
}

func TestATunnelStaysOpenWhileBytesPassInOneDirection(t *testing.T) {
	const idle = 10 * time.Minute
	for _, down := range []bool{false, true} {
		inBubble(t, idle, func(t *testing.T, client, server net.Conn, done <-chan Result) {
			from, to := client, server
			if down {
				from, to = server, client
			}
			for range 50 {
				time.Sleep(idle - time.Second)
				select {
				case r := <-done:
					t.Fatalf("down %v: it ended: %v", down, r.Err)
				default:
				}
				send(t, from, "x")
				expect(t, to, "x")
			}
		})
	}
}

func TestAnAnswerThatTakesItsTimeRestartsTheIdleTime(t *testing.T) {
	const idle = 10 * time.Minute
	// A request at any moment, its answer nearly idle later, and nothing else: the
	// next bytes have idle from the answer on.
	for asked := range 20 {
		inBubble(t, idle, func(t *testing.T, client, server net.Conn, done <-chan Result) {
			time.Sleep(time.Duration(asked)*idle/20 - time.Millisecond)
			for range 5 {
				send(t, client, "ask")
				expect(t, server, "ask")
				time.Sleep(idle - 2*time.Second)
				send(t, server, "answer")
				expect(t, client, "answer")
				time.Sleep(idle - 2*time.Second)
				select {
				case r := <-done:
					t.Fatalf("asked at %d/20: %v, %s after a byte", asked, r.Err, idle-2*time.Second)
				default:
				}
			}
		})
	}
}

func TestAReceiverThatStallsEndsTheTunnelAndSeesNoGap(t *testing.T) {
	const idle = 50 * time.Millisecond
	tn := open(t, t.Context(), idle)
	go func() { // more than all buffers between hold, every word of it different
		b := make([]byte, 0, 1<<16)
		for word := uint64(0); ; {
			b = b[:0]
			for len(b) < cap(b) {
				b = append(b, byte(word>>24), byte(word>>16), byte(word>>8), byte(word))
				word++
			}
			if _, err := tn.client.Write(b); err != nil {
				return
			}
		}
	}()
	r := tn.result(t) // the receiver takes nothing until then
	got, _ := io.ReadAll(tn.server)
	for i := 0; i+4 <= len(got); i += 4 {
		if word := uint32(got[i])<<24 | uint32(got[i+1])<<16 | uint32(got[i+2])<<8 | uint32(got[i+3]); word != uint32(i/4) {
			t.Fatalf("at byte %d of %d stands word %d, want %d: bytes between were lost", i, len(got), word, i/4)
		}
	}
	if !errors.Is(r.Err, ErrIdle) {
		t.Errorf("it ended with %v after %d bytes", r.Err, r.Up)
	}
}
