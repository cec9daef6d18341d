package upstream

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
)

// closing is a peer that reads each request and closes.
func closing(t *testing.T, asked *atomic.Int32) *origin {
	return serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if readRequestHead(r) != "" {
			asked.Add(1)
		}
	})
}

func status(s string) string { return "HTTP/1.1 " + s + "\r\nContent-Length: 1\r\n\r\nx" }

func TestOnlyWhatMayHaveNoEffectIsSentAgain_RFC9110_9_2_2(t *testing.T) {
	for _, tt := range []struct {
		method, body string
		again        bool
	}{
		{"GET", "", true}, {"HEAD", "", true}, {"PUT", "", true}, {"DELETE", "", true}, {"OPTIONS", "", true},
		{"POST", "", false}, {"PATCH", "", false}, {"PUT", "x", false}, {"POST", "x", false},
	} {
		var asked atomic.Int32
		bad := closing(t, &asked)
		good := answering(t, ok(""))
		tr := newTransport(t, nil, PoolConfig{Name: "app", Peers: []PeerConfig{{Address: bad.addr}, {Address: good.addr, Backup: true}}, Eject: &EjectConfig{Failures: 100}})
		var body io.Reader
		if tt.body != "" {
			body = strings.NewReader(tt.body)
		}
		req := requestWith(t, &hop.Hop{Pool: "app"}, tt.method, "http://site.test/", body)
		// The backup is asked only once the first peer was tried.
		res, err := tr.RoundTrip(req)
		if err == nil {
			res.Body.Close()
		}
		if (err == nil) != tt.again || asked.Load() != 1 {
			t.Errorf("%s with %q: the peer was asked %d times, then %v", tt.method, tt.body, asked.Load(), err)
		}
		if n := tr.pools["app"].retries.Load(); (n == 1) != tt.again {
			t.Errorf("%s: %d retries", tt.method, n)
		}
	}
}

func TestARequestIsSentAsOftenAsThePoolSays(t *testing.T) {
	var asked atomic.Int32
	var peers []PeerConfig
	for range 5 {
		peers = append(peers, PeerConfig{Address: closing(t, &asked).addr})
	}
	for _, tries := range []int{1, 2, 4} {
		asked.Store(0)
		tr := newTransport(t, nil, PoolConfig{Name: "app", Peers: peers, Tries: tries})
		wantFault(t, fails(t, tr, viaPool(t, "GET", "site.test")), fault.ConnectionTerminated, 502)
		if int(asked.Load()) != tries {
			t.Errorf("sent %d times, want %d", asked.Load(), tries)
		}
	}
}

func TestTheBudgetBoundsWhatIsSentAgain(t *testing.T) {
	var asked atomic.Int32
	tr := newTransport(t, nil, PoolConfig{Name: "app", Peers: at(closing(t, &asked).addr, closing(t, &asked).addr), RetryBudget: 10, Tries: 2})
	const n = 50
	for range n {
		fails(t, tr, viaPool(t, "GET", "site.test"))
	}
	// Ten beside, and a tenth of the requests.
	if again := int(asked.Load()) - n; again < 10 || again > 15 {
		t.Errorf("%d of %d requests were sent again", again, n)
	}
}

func TestAStatusIsTriedElsewhereWhereThePoolSaysSo(t *testing.T) {
	bad, good := answering(t, status("503 Busy")), answering(t, status("200 OK"))
	peers := []PeerConfig{{Address: bad.addr}, {Address: good.addr, Backup: true}}
	for _, tt := range []struct {
		c      PoolConfig
		method string
		want   int
	}{
		{PoolConfig{Peers: peers}, "GET", 503},
		{PoolConfig{Peers: peers, RetryStatus: []int{503}}, "GET", 200},
		{PoolConfig{Peers: peers, RetryStatus: []int{503}}, "POST", 503},
		{PoolConfig{Peers: peers[:1], RetryStatus: []int{503}}, "GET", 503}, // no other: its answer stands
	} {
		tt.c.Name = "app"
		tr := newTransport(t, nil, tt.c)
		if res, body := do(t, tr, viaPool(t, tt.method, "site.test")); res.StatusCode != tt.want || body != "x" {
			t.Errorf("%s, statuses %v: %d %q, want %d", tt.method, tt.c.RetryStatus, res.StatusCode, body, tt.want)
		}
		for _, peer := range tr.pools["app"].peers() {
			if n := peer.active.Load(); n != 0 {
				t.Errorf("%s has %d under way", peer.name, n)
			}
		}
	}
}

