package main

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"fwdproxy/upstream"
)

// poolMetrics shows the pools of the policy in force.
type poolMetrics func() []upstream.PoolState

var (
	peerUp       = prometheus.NewDesc("fwdproxy_peer_up", "1 while the peer is chosen in its turn, 0 while it is ejected, unfit or drained.", []string{"pool", "peer"}, nil)
	peerState    = prometheus.NewDesc("fwdproxy_peer_state", "1 for the state that the peer is in: up, ejected, unfit or drained.", []string{"pool", "peer", "state"}, nil)
	peerActive   = prometheus.NewDesc("fwdproxy_peer_active_requests", "Requests under way at the peer.", []string{"pool", "peer"}, nil)
	peerRequests = prometheus.NewDesc("fwdproxy_peer_requests_total", "Times that a request was given to the peer, repetitions included.", []string{"pool", "peer"}, nil)
	peerFailures = prometheus.NewDesc("fwdproxy_peer_failures_total", "Requests that the peer failed, and connections that it did not take.", []string{"pool", "peer"}, nil)
	poolQueued   = prometheus.NewDesc("fwdproxy_pool_queued_requests", "Requests that wait for a peer with room.", []string{"pool"}, nil)
	poolRetries  = prometheus.NewDesc("fwdproxy_pool_retries_total", "Requests sent to another peer after one failed.", []string{"pool"}, nil)
	poolShed     = prometheus.NewDesc("fwdproxy_pool_shed_total", "Requests turned away with 503 for want of room.", []string{"pool"}, nil)
	poolFailed   = prometheus.NewDesc("fwdproxy_pool_failures_total", "Requests that no peer answered.", []string{"pool"}, nil)
	poolLookups  = prometheus.NewDesc("fwdproxy_pool_lookups_total", "Times that the pool's peers were looked up, by whether that went well.", []string{"pool", "is"}, nil)
	poolChanges  = prometheus.NewDesc("fwdproxy_pool_peer_changes_total", "Peers that look-ups added to the pool, or removed from it.", []string{"pool", "is"}, nil)
	poolOpen     = prometheus.NewDesc("fwdproxy_pool_breaker_open", "1 while the breaker keeps requests from the pool.", []string{"pool"}, nil)
)

// Describe implements prometheus.Collector.
func (poolMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{peerUp, peerState, peerActive, peerRequests, peerFailures, poolQueued, poolRetries, poolShed, poolFailed, poolOpen, poolLookups, poolChanges} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m poolMetrics) Collect(ch chan<- prometheus.Metric) {
	number := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	for _, p := range m() {
		number(poolQueued, prometheus.GaugeValue, float64(p.Queued), p.Name)
		number(poolRetries, prometheus.CounterValue, float64(p.Retries), p.Name)
		number(poolShed, prometheus.CounterValue, float64(p.Shed), p.Name)
		number(poolFailed, prometheus.CounterValue, float64(p.Failed), p.Name)
		if p.Breaker != "" {
			number(poolOpen, prometheus.GaugeValue, truth(p.Breaker == "open"), p.Name)
		}
		if d := p.Discovery; d != nil {
			number(poolLookups, prometheus.CounterValue, float64(d.Lookups-d.Failures), p.Name, "ok")
			number(poolLookups, prometheus.CounterValue, float64(d.Failures), p.Name, "failed")
			number(poolChanges, prometheus.CounterValue, float64(d.Added), p.Name, "added")
			number(poolChanges, prometheus.CounterValue, float64(d.Removed), p.Name, "removed")
		}
		for _, q := range p.Peers {
			number(peerUp, prometheus.GaugeValue, truth(q.State == upstream.PeerUp), p.Name, q.Name)
			for _, state := range []string{upstream.PeerUp, upstream.PeerEjected, upstream.PeerUnfit, upstream.PeerDrained} {
				number(peerState, prometheus.GaugeValue, truth(q.State == state), p.Name, q.Name, state)
			}
			number(peerActive, prometheus.GaugeValue, float64(q.Active), p.Name, q.Name)
			number(peerRequests, prometheus.CounterValue, float64(q.Requests), p.Name, q.Name)
			number(peerFailures, prometheus.CounterValue, float64(q.Failures), p.Name, q.Name)
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// pools returns the pools as they stand, for the admin port.
func (e *engine) pools() any { return e.current.Load().upstream.Pools() }

// drain takes a peer out of its pool, or puts it back. A reload waits
// meanwhile, so that it carries that over.
func (e *engine) drain(r *http.Request, drained bool) error {
	e.reloadMu.Lock()
	defer e.reloadMu.Unlock()
	q := r.URL.Query()
	pool, peer := q.Get("pool"), q.Get("peer")
	if err := e.current.Load().upstream.Drain(pool, peer, drained); err != nil {
		return err
	}
	e.log.Info("peer drained or put back", "pool", pool, "peer", peer, "drained", drained)
	return nil
}
