package upstream

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"fwdproxy/internal/header"
	"fwdproxy/internal/problem"
	"fwdproxy/internal/target"
	"fwdproxy/internal/unit"
)

// PoolConfig is one table [[pool]].
type PoolConfig struct {
	// Name is what sites call the pool.
	Name string `toml:"name"`
	// Peers is the servers, as "host:port" or as a table {address = "host:port", weight = 1, backup = false, max_connections = 0}: a peer of weight 2 gets twice the requests of one with 1, a backup gets some only while no other peer is fit, and max_connections bounds the requests under way at the peer, 0 being no bound. They speak HTTP/1.1, in plain unless there is a [pool.tls].
	Peers []PeerConfig `toml:"peers"`
	// PeersFrom is where further peers are looked up: "dns+a://app.internal:8080", every IPv4 address of the name, at that port; "dns+aaaa://app.internal:8080", every IPv6 address; "dns+srv://_http._tcp.app.internal", the servers of SRV records (RFC 2782) with their ports and weights, those of the lowest priority first and the others as backups. Names are looked up as they are. A look-up that fails, or names no server, changes nothing.
	PeersFrom string `toml:"peers_from"`
	// PeersRefresh is the longest time between two look-ups; "30s" when left out. A shorter TTL of the answer holds, down to 1s.
	PeersRefresh unit.Duration `toml:"peers_refresh"`
	// PeersMaxConnections is the max_connections of each peer that was looked up; 0 is no bound.
	PeersMaxConnections int `toml:"peers_max_connections"`
	// Balance is how a peer is chosen: "round_robin" (also when left out); "least_conn", the one with the fewest requests under way; "two_choices", the less busy of two picked at random; "hash", the same one for the same hash_by, where a peer that goes or comes moves only its own share, and one with a quarter more than its share of the requests under way passes further ones on. All keep to the weights.
	Balance string `toml:"balance"`
	// HashBy is what "hash" goes by: "client", the address that asks (also when left out), "header:NAME" or "cookie:NAME"; a request without the field or cookie goes by its address.
	HashBy string `toml:"hash_by"`
	// StickyCookie is the name of a cookie that binds a browser session to the peer that answered it first, while that peer is fit. Its value says nothing about the peer. "" sets none.
	StickyCookie string `toml:"sticky_cookie"`
	// StickyKeyFile is a file with a secret of at least 32 bytes that the cookie's values are made with; proxies that share it know each other's cookies. Left out, a restart forgets who is bound where.
	StickyKeyFile string `toml:"sticky_key_file"`
	// MaxRequests is the most requests under way at the pool; one more gets 503 at once. 0 is no bound.
	MaxRequests int `toml:"max_requests"`
	// Queue is how many requests may wait while every fit peer has its max_connections; one more gets 503.
	Queue int `toml:"queue"`
	// QueueTimeout is how long a request may wait there before it gets 503; "1s" when left out.
	QueueTimeout unit.Duration `toml:"queue_timeout"`
	// SlowStart is the time over which a peer that is fit again, or was looked up when the pool had others, grows from a tenth of its weight to the whole; left out, it has it at once.
	SlowStart unit.Duration `toml:"slow_start"`
	// Tries is how often a request may be sent, the first time included; 3 when left out, 1 for never again. Only a request that is idempotent and has no body is sent again (RFC 9110, Section 9.2.2), after a pause that grows from 25 ms with chance in it. A peer that cannot be connected to got nothing, and is passed over whatever the request is.
	Tries int `toml:"tries"`
	// TryTimeout is how long a peer may take to the head of its answer before another is tried; left out, upstream.response_timeout holds and a time-out is not tried again.
	TryTimeout unit.Duration `toml:"try_timeout"`
	// RetryStatus is the statuses after which another peer is tried, of 500 and above, as in [502, 503, 504]; where none is left the answer stands.
	RetryStatus []int `toml:"retry_status"`
	// RetryBudget is how many requests may be sent again, in percent of those that came, and 10 beside; 20 when left out. Without it a pool in trouble gets a multiple of its load.
	RetryBudget int `toml:"retry_budget"`
	// Check is asking the peers whether they are fit; without the table nobody asks.
	Check *CheckConfig `toml:"check"`
	// Eject is when a peer that fails requests is left alone for a while; it holds without the table too.
	Eject *EjectConfig `toml:"eject"`
	// Breaker is when the whole pool gets no request for a while; without the table never.
	Breaker *BreakerConfig `toml:"breaker"`
	// TLS is TLS to the peers, verified always; without the table they are spoken to in plain.
	TLS *PeerTLSConfig `toml:"tls"`
}

// PeerConfig is one server of a pool.
type PeerConfig struct {
	Address        string
	Weight         int // 0 and 1 are the same unless Weighted
	Weighted       bool
	Backup         bool
	MaxConnections int
}

