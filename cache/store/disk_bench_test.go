package store

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
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
