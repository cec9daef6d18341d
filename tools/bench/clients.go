package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// tunnel opens one through the proxy.
func (p *peer) tunnel(to string) (net.Conn, *bufio.Reader, error) {
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		return nil, nil, err
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", to)
	r := bufio.NewReaderSize(c, 64<<10)
	first, err := readLines(r)
	if err == nil && !strings.Contains(first, " 200") {
		err = fmt.Errorf("CONNECT was answered with %q", first)
	}
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, r, nil
}

// during lets a few workers do something again and again for the time of a
// turn, and returns how much was done and the first error.
func (b *bench) during(p *peer, workers int, work func(until time.Time) (int64, error)) (figures, error) {
	var done atomic.Int64
	errs := make(chan error, workers)
	begun, used := time.Now(), p.cpu()
	until := begun.Add(b.time)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for time.Now().Before(until) {
				n, err := work(until)
				done.Add(n)
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	took, n := time.Since(begun), done.Load()
	used = p.cpu() - used
	select {
	case err := <-errs:
		return figures{}, err
	default:
	}
	if n == 0 {
		return figures{}, fmt.Errorf("nothing was done")
	}
	return figures{rate: float64(n) / took.Seconds(), cpu: used / time.Duration(n)}, nil
}

// tunnelBytes reads bodies of 16 MiB through tunnels.
func tunnelBytes(b *bench, p *peer) (figures, error) {
	const size = 16 << 20
	return b.during(p, 4, func(until time.Time) (int64, error) {
		c, r, err := p.tunnel(b.origin.addr)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		var n int64
		for time.Now().Before(until) {
			fmt.Fprintf(c, "GET /%d/ HTTP/1.1\r\nHost: o\r\n\r\n", size)
			if _, err := readLines(r); err != nil {
				return n, err
			}
			if _, err := io.CopyN(io.Discard, r, size); err != nil {
				return n, err
			}
			n += size >> 20
		}
		return n, nil
	})
}

// tunnels opens one, asks for 100 bytes through it and closes it.
func tunnels(b *bench, p *peer) (figures, error) {
	return b.during(p, 16, func(time.Time) (int64, error) {
		c, r, err := p.tunnel(b.origin.addr)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		fmt.Fprintf(c, "GET /100/ HTTP/1.1\r\nHost: o\r\nConnection: close\r\n\r\n")
		if _, err = readLines(r); err == nil {
			_, err = io.CopyN(io.Discard, r, 100)
		}
		return 1, err
	})
}

// get asks once on an open connection.
func get(c net.Conn, r *bufio.Reader, url string, size int64) error {
	fmt.Fprintf(c, "GET http://%s HTTP/1.1\r\nHost: %s\r\n\r\n", url, url[:strings.IndexByte(url, '/')])
	first, err := readLines(r)
	if err == nil && !strings.Contains(first, " 200") {
		err = fmt.Errorf("the answer is %q", first)
	}
	if err == nil {
		_, err = io.CopyN(io.Discard, r, size)
	}
	return err
}

// idle keeps clients connected that asked once.
func idle(b *bench, p *peer) (figures, error) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < uint64(b.idle)*2 {
		return figures{}, fmt.Errorf("%d files may be open, fewer than two for each client: raise it with ulimit -n", files.Cur)
	}
	url := b.origin.addr + "/1024/0"
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	ask := func() error {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			return err
		}
		open = append(open, c)
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		return get(c, bufio.NewReaderSize(c, 16), url, 1<<10)
	}
	if err := ask(); err != nil {
		return figures{}, err
	}
	before := p.resident()
	for range b.idle {
		if err := ask(); err != nil {
			return figures{}, fmt.Errorf("with %d open: %w", len(open), err)
		}
	}
	time.Sleep(b.time) // the collector's turn
	return figures{memory: float64(p.resident()-before) / (1 << 20)}, nil
}

// half asks at half of the rate that wrk reached, evenly, and measures from
// when each request was due, so that a stall counts for all that it delays.
func half(b *bench, p *peer) (figures, error) {
	most, err := hits(1<<10, 100)(b, p)
	if err != nil {
		return figures{}, err
	}
	const workers = 32
	pause := time.Duration(float64(time.Second) * workers / (most.rate / 2))
	times := make([][]time.Duration, workers)
	errs := make([]error, workers)
	begun := time.Now()
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			times[i], errs[i] = paced(p.addr, b.origin.addr+"/1024/0", begun.Add(pause*time.Duration(i)/workers), pause, begun.Add(b.time))
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return figures{}, err
		}
	}
	all := slices.Sorted(slices.Values(slices.Concat(times...)))
	if len(all) == 0 {
		return figures{}, fmt.Errorf("nothing was asked")
	}
	return figures{rate: float64(len(all)) / time.Since(begun).Seconds(), p99: all[len(all)*99/100]}, nil
}

func paced(addr, url string, due time.Time, pause time.Duration, until time.Time) ([]time.Duration, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	var out []time.Duration
	for ; due.Before(until); due = due.Add(pause) {
		time.Sleep(time.Until(due))
		if err := get(c, r, url, 1<<10); err != nil {
			return out, err
		}
		out = append(out, time.Since(due))
	}
	return out, nil
}
