package upstream

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"fwdproxy/internal/proxytest"
)

func TestPeersFromIsReadOrRefused(t *testing.T) {
	for in, want := range map[string]string{
		"dns+a://App.Internal:8080":            "dns+a app.internal 8080",
		"dns+aaaa://app:80":                    "dns+aaaa app 80",
		"dns+srv://_http._tcp.app.internal":    "dns+srv _http._tcp.app.internal 0",
		"dns+a://app.internal":                 "!",
		"dns+a://app.internal:0":               "!",
		"dns+a://192.0.2.1:80":                 "!is an address",
		"dns+a://[::1]:80":                     "!is an address",
		"dns+srv://_http._tcp.app.internal:80": "!has the ports itself",
		"dns+srv://192.0.2.1":                  "!is an address",
		"dns+srv://":                           "!",
		"dns+a://app:80/path":                  "!",
		"dns://app:80":                         "!no source of peers",
		"app.internal:8080":                    "!no source of peers",
	} {
		scheme, name, port, err := parseSource(in)
		if says, bad := strings.CutPrefix(want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v, want %q", in, err, says)
			}
		} else if got := fmt.Sprintf("%s %s %d", scheme, name, port); err != nil || got != want {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
}

func FuzzParseSource(f *testing.F) {
	f.Add("dns+a://app.internal:8080")
	f.Add("dns+srv://_http._tcp.app.internal")
	f.Fuzz(func(t *testing.T, s string) {
		scheme, name, port, err := parseSource(s)
		if err != nil {
			return
		}
		again := scheme + "://" + name
		if scheme != fromSRV {
			again += fmt.Sprintf(":%d", port)
		}
		s2, n2, p2, err := parseSource(again)
		if err != nil || s2 != scheme || n2 != name || p2 != port || name == "" {
			t.Errorf("%q became %q, and that %q %q %d, %v", s, again, s2, n2, p2, err)
		}
	})
}

// looked is what the source at peers_from says, in short.
func looked(t *testing.T, s *proxytest.NameServer, from string, hosts map[string][]netip.Addr) string {
	t.Helper()
	found, ttl, err := newSource(from, s.Addr, hosts).look(t.Context())
	if err != nil {
		return "! " + err.Error()
	}
	var out []string
	for _, m := range found {
		out = append(out, fmt.Sprintf("%s/%s/%d/%t", m.Address, m.host, m.Weight, m.Backup))
	}
	return strings.Join(out, " ") + " for " + ttl.String()
}

func TestEachAddressOfANameIsAPeer(t *testing.T) {
	s := proxytest.StartNameServer(t)
	s.Set("app.test", "A", proxytest.DNSAnswer{TTL: 5, Data: []string{"192.0.2.2", "192.0.2.1", "192.0.2.2", "0.0.0.0", "224.0.0.1"}})
	s.Set("app.test", "AAAA", proxytest.DNSAnswer{TTL: 6, Data: []string{"2001:db8::1"}})
	s.Set("hole.test", "A", proxytest.DNSAnswer{TTL: 5, Data: []string{"0.0.0.0"}})
	s.Set("empty.test", "A", proxytest.DNSAnswer{})
	hosts := map[string][]netip.Addr{"fixed.test": {netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9")}}
	for from, want := range map[string]string{
		"dns+a://app.test:8080":      "192.0.2.1:8080/app.test/0/false 192.0.2.2:8080/app.test/0/false for 5s",
		"dns+aaaa://app.test:8080":   "[2001:db8::1]:8080/app.test/0/false for 6s",
		"dns+a://fixed.test:8080":    "192.0.2.9:8080/fixed.test/0/false for 24h0m0s",
		"dns+aaaa://fixed.test:8080": "[2001:db8::9]:8080/fixed.test/0/false for 24h0m0s",
		"dns+a://hole.test:80":       "! the answer names no server",
		"dns+a://empty.test:80":      "! empty.test has no record of type A",
		"dns+a://gone.test:80":       "! no name server knows gone.test",
	} {
		if got := looked(t, s, from, hosts); got != want {
			t.Errorf("%s: %s, want %s", from, got, want)
		}
	}
	if n := s.Asked("fixed.test", "A"); n != 0 {
		t.Errorf("a name of upstream.hosts was asked for %d times", n)
	}
}

func TestServiceRecordsGivePortsWeightsAndBackups_RFC2782(t *testing.T) {
	s := proxytest.StartNameServer(t)
	s.Set("one.test", "A", proxytest.DNSAnswer{TTL: 30, Data: []string{"192.0.2.1"}})
	s.Set("two.test", "A", proxytest.DNSAnswer{TTL: 4, Data: []string{"192.0.2.2", "192.0.2.3"}})
	s.Set("six.test", "AAAA", proxytest.DNSAnswer{TTL: 30, Data: []string{"2001:db8::6"}})
	s.Set("sick.test", "A", proxytest.DNSAnswer{Code: dnsmessage.RCodeServerFailure})
	for what, tt := range map[string]struct {
		records []string
		want    string
	}{
		"the lowest priority first, the others as backups": {[]string{"20 0 80 six.test.", "10 3 8080 one.test.", "10 1 8081 two.test."},
			"192.0.2.1:8080/one.test/3/false 192.0.2.2:8081/two.test/1/false 192.0.2.3:8081/two.test/1/false [2001:db8::6]:80/six.test/1/true for 4s"},
		"weights in proportion, at most 100": {[]string{"0 60000 80 one.test.", "0 600 81 one.test.", "0 1 82 one.test."},
			"192.0.2.1:80/one.test/100/false 192.0.2.1:81/one.test/1/false 192.0.2.1:82/one.test/1/false for 9s"},
		"no backup is left alone": {[]string{"10 1 80 gone.test.", "20 1 80 one.test."}, "192.0.2.1:80/one.test/1/false for 9s"},
		"one address twice":       {[]string{"20 5 80 one.test.", "10 2 80 one.test."}, "192.0.2.1:80/one.test/2/false for 9s"},
		"no such service":         {[]string{"0 0 0 ."}, "! the answer names no server"},
		"one that cannot be told": {[]string{"0 0 80 one.test.", "0 0 80 sick.test."}, "! the name server " + s.Addr + ": it answers ServerFailure"},
	} {
		s.Set("_http._tcp.app.test", "SRV", proxytest.DNSAnswer{TTL: 9, Data: tt.records})
		if got := looked(t, s, "dns+srv://_http._tcp.app.test", nil); got != tt.want {
			t.Errorf("%s: %s, want %s", what, got, tt.want)
		}
	}
}

func TestASourceGivesNoMorePeersThanItsBound(t *testing.T) {
	var many []string
	for i := range 300 {
		many = append(many, fmt.Sprintf("192.0.%d.%d", i/200, i%200+1))
	}
	s := proxytest.StartNameServer(t)
	s.Set("app.test", "A", proxytest.DNSAnswer{TTL: 5, Data: many, Truncated: true})
	found, _, err := newSource("dns+a://app.test:80", s.Addr, nil).look(t.Context())
	if err != nil || len(found) != maxFound {
		t.Errorf("%d peers, %v", len(found), err)
	}
	if _, err := (dnsClient{server: s.Addr}).ask(t.Context(), strings.Repeat("a", 64)+".test", dnsmessage.TypeA); err == nil {
		t.Error("a label of 64 bytes was asked for")
	}
}
