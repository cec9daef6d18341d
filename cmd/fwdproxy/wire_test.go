package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"fwdproxy/internal/proxytest"
)

// wire is the whole proxy, as the binary sets it up, before an origin that
// remembers every byte.
type wire struct {
	server *server
	addr   string
	expand func(string) string
	origin *byteOrigin
	log    *syncBuffer
}

// syncBuffer is a log that can be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// byteOrigin answers each request that an independent, strict reader finds in
// what it gets, and keeps the requests and the bytes.
type byteOrigin struct {
	addr string
	mu   sync.Mutex
	raw  bytes.Buffer
	bad  []string
	seen []strictRequest
}

func newByteOrigin(t testing.TB, answer func(strictRequest) string) *byteOrigin {
	o := &byteOrigin{}
	o.addr = proxytest.Server(t, func(c net.Conn, r *bufio.Reader) {
		in := bufio.NewReader(io.TeeReader(r, o))
		for {
			q, err := readStrict(in)
			if err == io.EOF {
				return
			}
			o.mu.Lock()
			if err != nil {
				if err != errCut {
					o.bad = append(o.bad, err.Error())
				}
				o.mu.Unlock()
				return
			}
			o.seen = append(o.seen, q)
			o.mu.Unlock()
			io.WriteString(c, answer(q))
		}
	})
	return o
}

func (o *byteOrigin) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.raw.Write(p)
}

// take returns what came since the last time.
func (o *byteOrigin) take() (raw string, seen []strictRequest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	raw, seen = o.raw.String(), o.seen
	o.raw.Reset()
	o.seen = nil
	return raw, seen
}

func fine(strictRequest) string {
	return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: no-store\r\n\r\nok"
}

// startWire runs the proxy in a mode. limits is more of [limits].
func startWire(t testing.TB, mode, limits string, answer func(strictRequest) string) *wire {
	t.Helper()
	o := newByteOrigin(t, answer)
	w := startWireBefore(t, mode, o.addr, limits)
	w.origin = o
	return w
}

// startWireBefore runs the proxy before another origin.
func startWireBefore(t testing.TB, mode, origin string, limits ...string) *wire {
	t.Helper()
	w := &wire{log: &syncBuffer{}}
	text := `
[forward]
listen = ["127.0.0.1:0"]
[reverse]
listen = ["127.0.0.1:0"]
[[reverse.site]]
hosts = ["www.site.test"]
path = "/"
pool = "app"
[[pool]]
name = "app"
peers = ["` + origin + `"]
[acl]
default = "allow"
private_destinations = "allow"
[admin]
listen = ""
[limits]
header_size = "16KiB"
request_line = "4KiB"
header_count = 40
` + strings.Join(limits, "")
	file := filepath.Join(t.TempDir(), "policy.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := loadPolicy(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := start(mode, p, nil, w.log, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.front.Close(); s.access.Close() })
	w.server = s
	w.addr = s.doors.addrs()[0].String()
	r := strings.NewReplacer("{B}", "http://"+origin, "{H}", origin)
	if mode == modeReverse {
		r = strings.NewReplacer("{B}", "", "{H}", "www.site.test")
	}
	w.expand = r.Replace
	return w
}

var statusLine = regexp.MustCompile(`HTTP/1\.[01] (\d{3}) `)

// statuses returns the status of each answer in a reply whose bodies hold none.
func statuses(reply string) string {
	var out []string
	for _, m := range statusLine.FindAllStringSubmatch(reply, -1) {
		out = append(out, m[1])
	}
	return strings.Join(out, " ")
}

// logText returns the access log once it has n lines, or all that came in time.
func (w *wire) logText(t *testing.T, n int) string {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end) && strings.Count(w.log.String(), "\n") < n; {
		time.Sleep(5 * time.Millisecond)
	}
	return w.log.String()
}