// UnmarshalTOML reads "host:port" or a table.
func (c *PeerConfig) UnmarshalTOML(v any) error {
	if s, ok := v.(string); ok {
		*c = PeerConfig{Address: s}
		return nil
	}
	table, ok := v.(map[string]any)
	if !ok {
		return errors.New(`a peer is "host:port", or {address = "host:port", weight = 1, backup = false, max_connections = 0}`)
	}
	for key, value := range table {
		var fits bool
		switch key {
		case "address":
			c.Address, fits = value.(string)
		case "weight":
			c.Weight, fits = whole(value)
			c.Weighted = true
		case "backup":
			c.Backup, fits = value.(bool)
		case "max_connections":
			c.MaxConnections, fits = whole(value)
		default:
			return fmt.Errorf("unknown key %q; a peer has address, weight, backup and max_connections", key)
		}
		if !fits {
			return fmt.Errorf("%v cannot be the %s of a peer", value, key)
		}
	}
	return nil
}

func whole(v any) (int, bool) {
	n, ok := v.(int64)
	if !ok || n != int64(int32(n)) {
		return 0, false
	}
	return int(n), true
}

// CheckConfig is the table [pool.check].
type CheckConfig struct {
	// Path is what peers are asked for with GET, as in "/healthz"; left out, it is enough that they take a connection.
	Path string `toml:"path"`
	// Host is the Host field of the question; the peer's address when left out.
	Host string `toml:"host"`
	// Status is the statuses of a fit peer; 200 to 399 when left out.
	Status []int `toml:"status"`
	// Interval is the time between two questions to a peer; "5s" when left out.
	Interval unit.Duration `toml:"interval"`
	// Timeout is how long the answer may take; "2s" when left out.
	Timeout unit.Duration `toml:"timeout"`
	// Rise is how many right answers in a row make a peer fit again; 2 when left out.
	Rise int `toml:"rise"`
	// Fall is how many failures in a row make it unfit; 3 when left out.
	Fall int `toml:"fall"`
}

// EjectConfig is the table [pool.eject].
type EjectConfig struct {
	// Failures is how many failed requests in a row put a peer aside; 5 when left out. One that cannot be connected to is put aside at once. A peer put aside is still asked when no other is left.
	Failures int `toml:"failures"`
	// Status is the statuses that count as a failure, of 500 and above; [502, 503, 504] when left out.
	Status []int `toml:"status"`
	// Time is how long it is put aside the first time; each time further in a row takes twice as long. "5s" when left out.
	Time unit.Duration `toml:"time"`
	// MaxTime is the longest; "5m" when left out.
	MaxTime unit.Duration `toml:"max_time"`
	// MaxShare is the most of the pool's peers, in percent, that failed requests put aside at a time; 50 when left out. Those that cannot be connected to are not counted in.
	MaxShare int `toml:"max_share"`
}

// BreakerConfig is the table [pool.breaker].
type BreakerConfig struct {
	// Failures is the percentage of failed requests at which the pool gets no more; 50 when left out.
	Failures int `toml:"failures"`
	// Requests is how many there must have been for that in the window; 20 when left out.
	Requests int `toml:"requests"`
	// Window is the time over which they are counted; "10s" when left out.
	Window unit.Duration `toml:"window"`
	// Open is for how long every request gets 503, or what is stored, before a few are let through to see; "5s" when left out.
	Open unit.Duration `toml:"open"`
}

// PeerTLSConfig is the table [pool.tls].
type PeerTLSConfig struct {
	// CA is a PEM file of the authorities that sign the peers' certificates, these alone; left out, the system's and upstream.ca_file.
	CA string `toml:"ca"`
	// Cert is a PEM file with the certificate, and its chain, that this proxy shows to peers; left out, it shows none.
	Cert string `toml:"cert"`
	// Key is the PEM file with the certificate's key.
	Key string `toml:"key"`
	// ServerName is the name that the certificates must have; the host of the peer's address when left out.
	ServerName string `toml:"server_name"`
}

// The ways to choose a peer.
const (
	roundRobin = "round_robin"
	leastConn  = "least_conn"
	twoChoices = "two_choices"
	byHash     = "hash"
)

const maxWeight = 100

// ValidatePools returns every problem of the [[pool]] tables.
func ValidatePools(pools []PoolConfig) problem.List {
	var p problem.List
	var names []string
	for i, c := range pools {
		key := "pool[" + strconv.Itoa(i) + "]"
		switch {
		case c.Name == "":
			p.Add(key+".name", "give it the name that its sites use", "the pool has no name")
		case slices.Contains(names, c.Name):
			p.Add(key+".name", "choose another name", "another pool is called %q", c.Name)
		}
		names = append(names, c.Name)
		c.validatePeers(key, &p)
		c.validateChoice(key, &p)
		c.validateNumbers(key, &p)
		c.validateTables(key, &p)
	}
	return p
}