func TestASlowPeerIsLeftForAnotherWithinTheTimeOfATry(t *testing.T) {
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	slow := serve(t, func(_ int, _ net.Conn, r *bufio.Reader) { readRequestHead(r); <-done })
	good := answering(t, status("200 OK"))
	peers := []PeerConfig{{Address: slow.addr}, {Address: good.addr, Backup: true}}
	tr := newTransport(t, nil, PoolConfig{Name: "app", Peers: peers, TryTimeout: short(50 * time.Millisecond)})
	if res, _ := do(t, tr, viaPool(t, "GET", "site.test")); res.StatusCode != 200 {
		t.Errorf("%s", res.Status)
	}
	wantFault(t, fails(t, tr, viaPool(t, "POST", "site.test")), fault.ResponseTimeout, 504)
}

func TestMoreRequestsThanThePoolTakesAreTurnedAway(t *testing.T) {
	gate := make(chan struct{})
	busy := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for readRequestHead(r) != "" {
			<-gate
			io.WriteString(c, ok("x"))
		}
	})
	for _, c := range []PoolConfig{
		{Peers: at(busy.addr), MaxRequests: 2},
		{Peers: []PeerConfig{{Address: busy.addr, MaxConnections: 2}}},
		{Peers: []PeerConfig{{Address: busy.addr, MaxConnections: 2}}, Queue: 1, QueueTimeout: short(time.Millisecond)},
	} {
		c.Name = "app"
		tr := newTransport(t, nil, c)
		p := tr.pools["app"]
		var wg sync.WaitGroup
		for range 2 {
			req := viaPool(t, "GET", "site.test")
			wg.Go(func() {
				if res, err := tr.RoundTrip(req); err != nil {
					t.Error(err)
				} else {
					res.Body.Close()
				}
			})
		}
		eventually(t, "two are under way", func() bool { return p.running.Load() == 2 })
		err := fails(t, tr, viaPool(t, "GET", "site.test"))
		wantFault(t, err, fault.ConnectionLimitReached, 503)
		if f := fault.From(err); f.RetryAfter <= 0 || p.shed.Load() != 1 {
			t.Errorf("again in %s, %d shed", f.RetryAfter, p.shed.Load())
		}
		gate <- struct{}{}
		gate <- struct{}{}
		wg.Wait()
		eventually(t, "nothing is under way", func() bool { return p.running.Load() == 0 })
	}
}

func TestTheBreakerLeavesAPoolAloneThatFails(t *testing.T) {
	var asked atomic.Int32
	tr := newTransport(t, nil, PoolConfig{Name: "app", Peers: at(closing(t, &asked).addr), Tries: 1,
		Breaker: &BreakerConfig{Requests: 5, Open: short(time.Hour)}})
	for range 5 {
		wantFault(t, fails(t, tr, viaPool(t, "GET", "site.test")), fault.ConnectionTerminated, 502)
	}
	err := fails(t, tr, viaPool(t, "GET", "site.test"))
	wantFault(t, err, fault.DestinationUnavailable, 503)
	if f := fault.From(err); f.RetryAfter != time.Hour || asked.Load() != 5 {
		t.Errorf("again in %s; the peer was asked %d times", f.RetryAfter, asked.Load())
	}
	if s := tr.Pools()[0]; s.Breaker != "open" || s.Failed != 5 {
		t.Errorf("%+v", s)
	}
}

func TestChecksFindWhoIsUnfitAndAPoolWithoutFitPeersSaysSo(t *testing.T) {
	var sick atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" && sick.Load() {
			w.WriteHeader(500)
		}
	}))
	t.Cleanup(srv.Close)
	addr := srv.Listener.Addr().String()
	check := &CheckConfig{Path: "/healthz", Interval: short(5 * time.Millisecond), Rise: 1, Fall: 2}
	tr := newTransport(t, nil, PoolConfig{Name: "app", Peers: at(addr), Check: check})
	tr.Watch(slog.New(slog.DiscardHandler))
	state := func() string { return tr.Pools()[0].Peers[0].State }
	do(t, tr, viaPool(t, "GET", "site.test"))
	sick.Store(true)
	eventually(t, "the peer is unfit", func() bool { return state() == PeerUnfit })
	if why := tr.Pools()[0].Peers[0].Why; !strings.Contains(why, "500") {
		t.Errorf("why: %q", why)
	}
	err := fails(t, tr, viaPool(t, "GET", "site.test"))
	wantFault(t, err, fault.DestinationUnavailable, 503)
	if f := fault.From(err); !strings.Contains(f.Details, "app") || f.RetryAfter <= 0 {
		t.Errorf("told %q, again in %s", f.Details, f.RetryAfter)
	}
	sick.Store(false)
	eventually(t, "the peer is fit", func() bool { return state() == PeerUp })
	do(t, tr, viaPool(t, "GET", "site.test"))
}

