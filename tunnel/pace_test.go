package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// paced relays n bytes down through a tunnel with the pace, and returns how
// many came and the result.
func paced(t *testing.T, n int, idle time.Duration, pace func(context.Context, int) error) (int64, Result) {
	client, clientSide := net.Pipe()
	server, serverSide := net.Pipe()
	done := make(chan Result, 1)
	go func() { done <- Relay(t.Context(), Side{Conn: clientSide}, Side{Conn: serverSide}, idle, pace) }()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = server.Write(make([]byte, n)) // which a cut tunnel ends early
		server.Close()
	})
	got, _ := io.Copy(io.Discard, client)
	client.Close()
	wg.Wait()
	return got, <-done
}

func TestAPaceIsKeptAndIsNoSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		// Each piece waits for longer than the tunnel may be silent.
		got, res := paced(t, 10*PacedPiece, 20*time.Second, func(_ context.Context, n int) error {
			time.Sleep(time.Duration(n) * time.Minute / PacedPiece)
			return nil
		})
		if got != 10*PacedPiece || res.Down != got || errors.Is(res.Err, ErrIdle) {
			t.Errorf("%d bytes, %+v", got, res)
		}
		if took := time.Since(begun); took < 9*time.Minute || took > 11*time.Minute {
			t.Errorf("took %v", took)
		}
	})
}

func TestAPaceThatEndsCutsTheTunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spent, total := errors.New("spent"), 0
		got, res := paced(t, 100*PacedPiece, time.Minute, func(_ context.Context, n int) error {
			if total += n; total >= 5*PacedPiece {
				return spent
			}
			return nil
		})
		if got != 5*PacedPiece || !errors.Is(res.Err, spent) {
			t.Errorf("%d bytes, %+v", got, res)
		}
	})
}
