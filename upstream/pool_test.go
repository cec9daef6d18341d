package upstream

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
)

// viaPool returns a request to the pool "app"; no address is permitted, which
// must not matter.
func viaPool(t *testing.T, method, host string) *http.Request {
	req := requestWith(t, &hop.Hop{Pool: "app"}, method, "http://"+host+"/", nil)
	return req
}

func TestAPeerGetsTheRequestsHost_RFC9112_3_2(t *testing.T) {
	o, got := recording(t)
	tr := newTransport(t, nil, PoolConfig{Name: "app", Peers: at(o.addr)})
	for _, host := range []string{"site.test", "other.test:8080"} {
		do(t, tr, viaPool(t, "GET", host))
		if head := <-got; !strings.Contains(head, "\r\nHost: "+host+"\r\n") {
			t.Errorf("sent %q", head)
		}
	}
	if o.conns.Load() != 1 {
		t.Errorf("%d connections", o.conns.Load())
	}
	wantFault(t, fails(t, tr, requestWith(t, &hop.Hop{Pool: "other"}, "GET", "http://a/", nil)), fault.ConfigurationError, 500)
}

// deadAddr returns an address that refuses connections.
func deadAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestAPeerThatCannotBeDialledIsPassedOver(t *testing.T) {
	o := answering(t, ok("good"))
	dead := deadAddr(t)
	tr := newTransport(t, nil, PoolConfig{Name: "app", Peers: at(dead, o.addr)})
	for range 6 {
		// POST as well: nothing was sent to the dead peer.
		if _, body := do(t, tr, viaPool(t, "POST", "site.test")); body != "good" {
			t.Errorf("%q", body)
		}
	}
	p := tr.pools["app"]
	if p.peers()[0].rest(time.Now()) != 1 || p.peers()[1].rest(time.Now()) != 0 {
		t.Error("the dead peer does not rest, or the live one does")
	}
	for _, peer := range p.peers() {
		if n := peer.active.Load(); n != 0 {
			t.Errorf("%s has %d requests under way", peer.name, n)
		}
	}
	tr = newTransport(t, nil, PoolConfig{Name: "app", Peers: at(dead, deadAddr(t))})
	err := fails(t, tr, viaPool(t, "GET", "site.test"))
	wantFault(t, err, fault.ConnectionRefused, 502)
	if f := fault.From(err); f.RetryAfter <= 0 || !strings.Contains(f.Details, "pool app") {
		t.Errorf("told %q, again in %s", f.Details, f.RetryAfter)
	}
}

func TestRequestsUnderWayAreCountedUntilTheBodyEnds(t *testing.T) {
	gate := make(chan struct{})
	busy := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for readRequestHead(r) != "" {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbu")
			<-gate
			io.WriteString(c, "sy")
		}
	})
	free := answering(t, ok("free"))
	tr := newTransport(t, nil, PoolConfig{Name: "app", Peers: at(busy.addr, free.addr), Balance: leastConn})
	res, err := tr.RoundTrip(viaPool(t, "GET", "site.test"))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, body := do(t, tr, viaPool(t, "GET", "site.test")); body != "free" {
			t.Errorf("the busy peer was chosen: %q", body)
		}
	}
	close(gate)
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "busy" {
		t.Errorf("%q, %v", body, err)
	}
	for _, peer := range tr.pools["app"].peers() {
		if n := peer.active.Load(); n != 0 {
			t.Errorf("%s has %d requests under way", peer.name, n)
		}
	}
}
