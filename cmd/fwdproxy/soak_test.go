//go:build soak

package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var (
	soakFor     = flag.Duration("soak.for", 60*time.Second, "how long the load lasts")
	soakClients = flag.Int("soak.clients", 1000, "how many clients there are at once")
)

// TestSoak puts hits, misses, validations, uploads and tunnels of many clients
// through the binary while the policy changes every second. No request may
// fail or differ by a byte, and afterwards goroutines, descriptors and memory
// must be back where they were.
func TestSoak(t *testing.T) {
	origin := startSoakOrigin(t)
	p := startSoakProxy(t, origin)
	p.warm(t, origin)
	before := p.sample(t)
	t.Logf("before: %v", before)

	ctx, cancel := context.WithTimeout(t.Context(), *soakFor)
	defer cancel()
	var done, failed atomic.Int64
	var wg sync.WaitGroup
	for i := range *soakClients {
		wg.Go(func() {
			c := newSoakClient(i, p.addr, origin)
			defer c.http.CloseIdleConnections()
			for n := 0; ctx.Err() == nil; n++ {
				if err := c.step(n); err != nil {
					if failed.Add(1) <= 20 {
						t.Errorf("client %d, step %d: %v", i, n, err)
					}
				}
				done.Add(1)
			}
		})
	}
	reloads := 0
	var during sample
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
			reloads++
			p.write(t, reloads)
			if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			if reloads == 10 || reloads == int(soakFor.Seconds())-2 {
				s := p.sample(t)
				t.Logf("after %d reloads: %v", reloads, s)
				if reloads > 10 && s.resident > during.resident*3/2 {
					t.Errorf("memory grows under load: %d MiB, then %d MiB", during.resident>>20, s.resident>>20)
				}
				during = s
			}
		}
	}
	wg.Wait()
	t.Logf("%d requests, %d failed, %d reloads", done.Load(), failed.Load(), reloads)
	if done.Load() < int64(*soakClients) {
		t.Errorf("only %d requests were made", done.Load())
	}
	after := p.settle(t, before)
	t.Logf("after: %v", after)
	for line := range strings.Lines(p.messages.String()) {
		if strings.Contains(line, "level=") && !strings.Contains(line, "policy reloaded") {
			t.Errorf("the proxy says: %s", line)
		}
	}
	if n := strings.Count(p.messages.String(), "policy reloaded"); n < reloads/2 {
		t.Errorf("%d reloads took effect, of %d", n, reloads)
	}
}

// soakBody is what the origin serves under a name: different sizes, byte-exact.
func soakBody(name string) []byte {
	size := 100
	if n, err := strconv.Atoi(name[strings.LastIndexByte(name, '-')+1:]); err == nil {
		size = 100 + n%7*9000
	}
	return bytes.Repeat([]byte(name+";"), size/len(name)+1)
}

func startSoakOrigin(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		switch {
		case r.Method == http.MethodPost:
			// net/http drops the rest of a body once it begins to answer.
			body, err := io.ReadAll(r.Body)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			w.Write(body)
			return
		case strings.HasPrefix(name, "hit"):
			w.Header().Set("Cache-Control", "max-age=3600")
		case strings.HasPrefix(name, "check"):
			w.Header().Set("Cache-Control", "max-age=0")
			w.Header().Set("Etag", `"`+name+`"`)
			if r.Header.Get("If-None-Match") == `"`+name+`"` {
				w.WriteHeader(http.StatusNotModified)
				return
			}
		case strings.HasPrefix(name, "miss"):
			w.Header().Set("Cache-Control", "max-age=60")
		default:
			w.Header().Set("Cache-Control", "no-store")
		}
		w.Write(soakBody(name))
	})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return l.Addr().String()
}

type soakProxy struct {
	cmd         *exec.Cmd
	addr, admin string
	policy      string
	origin      string
	messages    *lineWatch
}

func startSoakProxy(t *testing.T, origin string) *soakProxy {
	dir := t.TempDir()
	p := &soakProxy{policy: filepath.Join(dir, "policy.toml"), origin: origin}
	p.write(t, 0)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(dir, "proxy.log"))
	if err != nil {
		t.Fatal(err)
	}
	p.messages = &lineWatch{file: file}
	p.cmd = &exec.Cmd{Path: exe, Args: []string{"fwdproxy", "--policy", p.policy}, Stderr: p.messages}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill(); p.cmd.Wait() })
	if err := poll(func() bool { return strings.Contains(p.messages.String(), "  try ") }, func() error { return fmt.Errorf("%s", p.messages) }); err != nil {
		t.Fatal(err)
	}
	p.addr = regexp.MustCompile(`listening +(\S+)`).FindStringSubmatch(p.messages.String())[1]
	p.admin = regexp.MustCompile(`admin +http://([^/]+)/`).FindStringSubmatch(p.messages.String())[1]
	return p
}

