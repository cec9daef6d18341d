package main

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"fwdproxy/acl"
)

// ruleMetrics shows the counters of the rules in force.
type ruleMetrics func() *acl.Engine

var (
	ruleHits   = prometheus.NewDesc("fwdproxy_rule_hits_total", "Requests that the rule decided.", []string{"rule", "action"}, nil)
	ruleShadow = prometheus.NewDesc("fwdproxy_rule_shadow_hits_total", "Requests that the rule would have decided, were it not a shadow.", []string{"rule", "action"}, nil)
	ruleLast   = prometheus.NewDesc("fwdproxy_rule_last_hit_timestamp_seconds", "When the rule last decided a request, or would have; 0 for never.", []string{"rule", "action"}, nil)
)

// Describe implements prometheus.Collector.
func (m ruleMetrics) Describe(out chan<- *prometheus.Desc) {
	out <- ruleHits
	out <- ruleShadow
	out <- ruleLast
}

// Collect implements prometheus.Collector.
func (m ruleMetrics) Collect(out chan<- prometheus.Metric) {
	for _, r := range m().Rules() {
		name, last := strings.ToValidUTF8(r.Name, "?"), 0.0
		if r.LastHit != nil {
			last = float64(r.LastHit.UnixMilli()) / 1e3
		}
		out <- prometheus.MustNewConstMetric(ruleHits, prometheus.CounterValue, float64(r.Hits), name, r.Action)
		out <- prometheus.MustNewConstMetric(ruleShadow, prometheus.CounterValue, float64(r.ShadowHits), name, r.Action)
		out <- prometheus.MustNewConstMetric(ruleLast, prometheus.GaugeValue, last, name, r.Action)
	}
}
