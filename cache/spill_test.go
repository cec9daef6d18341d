package cache

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"fwdproxy/cache/store"
	"fwdproxy/internal/hop"
)

// diskBench is a cache with little memory and a disk, before a scripted origin.
func diskBench(t *testing.T, dir string, answer func(int, *http.Request) (*http.Response, error)) (*bench, *store.Disk) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Memory, cfg.MaxObject = 4<<20, 16<<20
	cfg.Disk = DiskConfig{Dir: dir, Size: 128 << 20}
	if p := cfg.Validate(); len(p) > 0 {
		t.Fatal(p)
	}
	m, err := store.NewMemory(int64(cfg.Memory))
	if err != nil {
		t.Fatal(err)
	}
	d, err := store.OpenDisk(store.DiskConfig{Dir: dir, Size: int64(cfg.Disk.Size)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close(time.Minute) })
	b := &bench{T: t, o: &origin{answer: answer}, c: New(store.NewTiered(m, d)), store: m}
	b.tr = b.c.Transport(cfg, "fwdproxy", b.o)
	return b, d
}

func bytesOf(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = r.Read(b)
	return b
}

// settled waits until nobody fetches any more.
func (b *bench) settled() {
	b.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		busy := false
		for i := range b.c.books {
			b.c.books[i].mu.Lock()
			busy = busy || len(b.c.books[i].flights) > 0
			b.c.books[i].mu.Unlock()
		}
		if !busy {
			return
		}
		if time.Now().After(end) {
			b.Fatal("a fetch does not end")
		}
	}
}

func TestABodyThatMemoryDoesNotTakeIsStoredOnTheDisk(t *testing.T) {
	for name, answer := range map[string]func([]byte) *http.Response{
		"of a known length": func(body []byte) *http.Response { return response(200, string(body), "Cache-Control: max-age=1000") },
		"of no known length": func(body []byte) *http.Response {
			return chunked(bytes.NewReader(body), "Cache-Control: max-age=1000")
		},
	} {
		for _, n := range []int{1<<20 + 1, 16 << 20} {
			body := bytesOf(n)
			b, _ := diskBench(t, t.TempDir(), func(int, *http.Request) (*http.Response, error) { return answer(body), nil })
			for i := range 3 {
				r := b.get()
				if r.err != nil || r.bodyErr != nil || r.body != string(body) {
					t.Fatalf("%s, %d bytes, request %d: %d bytes, %v, %v", name, n, i, len(r.body), r.err, r.bodyErr)
				}
				b.settled()
			}
			b.asked(1)
			if r := b.get("Range: bytes=1000000-1000009"); r.status != 206 || r.body != string(body[1000000:1000010]) {
				t.Errorf("a range: %d, %d bytes", r.status, len(r.body))
			}
			if held := b.c.filling.Load(); held != 0 {
				t.Errorf("%d bytes are still held", held)
			}
		}
	}
}

func TestABodyThatIsTooLargeForTheDiskPassesThrough(t *testing.T) {
	body := bytesOf(17 << 20)
	dir := t.TempDir()
	b, d := diskBench(t, dir, func(int, *http.Request) (*http.Response, error) {
		return chunked(bytes.NewReader(body), "Cache-Control: max-age=1000"), nil
	})
	for range 2 {
		if r := b.get(); r.body != string(body) || r.bodyErr != nil {
			t.Fatalf("%d bytes, %v", len(r.body), r.bodyErr)
		}
		b.settled()
	}
	b.asked(2)
	if s := d.Stats(); s.Objects > 1 { // the primary alone
		t.Errorf("%d objects are stored", s.Objects)
	}
	noFiles(t, dir)
}

func noFiles(t *testing.T, dir string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		entries, err := os.ReadDir(filepath.Join(dir, "files"))
		if err == nil && len(entries) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d files are left, %v", len(entries), err)
		}
	}
}

