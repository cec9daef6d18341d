package store

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkDiskHit is a look-up and a body that goes into a TCP connection on
// loopback, whose other end reads it.
func BenchmarkDiskHit(b *testing.B) {
	for _, n := range []int{1 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", n>>10), func(b *testing.B) {
			d := openDisk(b, b.TempDir(), 256<<20)
			const objects = 50
			for i := range objects {
				if err := d.Put(key(i), content(i, 400), split(content(i, n))); err != nil {
					b.Fatal(err)
				}
			}
			flush(b, d)
			conn := sink(b)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				o, ok := d.Get(key(i % objects))
				if !ok {
					b.Fatal("not there")
				}
				r, err := o.Body.Open(0, o.Size)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(conn, r); err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
}

// sink is a TCP connection whose other end reads and forgets.
func sink(b *testing.B) net.Conn {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			buf := make([]byte, 256<<10)
			for err == nil {
				_, err = c.Read(buf)
			}
			c.Close()
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return conn
}

func BenchmarkDiskMiss(b *testing.B) {
	d := openDisk(b, b.TempDir(), 256<<20)
	for i := range 10000 {
		_ = d.Put(key(i), nil, nil)
	}
	flush(b, d)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if _, ok := d.Get(key(10000 + i)); ok {
			b.Fatal("there")
		}
	}
}

func BenchmarkDiskPut(b *testing.B) {
	d := openDisk(b, b.TempDir(), 1<<30)
	head, body := content(1, 400), split(content(1, 1<<10))
	r := rand.New(rand.NewPCG(1, 1))
	b.ReportAllocs()
	for b.Loop() {
		k := randomKey(r)
		for d.Put(k, head, body) != nil {
			flush(b, d)
		}
	}
	flush(b, d)
}

func randomKey(r *rand.Rand) (k Key) {
	for i := range k {
		k[i] = byte(r.Uint32())
	}
	return k
}

// resident returns the kilobytes of memory that are the process's own, and
// those that stand for a file.
func resident() (anonymous, file int64) {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		_, _ = fmt.Sscanf(line, "RssAnon: %d kB", &anonymous)
		_, _ = fmt.Sscanf(line, "RssFile: %d kB", &file)
	}
	return anonymous, file
}

// TestAMillionObjects fills a tier with a million responses of a kilobyte, ends
// without a word, and measures how soon the next run has its first hit. It runs
// when STORE_MILLION says how many objects there shall be.
func TestAMillionObjects(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("STORE_MILLION"))
	if n == 0 {
		t.Skip("STORE_MILLION=1000000 runs it")
	}
	dir := t.TempDir()
	const limit = 4 << 30
	d := openDisk(t, dir, limit)
	head := content(1, 400)
	body := split(content(2, 1<<10))
	began := time.Now()
	r := rand.New(rand.NewPCG(7, 7))
	for range n {
		k := randomKey(r)
		for d.Put(k, head, body) != nil {
			time.Sleep(time.Millisecond)
		}
	}
	flush(t, d)
	took := time.Since(began)
	s := d.Stats()
	t.Logf("stored %d in %v, %.0f a second; %d bytes, of these %d of the index (%d an object), %d segments",
		s.Objects, took.Round(time.Millisecond), float64(n)/took.Seconds(), s.Bytes, d.indexed.Load(), d.indexed.Load()/s.Objects, s.Segments)
	kill(t, d)
	d = nil
	debug.FreeOSMemory()
	own, file := resident()
	began = time.Now()
	d = openDisk(t, dir, limit)
	opened := time.Since(began)
	r = rand.New(rand.NewPCG(7, 7))
	if _, ok := d.Get(randomKey(r)); !ok {
		t.Fatal("the first is not there")
	}
	first := time.Since(began)
	t.Logf("open after %v, the first hit after %v", opened.Round(time.Microsecond), first.Round(time.Microsecond))
	if first > time.Second {
		t.Errorf("the first hit took %v", first)
	}
	const sample = 100000
	times := make([]time.Duration, 0, sample)
	for range min(n-1, sample) {
		k := randomKey(r)
		at := time.Now()
		if _, ok := d.Get(k); !ok {
			t.Fatal("not there")
		}
		times = append(times, time.Since(at))
	}
	slices.Sort(times)
	t.Logf("a hit takes %v at the median, %v at 99%%, %v at most", times[len(times)/2], times[len(times)*99/100], times[len(times)-1])
	times = nil
	debug.FreeOSMemory()
	ownNow, fileNow := resident()
	t.Logf("since before it was opened: %d KiB more of its own memory, %d KiB more mapped from the index", ownNow-own, fileNow-file)
}
