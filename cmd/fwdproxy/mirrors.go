package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"fwdproxy/reverse"
)

func registerMirrors(r prometheus.Registerer, m *reverse.Mirrors) {
	for is, what := range map[string]int{"sent": reverse.MirrorSent, "failed": reverse.MirrorFailed, "dropped": reverse.MirrorDropped} {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "fwdproxy_mirrored_total",
			Help: "Copies of requests for a site's mirror.", ConstLabels: prometheus.Labels{"is": is}},
			func() float64 { return float64(m.Count(what)) }))
	}
}
