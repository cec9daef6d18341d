package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"fwdproxy/internal/proxytest"
)

// TestAPoolFollowsItsServiceRecordsUnderLoad changes who serves, breaks the
// name server, and reloads, while a client asks all the time: every request is
// answered.
func TestAPoolFollowsItsServiceRecordsUnderLoad(t *testing.T) {
	dns := proxytest.StartNameServer(t)
	serve := func(name string) (record string) {
		p := &goPeer{addr: "127.0.0.1:0"}
		p.start(t)
		t.Cleanup(p.kill)
		p.srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "no-store")
			io.WriteString(w, name)
		})
		_, port, _ := strings.Cut(p.addr, ":")
		return "0 1 " + port + " here.test."
	}
	one, two := serve("one"), serve("two")
	dns.Set("here.test", "A", proxytest.DNSAnswer{Data: []string{"127.0.0.1"}})
	records := func(r ...string) {
		dns.Set("_http._tcp.app.test", "SRV", proxytest.DNSAnswer{Data: r})
	}
	records(one)

	file := filepath.Join(t.TempDir(), "policy.toml")
	write := func(balance string) {
		t.Helper()
		text := fmt.Sprintf(`[reverse]
listen = ["127.0.0.1:0"]
[[reverse.site]]
hosts = ["*"]
pool = "app"
[[pool]]
name = "app"
peers_from = "dns+srv://_http._tcp.app.test"
peers_refresh = "20ms"
balance = %q
[upstream]
resolver = %q
[log]
access = "none"
[admin]
listen = "127.0.0.1:0"
[[acl.rule]]
action = "allow"
`, balance, dns.Addr)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("round_robin")
	p, err := loadPolicy(file)
	if err != nil {
		t.Fatal(err)
	}
	var said syncBuffer
	s, err := start(modeReverse, p, nil, io.Discard, &said)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.front.Close(); s.admin.Close(); s.access.Close(); s.current.Load().upstream.Close() })
	url := "http://" + s.doors.addrs()[0].String() + "/"
	get := func(url string) string {
		t.Helper()
		res, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%s: %s, %v", res.Status, body, err)
		}
		return string(body)
	}
	// until asks until the last twenty answers, of which none may fail, hold
	// these names alone.
	until := func(what string, want ...string) {
		t.Helper()
		for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
			got := map[string]bool{}
			for range 20 {
				got[get(url)] = true
			}
			right := len(got) == len(want)
			for _, name := range want {
				right = right && got[name]
			}
			if right {
				return
			}
			if time.Since(began) > 30*time.Second {
				t.Fatalf("%s: %v answer, want %q\n%s", what, got, want, &said)
			}
		}
	}
	until("the first request waits for the first look-up", "one")
	records(one, two)
	until("one more", "one", "two")
	records(two)
	until("one less", "two")
	for code, says := range map[dnsmessage.RCode]string{dnsmessage.RCodeServerFailure: "ServerFailure", dnsmessage.RCodeNameError: "no name server knows _http._tcp.app.test"} {
		dns.Set("_http._tcp.app.test", "SRV", proxytest.DNSAnswer{Code: code})
		for began := time.Now(); !strings.Contains(said.String(), says); time.Sleep(5 * time.Millisecond) {
			get(url)
			if time.Since(began) > 30*time.Second {
				t.Fatalf("%s is not said:\n%s", says, &said)
			}
		}
		until(says, "two")
	}
	write("least_conn")
	if _, err := s.reloadNow(); err != nil {
		t.Fatal(err)
	}
	until("after a reload", "two")
	records(one)
	until("the name server is back", "one")

	metrics := get("http://" + s.adminAddr.String() + "/metrics")
	for _, want := range []string{
		`fwdproxy_pool_peer_changes_total{is="added",pool="app"} 3`,
		`fwdproxy_pool_peer_changes_total{is="removed",pool="app"} 2`,
		`fwdproxy_pool_lookups_total{is="failed",pool="app"} `,
		`fwdproxy_pool_lookups_total{is="ok",pool="app"} `,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
	for _, want := range []string{`"peers changed"`, `"peers can be looked up again"`} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, &said)
		}
	}
}
