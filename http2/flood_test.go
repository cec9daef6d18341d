package http2

import (
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
)

// flooded sends frames until the server ends the connection, most of them at
// most, and returns how many it took.
func (r *raw) flooded(most int, send func(i int) error) int {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, r.Conn) // what comes would fill the pipe else
	}()
	for i := range most {
		select {
		case <-ended:
			return i
		default:
		}
		if send(i) != nil {
			return i
		}
	}
	_ = r.SetReadDeadline(time.Now().Add(5 * time.Second))
	<-ended
	return most
}

// TestFloodsAreBounded sends what costs a client nothing (RFC 9113, Section
// 10.5): each ends its own connection before long, the handlers that it started
// are few, others are served meanwhile, and nothing is left of it.
func TestFloodsAreBounded(t *testing.T) {
	const many = 100_000
	long := []byte("x")
	for _, row := range []struct {
		name     string
		most     int // frames that the server may have taken
		handlers int64
		begin    func(*raw)
		send     func(r *raw, i int) error
	}{
		{"rapid reset, CVE-2023-44487", many / 2, 800, nil, func(r *raw, i int) error {
			id := uint32(2*i + 1)
			if err := r.WriteHeaders(h2.HeadersFrameParam{StreamID: id, BlockFragment: r.head(plain...), EndHeaders: true, EndStream: true}); err != nil {
				return err
			}
			return r.WriteRSTStream(id, h2.ErrCodeCancel)
		}},
		{"streams that the server has to reset by a window of zero, CVE-2025-8671", many / 2, 800, nil, func(r *raw, i int) error {
			id := uint32(2*i + 1)
			if err := r.WriteHeaders(h2.HeadersFrameParam{StreamID: id, BlockFragment: r.head(plain...), EndHeaders: true, EndStream: true}); err != nil {
				return err
			}
			return r.WriteWindowUpdate(id, 0)
		}},
		{"streams that the server has to reset by DATA behind their end, CVE-2025-8671", many / 2, 800, nil, func(r *raw, i int) error {
			id := uint32(2*i + 1)
			if err := r.WriteHeaders(h2.HeadersFrameParam{StreamID: id, BlockFragment: r.head(plain...), EndHeaders: true, EndStream: true}); err != nil {
				return err
			}
			return r.WriteData(id, false, long)
		}},
		{"CONTINUATION without end, CVE-2023-45288", many / 2, 0, func(r *raw) {
			r.must(r.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: r.head(plain...), EndStream: true}))
		}, func(r *raw, i int) error { return r.WriteContinuation(1, false, r.head("x", "y")) }},
		{"empty CONTINUATION without end", many / 2, 0, func(r *raw) {
			r.must(r.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: r.head(plain...), EndStream: true}))
		}, func(r *raw, i int) error { return r.WriteContinuation(1, false, nil) }},
		{"PING, CVE-2019-9512", many / 2, 0, nil, func(r *raw, i int) error { return r.WritePing(false, [8]byte{}) }},
		{"SETTINGS, CVE-2019-9515", many / 2, 0, nil, func(r *raw, i int) error { return r.WriteSettings() }},
		{"PRIORITY, CVE-2019-9513", many / 2, 0, nil, func(r *raw, i int) error { return r.WritePriority(1, h2.PriorityParam{}) }},
		{"WINDOW_UPDATE", many / 2, 0, nil, func(r *raw, i int) error { return r.WriteWindowUpdate(0, 1) }},
		{"frames that nobody knows", many / 2, 0, nil, func(r *raw, i int) error { return r.WriteRawFrame(0x42, 0, 0, nil) }},
		{"empty DATA, CVE-2019-9518", many / 2, 1, func(r *raw) {
			r.ask(1, false, ":method", "POST", ":scheme", "http", ":authority", "a.example", ":path", "/")
		}, func(r *raw, i int) error { return r.WriteData(1, false, nil) }},
	} {
		var begun atomic.Int64
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			begun.Add(1)
			io.Copy(io.Discard, r.Body)
			if r.Host != "other.example" {
				<-r.Context().Done() // an origin that takes its time
			}
		}, nil)
		other := dialRaw(t, s)
		others := func(id uint32) {
			other.ask(id, true, ":method", "GET", ":scheme", "http", ":authority", "other.example", ":path", "/")
			if got := other.answer(id); !strings.HasPrefix(got, "200") {
				t.Errorf("%s: another client gets %s", row.name, got)
			}
		}
		others(1)
		begun.Store(0)
		before := runtime.NumGoroutine()
		r := dialRaw(t, s)
		if row.begin != nil {
			row.begin(r)
		}
		if n := r.flooded(many, func(i int) error { return row.send(r, i) }); n > row.most {
			t.Errorf("%s: the connection lives after %d frames", row.name, n)
		}
		if n := begun.Load(); n > row.handlers {
			t.Errorf("%s: %d requests were begun", row.name, n)
		}
		others(3)
		r.Close()
		baseline(t, row.name, before)
	}
}

// baseline waits until no more goroutines run than before.
func baseline(t *testing.T, name string, before int) {
	t.Helper()
	for end := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("%s: %d goroutines, %d before", name, runtime.NumGoroutine(), before)
			return
		}
	}
}

// TestAnHPACKBombIsNotUnpacked sends a head that is small on the wire and large
// by its references to one field of the dynamic table.
func TestAnHPACKBombIsNotUnpacked(t *testing.T) {
	s := serve(t, echo, nil)
	r := dialRaw(t, s)
	block := r.head(append(append([]string{}, plain...), "x", strings.Repeat("y", 4000))...)
	reference := r.head("x", strings.Repeat("y", 4000))
	for range 10_000 { // 40 MB
		block = append(block, reference...)
	}
	runtime.GC()
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	r.must(r.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true, EndStream: true}))
	got := r.answer(1)
	runtime.ReadMemStats(&m1)
	if !strings.HasPrefix(got, "431") && got != "closed" && !strings.HasPrefix(got, "GOAWAY") {
		t.Errorf("%.100s", got)
	}
	if grown := int64(m1.TotalAlloc) - int64(m0.TotalAlloc); grown > 4<<20 {
		t.Errorf("%d bytes were allocated for a head of %d", grown, len(block))
	}
}

// TestAClientThatTakesNothingLosesItsStreams holds a window of zero against
// limits.write_timeout.
func TestAClientThatTakesNothingLosesItsStreams(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		for {
			_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // as edge.Writer does
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				return
			}
			if c.Flush() != nil {
				return
			}
		}
	}, nil)
	before := runtime.NumGoroutine()
	r := dialRaw(t, s)
	r.must(r.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 0}))
	for i := range 50 {
		r.ask(uint32(2*i+1), true, plain...)
	}
	for reset := 0; reset < 50; {
		f, err := r.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := f.(*h2.RSTStreamFrame); ok {
			reset++
		}
	}
	r.Close()
	baseline(t, "zero window", before)
}

// TestAHeadHasToCompleteInTime is limits.header_timeout.
func TestAHeadHasToCompleteInTime(t *testing.T) {
	s := serve(t, echo, func(s *stand) { s.limits.HeaderTimeout = 200_000_000 })
	r := dialRaw(t, s)
	r.must(r.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: r.head(plain...), EndStream: true}))
	begun := time.Now()
	if got := r.answer(1); got != "closed" {
		t.Error(got)
	}
	if d := time.Since(begun); d > patience/2 {
		t.Errorf("after %v", d)
	}
}