// write changes the policy: each number has another rule, and every third
// other upstream timeouts, which makes new connections.
func (p *soakProxy) write(t *testing.T, n int) {
	_, port, _ := net.SplitHostPort(p.origin)
	text := fmt.Sprintf(`[forward]
listen = ["127.0.0.1:0"]
[forward.tunnel]
ports = [%s]
[acl]
private_destinations = "allow"
[[acl.rule]]
name = "number %d"
to = ["number%d.test"]
action = "deny"
[[acl.rule]]
action = "allow"
[upstream]
read_timeout = "%ds"
[upstream.hosts]
"origin.test" = ["127.0.0.1"]
[cache]
memory = "64MiB"
max_object = "4MiB"
[log]
access = "none"
[admin]
listen = "127.0.0.1:0"
`, port, n, n, 60+n/3)
	// In one step: between two steps this starved process may rest for longer
	// than a reload waits.
	if err := os.WriteFile(p.policy+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(p.policy+".new", p.policy); err != nil {
		t.Fatal(err)
	}
}

// warm fills the cache once over, so that its memory is there before the first
// sample.
func (p *soakProxy) warm(t *testing.T, origin string) {
	c := newSoakClient(0, p.addr, origin)
	defer c.http.CloseIdleConnections()
	for i := range 4000 {
		if err := c.get(fmt.Sprintf("missed-%d", i)); err != nil {
			t.Fatal(err)
		}
	}
}

type sample struct {
	goroutines, descriptors, resident int64
}

func (s sample) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %d MiB resident", s.goroutines, s.descriptors, s.resident>>20)
}

func (p *soakProxy) sample(t *testing.T) sample {
	res, err := http.Get("http://" + p.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	values := map[string]int64{}
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok {
			f, _ := strconv.ParseFloat(value, 64)
			values[name] = int64(f)
		}
	}
	return sample{values["go_goroutines"], values["process_open_fds"], values["process_resident_memory_bytes"]}
}

// settle waits until what the load took is given back. One quiet client goes
// on, since Go frees the pipes that splice(2) used only as it collects garbage.
func (p *soakProxy) settle(t *testing.T, before sample) sample {
	c := newSoakClient(0, p.addr, p.origin)
	defer c.http.CloseIdleConnections()
	var s sample
	for range 120 {
		for i := range 200 {
			if err := c.get(fmt.Sprintf("private-%d", i)); err != nil {
				t.Fatal(err)
			}
		}
		s = p.sample(t)
		if s.goroutines <= before.goroutines+10 && s.descriptors <= before.descriptors+10 {
			return s
		}
		time.Sleep(time.Second)
	}
	t.Errorf("not given back: before %v, after %v", before, s)
	return s
}

type soakClient struct {
	id     int
	origin string // host:port by name
	proxy  string
	http   *http.Client
}

func newSoakClient(id int, proxy, origin string) *soakClient {
	_, port, _ := net.SplitHostPort(origin)
	return &soakClient{id: id, origin: "origin.test:" + port, proxy: proxy, http: &http.Client{
		Timeout: 60 * time.Second,
		Transport: &http.Transport{
			Proxy:              http.ProxyURL(&url.URL{Scheme: "http", Host: proxy}),
			DisableCompression: true,
		},
	}}
}

func (c *soakClient) step(n int) error {
	switch n % 8 {
	case 0, 1, 2:
		return c.get(fmt.Sprintf("hit-%d", (c.id+n)%50))
	case 3:
		return c.get(fmt.Sprintf("miss-%d-%d", c.id, n))
	case 4:
		return c.get(fmt.Sprintf("check-%d", c.id%20))
	case 5:
		return c.get(fmt.Sprintf("private-%d-%d", c.id, n))
	case 6:
		return c.post(n)
	}
	return c.tunnel(n)
}

func (c *soakClient) get(name string) error {
	res, err := c.http.Get("http://" + c.origin + "/" + name)
	if err != nil {
		return err
	}
	return sameBody(res, soakBody(name))
}

func sameBody(res *http.Response, want []byte) error {
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || !bytes.Equal(got, want) {
		return fmt.Errorf("status %d, %d bytes %.40q, want %d bytes", res.StatusCode, len(got), got, len(want))
	}
	return nil
}

func (c *soakClient) post(n int) error {
	body := soakBody(fmt.Sprintf("post-%d", n))
	res, err := c.http.Post("http://"+c.origin+"/post", "text/plain", bytes.NewReader(body))
	if err != nil {
		return err
	}
	return sameBody(res, body)
}

// tunnel opens a tunnel, asks through it, and closes it.
func (c *soakClient) tunnel(n int) error {
	conn, err := net.DialTimeout("tcp", c.proxy, 30*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(60 * time.Second))
	name := fmt.Sprintf("inside-%d", n)
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\nGET /%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", c.origin, c.origin, name, c.origin)
	r := bufio.NewReader(conn)
	head, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return fmt.Errorf("tunnel: %w", err)
	}
	if head.StatusCode != http.StatusOK {
		return fmt.Errorf("tunnel: %s", head.Status)
	}
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return fmt.Errorf("in the tunnel: %w", err)
	}
	return sameBody(res, soakBody(name))
}
