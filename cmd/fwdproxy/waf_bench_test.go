package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
)

// BenchmarkWAF measures what a request costs that the pool answers, client and
// peer included; cpu/op is what the whole process used.
func BenchmarkWAF(b *testing.B) {
	for _, c := range []struct{ name, mode, table string }{
		{"off", "off", ""}, {"detect, level 1", "detect", "paranoia = 1"}, {"detect, level 4", "detect", "paranoia = 4"},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := startGuarded(b, b.TempDir(), c.mode, c.table)
			conn, err := net.Dial("tcp", w.addr)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			before := cpuTime(b)
			for b.Loop() {
				io.WriteString(conn, "GET /shop/items?page=2&sort=price&q=garden+chairs HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"+
					"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nCookie: session=0f3c9a55b1d24e3f8a7c; theme=dark\r\n\r\n")
				res, err := http.ReadResponse(r, nil)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != 200 {
					b.Fatal(res.StatusCode, err)
				}
			}
			b.ReportMetric((cpuTime(b)-before)/float64(b.N)*1e6, "cpu-µs/op")
		})
	}
}

func cpuTime(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(fmt.Errorf("getrusage: %w", err))
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}