func TestACheckWithoutAPathAsksForAConnection(t *testing.T) {
	o := answering(t, ok(""))
	tr := newTransport(t, nil, PoolConfig{Name: "app", Peers: at(o.addr, deadAddr(t)), Check: &CheckConfig{}})
	p := tr.pools["app"]
	if good, bad := tr.check(t.Context(), p, p.peers()[0]), tr.check(t.Context(), p, p.peers()[1]); good != nil || bad == nil {
		t.Errorf("%v, %v", good, bad)
	}
	if _, inUse := tr.Stats(); inUse != 0 {
		t.Errorf("%d connections are left", inUse)
	}
}

func TestAReloadKeepsWhatIsKnownOfTheSamePeer(t *testing.T) {
	one := newTransport(t, nil, PoolConfig{Name: "app", Peers: at("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"), Check: &CheckConfig{}})
	p := one.pools["app"]
	p.peers()[0].eject(time.Now(), time.Hour, time.Hour)
	p.peers()[1].unfit.Store(true)
	if err := one.Drain("app", "127.0.0.1:3", true); err != nil {
		t.Fatal(err)
	}
	if one.Drain("app", "127.0.0.1:9", true) == nil || one.Drain("other", "127.0.0.1:3", true) == nil {
		t.Error("a peer that is not there was drained")
	}
	two := newTransport(t, nil, PoolConfig{Name: "app", Peers: at("127.0.0.1:3", "127.0.0.1:4", "127.0.0.1:2", "127.0.0.1:1"), Check: &CheckConfig{}},
		PoolConfig{Name: "other", Peers: at("127.0.0.1:1")})
	two.Inherit(one)
	var got []string
	for _, pool := range two.Pools() {
		for _, peer := range pool.Peers {
			got = append(got, peer.State)
		}
	}
	if s := strings.Join(got, " "); s != "drained up unfit ejected up" {
		t.Errorf("%s", s)
	}
	three := newTransport(t, nil, PoolConfig{Name: "app", Peers: at("127.0.0.1:2")})
	if three.Inherit(one); three.Pools()[0].Peers[0].State != PeerUp {
		t.Error("a peer stays unfit that nobody checks any more")
	}
}

func TestStickyValuesSayNothingAndLastOverReloads(t *testing.T) {
	c := PoolConfig{Name: "app", Peers: at("127.0.0.1:1", "127.0.0.1:2"), StickyCookie: "s"}
	one, two := newTransport(t, nil, c), newTransport(t, nil, c)
	a, b := one.StickyValue("app", "app/127.0.0.1:1"), one.StickyValue("app", "app/127.0.0.1:2")
	if a == "" || a == b || strings.Contains(a, "127") || a != two.StickyValue("app", "app/127.0.0.1:1") {
		t.Errorf("%q, %q", a, b)
	}
	if one.StickyValue("app", "NONE") != "" || one.StickyCookie("none") != "" {
		t.Error("a cookie for no peer")
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("too short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.StickyKeyFile = file
	if _, err := New(DefaultConfig(), []PoolConfig{c}); err == nil || !strings.HasPrefix(err.Error(), "pool[0].sticky_key_file") {
		t.Errorf("a short key: %v", err)
	}
}

func TestPeersAreVerifiedAndSeeWhoAsks(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.TLS.PeerCertificates[0].Subject.Organization[0])
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pair := srv.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	ca := file("ca.pem", "CERTIFICATE", pair.Certificate[0])
	mutual := PeerTLSConfig{CA: ca, Cert: ca, Key: file("key.pem", "PRIVATE KEY", key), ServerName: "example.com"}
	for _, tt := range []struct {
		what   string
		change func(*PeerTLSConfig)
		ok     bool
	}{
		{"as it should be", func(*PeerTLSConfig) {}, true},
		{"the address as the name, which the certificate has", func(c *PeerTLSConfig) { c.ServerName = "" }, true},
		{"another name", func(c *PeerTLSConfig) { c.ServerName = "other.test" }, false},
		{"an authority that nobody trusts", func(c *PeerTLSConfig) { c.CA = "" }, false},
		{"no certificate of our own", func(c *PeerTLSConfig) { c.Cert, c.Key = "", "" }, false},
	} {
		c := mutual
		tt.change(&c)
		tr := newTransport(t, nil, PoolConfig{Name: "app", Peers: at(srv.Listener.Addr().String()), TLS: &c, Tries: 1})
		res, err := tr.RoundTrip(viaPool(t, "GET", "site.test"))
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.what, err)
		}
		if err == nil {
			if body, _ := io.ReadAll(res.Body); string(body) != "Acme Co" {
				t.Errorf("%s: the peer saw %q", tt.what, body)
			}
			res.Body.Close()
		}
	}
}