func (c PoolConfig) validatePeers(key string, p *problem.List) {
	if len(c.Peers) == 0 && c.PeersFrom == "" {
		p.Add(key+".peers", `write for example ["127.0.0.1:9000"], or peers_from = "dns+a://app.internal:8080"`, "the pool has no peer")
	}
	c.validateSource(key, p)
	seen := map[string]bool{}
	for j, peer := range c.Peers {
		at := key + ".peers[" + strconv.Itoa(j) + "]"
		to, err := target.FromAuthority(peer.Address, "")
		switch {
		case err != nil:
			p.Add(at, `write host:port, as in "127.0.0.1:9000"`, "%v", err)
		case seen[to.HostPort()]:
			p.Add(at, "leave it out; weight gives a peer a larger share", "%q is in the pool already", peer.Address)
		case peer.Weighted && (peer.Weight < 1 || peer.Weight > maxWeight):
			p.Add(at, "write a weight from 1 to 100; to take a peer out, leave it out or drain it", "the weight %d is out of range", peer.Weight)
		case peer.MaxConnections < 0:
			p.Add(at, "write 0 for no bound, or more", "max_connections = %d is negative", peer.MaxConnections)
		}
		seen[to.HostPort()] = err == nil
	}
	if len(c.Peers) > 0 && c.PeersFrom == "" && !slices.ContainsFunc(c.Peers, func(peer PeerConfig) bool { return !peer.Backup }) {
		p.Add(key+".peers", "take backup away from one", "every peer is a backup, for nothing")
	}
}

func (c PoolConfig) validateSource(key string, p *problem.List) {
	if c.PeersFrom == "" {
		if c.PeersRefresh != 0 {
			p.Add(key+".peers_refresh", "name peers_from, or leave it out", "nothing is looked up")
		}
		if c.PeersMaxConnections != 0 {
			p.Add(key+".peers_max_connections", "name peers_from, or give each of peers its max_connections", "no peer is looked up")
		}
		return
	}
	if scheme, _, _, err := parseSource(c.PeersFrom); err != nil {
		hint := `write "dns+a://app.internal:8080", with "dns+aaaa" for IPv6, or "dns+srv://_http._tcp.app.internal"`
		if scheme == fromSRV {
			hint = `write "dns+srv://_http._tcp.app.internal", without a port`
		}
		p.Add(key+".peers_from", hint, "%v", err)
	}
	notNegative(p, key+".peers_refresh", c.PeersRefresh)
	atLeast(p, key+".peers_max_connections", c.PeersMaxConnections, 0)
}

func (c PoolConfig) validateChoice(key string, p *problem.List) {
	if !slices.Contains([]string{"", roundRobin, leastConn, twoChoices, byHash}, c.Balance) {
		p.Add(key+".balance", `write "round_robin", "least_conn", "two_choices" or "hash"`, "%q is no way to choose a peer", c.Balance)
	}
	kind, name, named := strings.Cut(c.HashBy, ":")
	switch {
	case c.HashBy != "" && c.Balance != byHash:
		p.Add(key+".hash_by", `write balance = "hash", or leave it out`, "nothing goes by it")
	case c.HashBy != "" && c.HashBy != "client" && (!named || kind != "header" && kind != "cookie" || !header.IsToken(name)):
		p.Add(key+".hash_by", `write "client", "header:NAME" or "cookie:NAME"`, "%q is nothing to go by", c.HashBy)
	}
	if c.StickyCookie != "" && !header.IsToken(c.StickyCookie) {
		p.Add(key+".sticky_cookie", "write letters, digits, \"-\" and \"_\"", "%q cannot be the name of a cookie", c.StickyCookie)
	}
	if c.StickyKeyFile != "" && c.StickyCookie == "" {
		p.Add(key+".sticky_key_file", "name a sticky_cookie, or leave it out", "no cookie is made with it")
	}
}

func (c PoolConfig) validateNumbers(key string, p *problem.List) {
	atLeast(p, key+".max_requests", c.MaxRequests, 0)
	atLeast(p, key+".queue", c.Queue, 0)
	atLeast(p, key+".tries", c.Tries, 0)
	percentage(p, key+".retry_budget", c.RetryBudget)
	for _, d := range []struct {
		key   string
		value unit.Duration
	}{{"queue_timeout", c.QueueTimeout}, {"slow_start", c.SlowStart}, {"try_timeout", c.TryTimeout}} {
		notNegative(p, key+"."+d.key, d.value)
	}
	statuses(p, key+".retry_status", c.RetryStatus, 500)
	limited := func(peer PeerConfig) bool { return peer.MaxConnections > 0 }
	if c.Queue > 0 && c.PeersMaxConnections == 0 && !slices.ContainsFunc(c.Peers, limited) {
		p.Add(key+".queue", "give peers a max_connections, or leave it out", "nothing waits: no peer has max_connections")
	}
}

