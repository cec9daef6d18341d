package accesslog

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Label values that come from requests or from the policy are bounded, since
// each makes a time series for good: behind the bounds all are other.
const (
	other    = "other"
	maxRules = 1000
	maxKinds = 64
)

var (
	modes   = [...]string{"forward", "reverse"}
	classes = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx", other}
)

// Metrics counts finished requests for Prometheus.
type Metrics struct {
	requests  *prometheus.CounterVec
	reloads   *prometheus.CounterVec
	denied    bounded
	limited   bounded
	faults    bounded
	wafRules  bounded
	wafSites  map[string]*bounded // by verdict
	durations [len(modes)]prometheus.Observer
	bytesIn   [len(modes)]prometheus.Counter
	bytesOut  [len(modes)]prometheus.Counter
	// counts holds the children of requests that were used, so that a request
	// takes no lock.
	counts [len(modes)][len(tags)][len(classes)]atomic.Pointer[prometheus.Counter]
}

// NewMetrics registers the metrics with reg; it panics when they are
// registered there already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	m := &Metrics{
		requests: counter("fwdproxy_requests_total", "Finished requests by result tag and class of status.", "mode", "tag", "status"),
		reloads:  counter("fwdproxy_policy_reloads_total", "Attempts to reload the policy.", "result"),
		denied: bounded{max: maxRules, vec: counter("fwdproxy_denied_total",
			"Requests that the policy refused, by the rule that did.", "rule")},
		limited: bounded{max: maxRules, vec: counter("fwdproxy_limited_total",
			"Requests that a limit of the policy refused, and tunnels that it cut, by its name.", "limit")},
		faults: bounded{max: maxKinds, vec: counter("fwdproxy_faults_total",
			"Requests that failed or were refused, by kind of fault (RFC 9209).", "kind")},
	}
	m.wafRules = bounded{max: maxRules, vec: counter("fwdproxy_waf_rule_hits_total",
		"Requests that a rule of the web application firewall matched, blocked or not.", "rule")}
	sites := counter("fwdproxy_waf_requests_total", "Requests that a site's web application firewall looked at, by what it said.", "site", "verdict")
	m.wafSites = map[string]*bounded{}
	for _, verdict := range []string{WAFPass, WAFMatch, WAFDetect, WAFBlock} {
		m.wafSites[verdict] = &bounded{max: maxRules, vec: sites.MustCurryWith(prometheus.Labels{"verdict": verdict})}
	}
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "fwdproxy_request_duration_seconds",
		Help:    "Time from a request's head to its answer's last byte; tunnels are left out.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
	}, []string{"mode"})
	reg.MustRegister(durations)
	octets := counter("fwdproxy_client_bytes_total", "Bytes of bodies and tunnels from clients (in) and to clients (out).", "mode", "direction")
	for i, mode := range modes {
		m.durations[i] = durations.WithLabelValues(mode)
		m.bytesIn[i] = octets.WithLabelValues(mode, "in")
		m.bytesOut[i] = octets.WithLabelValues(mode, "out")
	}
	for _, result := range []string{"success", "failure"} {
		m.reloads.WithLabelValues(result)
	}
	return m
}

// Observe counts one finished request. It keeps nothing of r.
func (m *Metrics) Observe(r *Record) {
	mode := indexOf(modes[:], r.Mode, 0)
	tag := indexOf(tags[:], r.Tag, 0)
	class := len(classes) - 1
	if c := r.Status/100 - 1; r.Status >= 100 && c < class {
		class = c
	}
	m.count(mode, tag, class).Inc()
	if r.Tag != TagTunnel {
		m.durations[mode].Observe(max(0, r.Duration.Seconds()))
	}
	m.bytesIn[mode].Add(float64(max(0, r.BytesIn)))
	m.bytesOut[mode].Add(float64(max(0, r.BytesOut)))
	if r.Tag == TagDenied {
		m.denied.inc(r.Rule)
	}
	if r.Limit != "" {
		m.limited.inc(r.Limit)
	}
	if r.Error != "" {
		m.faults.inc(r.Error)
	}
	if w := r.WAF; w != nil {
		m.wafSites[w.Verdict].inc(w.Site)
		for _, id := range w.Rules {
			m.wafRules.inc(strconv.Itoa(id))
		}
	}
}

func (m *Metrics) count(mode, tag, class int) prometheus.Counter {
	slot := &m.counts[mode][tag][class]
	if c := slot.Load(); c != nil {
		return *c
	}
	c := m.requests.WithLabelValues(modes[mode], string(tags[tag]), classes[class])
	slot.Store(&c)
	return c
}

// Reloaded counts one attempt to reload the policy.
func (m *Metrics) Reloaded(ok bool) {
	result := "failure"
	if ok {
		result = "success"
	}
	m.reloads.WithLabelValues(result).Inc()
}

func indexOf[T comparable](list []T, v T, missing int) int {
	for i, x := range list {
		if x == v {
			return i
		}
	}
	return missing
}

// bounded is a counter with one label, which has at most max values and other.
type bounded struct {
	vec  *prometheus.CounterVec
	max  int
	mu   sync.RWMutex
	seen map[string]prometheus.Counter
}

func (b *bounded) inc(value string) {
	b.mu.RLock()
	c := b.seen[value]
	b.mu.RUnlock()
	if c == nil {
		c = b.child(value)
	}
	c.Inc()
}

func (b *bounded) child(value string) prometheus.Counter {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.seen[value]; c != nil {
		return c
	}
	if len(b.seen) >= b.max {
		return b.vec.WithLabelValues(other)
	}
	if b.seen == nil {
		b.seen = make(map[string]prometheus.Counter)
	}
	label := strings.ToValidUTF8(value, "?") // else WithLabelValues panics
	if label == "" {
		label = "none"
	}
	c := b.vec.WithLabelValues(label)
	b.seen[strings.Clone(value)] = c
	return c
}
