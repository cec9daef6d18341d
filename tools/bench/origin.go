package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// origin answers GET /SIZE/... with SIZE bytes that stay fresh for an hour.
type origin struct {
	addr  string
	asked atomic.Int64
}

func newOrigin() (*origin, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &origin{addr: l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go o.serve(c)
		}
	}()
	return o, nil
}

func (o *origin) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 16<<10)
	var out []byte
	last, made := -1, int64(0)
	for {
		size, closes, err := readRequest(r)
		if err != nil {
			return
		}
		o.asked.Add(1)
		if now := time.Now(); size != last || now.Unix() != made {
			out = answer(size, now)
			last, made = size, now.Unix()
		}
		if _, err := c.Write(out); err != nil || closes {
			return
		}
	}
}

func answer(size int, now time.Time) []byte {
	b := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nDate: %s\r\nServer: bench\r\nContent-Type: text/plain\r\n"+
		"Cache-Control: public, max-age=3600\r\nETag: \"%d\"\r\nContent-Length: %d\r\n\r\n", now.UTC().Format(http.TimeFormat), size, size)
	return append(b, bytes.Repeat([]byte("x"), size)...)
}

// readRequest returns the size that the target asks for.
func readRequest(r *bufio.Reader) (size int, closes bool, err error) {
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case first:
			if size, err = sizeOf(line); err != nil {
				return 0, false, err
			}
		case len(line) == 0:
			return size, closes, nil
		case bytes.EqualFold(line, []byte("Connection: close")):
			closes = true
		}
	}
}

func sizeOf(line []byte) (int, error) {
	_, rest, _ := bytes.Cut(line, []byte(" "))
	target, _, _ := bytes.Cut(rest, []byte(" "))
	if after, ok := bytes.CutPrefix(target, []byte("http://")); ok {
		target = after[max(bytes.IndexByte(after, '/'), 0):]
	}
	size, _, _ := bytes.Cut(bytes.TrimPrefix(target, []byte("/")), []byte("/"))
	return strconv.Atoi(string(size))
}