func (c PoolConfig) validateTables(key string, p *problem.List) {
	if k := c.Check; k != nil {
		if k.Path != "" && (k.Path[0] != '/' || !isVisible(k.Path)) {
			p.Add(key+".check.path", `write a path, as in "/healthz"`, "%q is not a path", k.Path)
		}
		if k.Path == "" && (k.Host != "" || len(k.Status) > 0) {
			p.Add(key+".check.path", `write a path, as in "/healthz"`, "without a path nothing is asked that could have a host or a status")
		}
		if _, _, err := target.ParseHost(k.Host); k.Host != "" && err != nil {
			p.Add(key+".check.host", "write a host name", "%v", err)
		}
		statuses(p, key+".check.status", k.Status, 200)
		notNegative(p, key+".check.interval", k.Interval)
		notNegative(p, key+".check.timeout", k.Timeout)
		atLeast(p, key+".check.rise", k.Rise, 0)
		atLeast(p, key+".check.fall", k.Fall, 0)
	}
	if e := c.Eject; e != nil {
		atLeast(p, key+".eject.failures", e.Failures, 0)
		statuses(p, key+".eject.status", e.Status, 500)
		notNegative(p, key+".eject.time", e.Time)
		notNegative(p, key+".eject.max_time", e.MaxTime)
		percentage(p, key+".eject.max_share", e.MaxShare)
	}
	if b := c.Breaker; b != nil {
		percentage(p, key+".breaker.failures", b.Failures)
		atLeast(p, key+".breaker.requests", b.Requests, 0)
		notNegative(p, key+".breaker.window", b.Window)
		notNegative(p, key+".breaker.open", b.Open)
	}
	if t := c.TLS; t != nil {
		if (t.Cert == "") != (t.Key == "") {
			p.Add(key+".tls.cert", "name cert and key both, or neither", "a certificate and its key belong together")
		}
		if _, _, err := target.ParseHost(t.ServerName); t.ServerName != "" && err != nil {
			p.Add(key+".tls.server_name", "write a host name", "%v", err)
		}
	}
}

func atLeast(p *problem.List, key string, n, least int) {
	if n < least {
		p.Add(key, "write "+strconv.Itoa(least)+" or more", "%d is out of range", n)
	}
}

func percentage(p *problem.List, key string, n int) {
	if n < 0 || n > 100 {
		p.Add(key, "write a number from 1 to 100", "%d is no percentage", n)
	}
}

func notNegative(p *problem.List, key string, d unit.Duration) {
	if d < 0 {
		p.Add(key, `write a duration such as "30s"`, "it is negative")
	}
}

func statuses(p *problem.List, key string, list []int, least int) {
	for i, s := range list {
		if s < least || s > 599 {
			p.Add(key+"["+strconv.Itoa(i)+"]", fmt.Sprintf("write a status from %d to 599", least), "%d is out of range", s)
		}
	}
}

// or returns v, or what holds when it was left out.
func or[T int | unit.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// filled fills in what was left out.
func (c PoolConfig) filled() PoolConfig {
	c.QueueTimeout = or(c.QueueTimeout, unit.Duration(time.Second))
	c.PeersRefresh = or(c.PeersRefresh, unit.Duration(30*time.Second))
	c.Tries = or(c.Tries, 3)
	c.RetryBudget = or(c.RetryBudget, 20)
	var e EjectConfig
	if c.Eject != nil {
		e = *c.Eject
	}
	if e.Failures = or(e.Failures, 5); len(e.Status) == 0 {
		e.Status = []int{502, 503, 504}
	}
	e.Time = or(e.Time, unit.Duration(restAfterFailure))
	e.MaxTime = max(e.Time, or(e.MaxTime, unit.Duration(5*time.Minute)))
	e.MaxShare = or(e.MaxShare, 50)
	c.Eject = &e
	if c.Check != nil {
		k := *c.Check
		k.Interval = or(k.Interval, unit.Duration(5*time.Second))
		k.Timeout = or(k.Timeout, unit.Duration(2*time.Second))
		k.Rise, k.Fall = or(k.Rise, 2), or(k.Fall, 3)
		c.Check = &k
	}
	if c.Breaker != nil {
		b := *c.Breaker
		b.Failures, b.Requests = or(b.Failures, 50), or(b.Requests, 20)
		b.Window, b.Open = or(b.Window, unit.Duration(10*time.Second)), or(b.Open, unit.Duration(5*time.Second))
		c.Breaker = &b
	}
	return c
}
