package upstream

import (
	"slices"
	"testing"

	"fwdproxy/internal/problem"
)

func keys(l problem.List) []string {
	var out []string
	for _, p := range l {
		if p.Message == "" {
			out = append(out, "no message")
		}
		out = append(out, p.Key)
	}
	return out
}

func TestTheDefaultsAreValid(t *testing.T) {
	if p := append(DefaultConfig().Validate(), ValidatePools(nil)...); len(p) > 0 {
		t.Error(p)
	}
}

func TestEveryProblemIsFoundAtItsKey(t *testing.T) {
	bad := Config{
		MaxIdle: -1, MaxIdlePerHost: -1, MaxHeader: 1, MaxHeaders: 1, Resolver: "dns.test",
		Hosts: map[string][]string{"A.test": {"192.0.2.1"}, "b.test": {"x", "fe80::1%eth0"}, "c.test": nil, "d test": {"::1"}, "192.0.2.1": {"::1"}},
	}
	want := []string{
		"upstream.connect_timeout", "upstream.response_timeout", "upstream.read_timeout", "upstream.keepalive",
		"upstream.max_idle", "upstream.max_idle_per_host", "upstream.max_header", "upstream.max_headers",
		`upstream.hosts."192.0.2.1"`, `upstream.hosts."A.test"`, `upstream.hosts."b.test"`, `upstream.hosts."b.test"`,
		`upstream.hosts."c.test"`, `upstream.hosts."d test"`, "upstream.resolver",
	}
	if got := keys(bad.Validate()); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	pools := []PoolConfig{
		{Name: "a", Peers: []string{"127.0.0.1:1", "no port", "b:0"}, Balance: "random"},
		{Name: "a", Peers: []string{"x:1"}, Balance: leastConn},
		{},
	}
	want = []string{"pool[0].peers[1]", "pool[0].peers[2]", "pool[0].balance", "pool[1].name", "pool[2].name", "pool[2].peers"}
	if got := keys(ValidatePools(pools)); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