func TestReadersOfABodyOnItsWayToTheDiskAllGetEveryByteAtTheirPace(t *testing.T) {
	body := bytesOf(6 << 20)
	gate := make(chan struct{})
	b, _ := diskBench(t, t.TempDir(), func(int, *http.Request) (*http.Response, error) {
		return chunked(io.MultiReader(bytes.NewReader(body[:5<<20]), &gated{gate: gate, data: string(body[5<<20:])}), "Cache-Control: max-age=1000"), nil
	})
	open := func() *http.Response {
		res, err := b.tr.RoundTrip(request(hop.With(t.Context(), &hop.Hop{Permit: permitAll}), "GET", page))
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	first := open()
	if got, err := io.ReadAll(io.LimitReader(first.Body, 5<<20)); err != nil || !bytes.Equal(got, body[:5<<20]) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		res := open() // from the first byte on
		wg.Go(func() {
			defer res.Body.Close()
			var got bytes.Buffer
			if _, err := io.CopyBuffer(&got, struct{ io.Reader }{res.Body}, make([]byte, 1000*(1+i*40))); err != nil || !bytes.Equal(got.Bytes(), body) {
				t.Errorf("reader %d: %d bytes, %v", i, got.Len(), err)
			}
		})
	}
	close(gate)
	if got, err := io.ReadAll(first.Body); err != nil || !bytes.Equal(got, body[5<<20:]) {
		t.Errorf("the first: %d bytes more, %v", len(got), err)
	}
	first.Body.Close()
	wg.Wait()
	b.settled()
	b.asked(1)
	if held := b.c.filling.Load(); held != 0 {
		t.Errorf("%d bytes are still held", held)
	}
}

func TestABodyThatBreaksOffIsNotStoredOnTheDisk(t *testing.T) {
	dir := t.TempDir()
	body := bytesOf(5 << 20)
	b, _ := diskBench(t, dir, func(int, *http.Request) (*http.Response, error) {
		res := chunked(bytes.NewReader(body), "Cache-Control: max-age=1000")
		res.ContentLength = 6 << 20
		return res, nil
	})
	if r := b.get(); r.bodyErr == nil {
		t.Error("it looks complete")
	}
	b.settled()
	noFiles(t, dir)
	if r := b.get(); r.bodyErr == nil {
		t.Error("it looks complete")
	}
	b.asked(2)
}

func TestAClientThatLeavesTakesTheSpoolWithIt(t *testing.T) {
	dir := t.TempDir()
	gate := make(chan struct{})
	defer close(gate)
	b, _ := diskBench(t, dir, func(int, *http.Request) (*http.Response, error) {
		return chunked(io.MultiReader(bytes.NewReader(bytesOf(5<<20)), &gated{gate: gate, data: "x"}), "Cache-Control: max-age=1000"), nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	b.o.answer = withContext(b.o.answer)
	res, err := b.tr.RoundTrip(request(hop.With(ctx, &hop.Hop{Permit: permitAll}), "GET", page))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, res.Body, 4<<20); err != nil {
		t.Fatal(err)
	}
	cancel()
	res.Body.Close()
	b.settled()
	noFiles(t, dir)
}

// withContext makes a body fail when its request's context ends, as a
// connection's does.
func withContext(answer func(int, *http.Request) (*http.Response, error)) func(int, *http.Request) (*http.Response, error) {
	return func(n int, req *http.Request) (*http.Response, error) {
		res, err := answer(n, req)
		r, w := io.Pipe()
		body := res.Body
		go func() { _, err := io.Copy(w, body); w.CloseWithError(err) }()
		context.AfterFunc(req.Context(), func() { r.CloseWithError(req.Context().Err()) })
		res.Body = r
		return res, err
	}
}

func TestWithoutADiskThatTakesItTheBodyStillArrives(t *testing.T) {
	dir := t.TempDir()
	body := bytesOf(6 << 20)
	b, _ := diskBench(t, dir, func(int, *http.Request) (*http.Response, error) {
		return response(200, string(body), "Cache-Control: max-age=1000"), nil
	})
	if err := os.RemoveAll(filepath.Join(dir, "files")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r := b.get(); r.body != string(body) || r.bodyErr != nil {
			t.Fatalf("%d bytes, %v", len(r.body), r.bodyErr)
		}
		b.settled()
	}
	b.asked(2)
	if held := b.c.filling.Load(); held != 0 {
		t.Errorf("%d bytes are still held", held)
	}
}
