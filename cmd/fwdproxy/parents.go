package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"fwdproxy/upstream"
)

// parentGauge is the metric of the parent proxies that the policy in force has.
type parentGauge func() []upstream.ParentState

var parentUp = prometheus.NewDesc("fwdproxy_parent_up", "1 while the parent proxy is tried in its turn, 0 while it comes last since it could not be reached.", []string{"parent"}, nil)

func (parentGauge) Describe(ch chan<- *prometheus.Desc) { ch <- parentUp }

func (g parentGauge) Collect(ch chan<- prometheus.Metric) {
	seen := map[string]bool{}
	for _, p := range g() {
		if seen[p.Name] {
			continue // one parent with two tables: a name may be collected once
		}
		seen[p.Name] = true
		up := 1.0
		if p.Rests {
			up = 0
		}
		ch <- prometheus.MustNewConstMetric(parentUp, prometheus.GaugeValue, up, p.Name)
	}
}
