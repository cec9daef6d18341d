package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// goPeer is a server that a test can kill, with all its connections, and start
// again on its address.
type goPeer struct {
	addr string
	srv  *http.Server
}

func (p *goPeer) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	p.addr = l.Addr().String()
	p.srv = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Cache-Control", "no-store")
		io.WriteString(w, "hello\n")
	})}
	go p.srv.Serve(l)
}

func (p *goPeer) kill() { p.srv.Close() }

// nginxPeer is Debian's nginx.
type nginxPeer struct {
	addr, dir string
	cmd       *exec.Cmd
}

func (p *nginxPeer) start(t *testing.T) {
	t.Helper()
	if p.dir == "" {
		port, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		p.dir, p.addr = t.TempDir(), "127.0.0.1:"+port
		conf := fmt.Sprintf(`daemon off; master_process off; pid nginx.pid; error_log /dev/null;
events {}
http {
	access_log off; keepalive_requests 1000000;
	client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
	server { listen %s; location / { add_header Cache-Control no-store; return 200 "hello\n"; } }
}
`, p.addr)
		if err := os.WriteFile(filepath.Join(p.dir, "nginx.conf"), []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.cmd = exec.Command("nginx", "-p", p.dir, "-c", "nginx.conf")
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd := p.cmd
	t.Cleanup(func() { _ = cmd.Process.Kill() })
}

func (p *nginxPeer) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// listens waits until somebody does at the address.
func listens(t *testing.T, addr string) {
	t.Helper()
	for range 500 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("nobody listens at " + addr)
}

type victim interface {
	start(*testing.T)
	kill()
}

// TestPeersThatAreKilledUnderLoadCostNoRequestThatMayBeSentAgain kills and
// restarts the peers of a pool in turn while clients load it. GETs must all
// succeed; POSTs may fail only where a peer died that had taken them.
func TestPeersThatAreKilledUnderLoadCostNoRequestThatMayBeSentAgain(t *testing.T) {
	one, two := &goPeer{addr: "127.0.0.1:0"}, &goPeer{addr: "127.0.0.1:0"}
	one.start(t)
	two.start(t)
	t.Cleanup(func() { one.kill(); two.kill() })
	peers, addrs := []victim{one, two}, []string{one.addr, two.addr}
	if _, err := exec.LookPath("nginx"); err == nil {
		web := &nginxPeer{}
		web.start(t)
		listens(t, web.addr)
		peers, addrs = append(peers, web), append(addrs, web.addr)
	}
	front := startPools(t, addrs)
	const clients, kills = 16, 9
	ctx, cancel := context.WithCancel(t.Context())
	var gets, posts, lostGets, lostPosts atomic.Int64
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			c := &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}
			defer c.CloseIdleConnections()
			for ctx.Err() == nil {
				if i%4 == 0 {
					posts.Add(1)
					if err := askPeer(c, http.MethodPost, front); err != nil {
						lostPosts.Add(1)
					}
					continue
				}
				gets.Add(1)
				if err := askPeer(c, http.MethodGet, front); err != nil {
					lostGets.Add(1)
					t.Error(err)
				}
			}
		})
	}
	atLeast := func(n int64) { // so many GETs more
		from := gets.Load()
		for gets.Load() < from+n {
			time.Sleep(5 * time.Millisecond)
		}
	}
	for i := range kills {
		atLeast(300)
		peers[i%len(peers)].kill()
		atLeast(300)
		peers[i%len(peers)].start(t)
		listens(t, addrs[i%len(peers)])
	}
	atLeast(300)
	cancel()
	wg.Wait()
	t.Logf("%d kills of %d peers; GET: %d, %d failed; POST: %d, %d failed", kills, len(peers), gets.Load(), lostGets.Load(), posts.Load(), lostPosts.Load())
	// Each POST client has one request under way at most when a peer dies.
	if most := int64(kills * clients / 4); lostPosts.Load() > most {
		t.Errorf("%d POSTs failed, %d may", lostPosts.Load(), most)
	}
}

func askPeer(c *http.Client, method, url string) error {
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("payload")
	}
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return err
	}
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != 200 || string(got) != "hello\n") {
		err = fmt.Errorf("%s: %s %s", method, res.Status, res.Header.Get("Proxy-Status"))
	}
	return err
}

// startPools is the proxy before a pool of these peers; it returns its URL.
func startPools(t *testing.T, addrs []string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.toml")
	text := fmt.Sprintf(`[reverse]
listen = ["127.0.0.1:0"]
[[reverse.site]]
hosts = ["*"]
pool = "app"
[[pool]]
name = "app"
peers = ["%s"]
retry_budget = 100
[pool.check]
interval = "100ms"
rise = 1
[pool.eject]
time = "200ms"
max_time = "400ms"
[log]
access = "none"
[admin]
listen = ""
[[acl.rule]]
action = "allow"
`, strings.Join(addrs, `", "`))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := loadPolicy(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := start(modeReverse, p, nil, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.front.Close(); s.access.Close(); s.current.Load().upstream.Close() })
	return "http://" + s.doors.addrs()[0].String() + "/"
}
