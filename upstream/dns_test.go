package upstream

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"fwdproxy/internal/proxytest"
)

func TestRecordsComeWithTheLeastTTLAndThroughAliases(t *testing.T) {
	s := proxytest.StartNameServer(t)
	s.Set("app.test", "A", proxytest.DNSAnswer{TTL: 7, Data: []string{"192.0.2.1", "192.0.2.2"}, Alias: "real.test."})
	s.Set("six.test", "AAAA", proxytest.DNSAnswer{TTL: 1 << 31, Data: []string{"2001:db8::1"}})
	s.Set("large.test", "A", proxytest.DNSAnswer{TTL: 9, Data: []string{"192.0.2.3"}, Truncated: true})
	s.Set("forged.test", "A", proxytest.DNSAnswer{TTL: 9, Data: []string{"192.0.2.4"}, Forged: true})
	for _, tt := range []struct {
		what, name string
		kind       dnsmessage.Type
		addrs      string
		ttl        time.Duration
	}{
		{"an alias", "app.test", dnsmessage.TypeA, "[192.0.2.1 192.0.2.2]", 7 * time.Second},
		{"a TTL with the first bit set is 0 (RFC 2181, Section 8)", "six.test", dnsmessage.TypeAAAA, "[2001:db8::1]", 0},
		{"an answer with no room in UDP is asked for over TCP", "large.test", dnsmessage.TypeA, "[192.0.2.3]", 9 * time.Second},
		{"what has another ID is not the answer", "forged.test", dnsmessage.TypeA, "[192.0.2.4]", 9 * time.Second},
	} {
		r, err := dnsClient{server: s.Addr}.ask(t.Context(), tt.name, tt.kind)
		if err != nil || fmt.Sprint(r.addrs) != tt.addrs || r.ttl != tt.ttl {
			t.Errorf("%s: %v, %s, %v", tt.what, r.addrs, r.ttl, err)
		}
	}
}

func TestOnlyAServersWordMeansThatThereAreNoRecords(t *testing.T) {
	s := proxytest.StartNameServer(t)
	s.Set("six.test", "AAAA", proxytest.DNSAnswer{Data: []string{"2001:db8::1"}})
	s.Set("broken.test", "A", proxytest.DNSAnswer{Code: dnsmessage.RCodeServerFailure})
	s.Set("refused.test", "A", proxytest.DNSAnswer{Code: dnsmessage.RCodeRefused})
	for name, tt := range map[string]struct {
		none bool
		says string
	}{
		"gone.test":    {true, "no name server knows gone.test"},
		"six.test":     {true, "six.test has no record of type A"},
		"broken.test":  {false, s.Addr + ": it answers ServerFailure"},
		"refused.test": {false, s.Addr + ": it answers Refused"},
	} {
		_, err := dnsClient{server: s.Addr}.ask(t.Context(), name, dnsmessage.TypeA)
		if err == nil || errors.Is(err, errNoRecords) != tt.none || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
		if n := s.Asked(name, "A"); tt.none != (n == 1) {
			t.Errorf("%s was asked for %d times", name, n)
		}
	}
	// Nobody listens, and its failure reads the same each time.
	var said []string
	for range 2 {
		_, err := dnsClient{server: deadAddr(t)}.ask(t.Context(), "app.test", dnsmessage.TypeA)
		if err == nil || errors.Is(err, errNoRecords) || strings.Contains(err.Error(), "->") {
			t.Errorf("%v", err)
		}
		said = append(said, err.Error())
	}
	if !strings.Contains(said[0], "connection refused") {
		t.Errorf("%q", said)
	}
}

func TestTheSystemsNameServersAreReadFromItsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	for text, want := range map[string][]string{
		"":                        {"127.0.0.1:53"},
		"search a.test\n# none\n": {"127.0.0.1:53"},
		"nameserver 192.0.2.53\nnameserver\t2001:db8::53 # second\noptions ndots:5": {"192.0.2.53:53", "[2001:db8::53]:53"},
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := systemServers(file); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := systemServers(file + ".none"); !slices.Equal(got, []string{"127.0.0.1:53"}) {
		t.Errorf("%q", got)
	}
}

func FuzzReadRecords(f *testing.F) {
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("app.test."), Type: dnsmessage.TypeSRV, Class: dnsmessage.ClassINET}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 1, Response: true},
		Questions: []dnsmessage.Question{q},
		Answers: []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 5},
			Body:   &dnsmessage.SRVResource{Priority: 1, Weight: 2, Port: 80, Target: q.Name},
		}},
	}
	seed, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(seed[:20])
	f.Fuzz(func(t *testing.T, message []byte) {
		r, err := readRecords(message, 1, q)
		if (err == nil) != (len(r.srv) > 0) || len(r.addrs) > 0 || r.ttl < 0 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
