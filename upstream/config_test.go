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
		{Name: "a", Peers: at("127.0.0.1:1", "no port", "b:0"), Balance: "random"},
		{Name: "a", Peers: at("x:1"), Balance: leastConn},
		{},
		{Name: "b", Peers: []PeerConfig{{Address: "x:1", Weighted: true}, {Address: "X:1"}, {Address: "y:1", Weight: 101, Weighted: true}, {Address: "z:1", MaxConnections: -1}}},
		{Name: "c", Peers: []PeerConfig{{Address: "x:1", Backup: true}}, HashBy: "client", StickyCookie: "a b", Queue: 5},
		{Name: "d", Peers: at("x:1"), Balance: byHash, HashBy: "header:", StickyKeyFile: "f", Tries: -1, RetryBudget: 101, TryTimeout: -1, RetryStatus: []int{404}},
		{Name: "e", Peers: at("x:1"), Check: &CheckConfig{Path: "x", Status: []int{99}, Rise: -1}, Eject: &EjectConfig{MaxShare: 101}, Breaker: &BreakerConfig{Failures: 101}, TLS: &PeerTLSConfig{Cert: "c"}},
		{Name: "f", Peers: at("x:1"), Check: &CheckConfig{Host: "a b"}},
		{Name: "g", PeersFrom: "consul://app", PeersRefresh: -1, PeersMaxConnections: -1},
		{Name: "h", Peers: at("x:1"), PeersRefresh: 1, PeersMaxConnections: 1},
		{Name: "i", Peers: []PeerConfig{{Address: "x:1", Backup: true}}, PeersFrom: "dns+srv://_http._tcp.app", PeersMaxConnections: 1, Queue: 5},
	}
	want = []string{
		"pool[0].peers[1]", "pool[0].peers[2]", "pool[0].balance", "pool[1].name", "pool[2].name", "pool[2].peers",
		"pool[3].peers[0]", "pool[3].peers[1]", "pool[3].peers[2]", "pool[3].peers[3]",
		"pool[4].peers", "pool[4].hash_by", "pool[4].sticky_cookie", "pool[4].queue",
		"pool[5].hash_by", "pool[5].sticky_key_file", "pool[5].tries", "pool[5].retry_budget", "pool[5].try_timeout", "pool[5].retry_status[0]",
		"pool[6].check.path", "pool[6].check.status[0]", "pool[6].check.rise", "pool[6].eject.max_share", "pool[6].breaker.failures", "pool[6].tls.cert",
		"pool[7].check.path", "pool[7].check.host",
		"pool[8].peers_from", "pool[8].peers_refresh", "pool[8].peers_max_connections", "pool[9].peers_refresh", "pool[9].peers_max_connections",
	}
	if got := keys(ValidatePools(pools)); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
