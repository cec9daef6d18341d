package accesslog

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestRequestsAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	for _, r := range goldenRecords()[:6] {
		m.Observe(&r)
	}
	m.Reloaded(true)
	m.Reloaded(false)
	m.Reloaded(false)
	want := map[string]float64{
		"fwdproxy_client_bytes_total{direction=in,mode=forward}":          1517,
		"fwdproxy_client_bytes_total{direction=in,mode=reverse}":          77,
		"fwdproxy_client_bytes_total{direction=out,mode=forward}":         3_000_003_768,
		"fwdproxy_client_bytes_total{direction=out,mode=reverse}":         1256,
		"fwdproxy_denied_total{rule=no social media}":                     1,
		"fwdproxy_faults_total{kind=connection_refused}":                  1,
		"fwdproxy_faults_total{kind=http_request_denied}":                 1,
		"fwdproxy_faults_total{kind=http_request_error}":                  1,
		"fwdproxy_policy_reloads_total{result=failure}":                   2,
		"fwdproxy_policy_reloads_total{result=success}":                   1,
		"fwdproxy_requests_total{mode=forward,status=2xx,tag=TCP_HIT}":    1,
		"fwdproxy_requests_total{mode=forward,status=2xx,tag=TCP_MISS}":   1,
		"fwdproxy_requests_total{mode=forward,status=2xx,tag=TCP_TUNNEL}": 1,
		"fwdproxy_requests_total{mode=forward,status=4xx,tag=NONE}":       1,
		"fwdproxy_requests_total{mode=forward,status=4xx,tag=TCP_DENIED}": 1,
		"fwdproxy_requests_total{mode=reverse,status=5xx,tag=TCP_MISS}":   1,
		"fwdproxy_request_duration_seconds{mode=forward} count":           4,
		"fwdproxy_request_duration_seconds{mode=reverse} count":           1,
	}
	if got := series(t, reg); !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// series returns the value of every time series, a histogram's count.
func series(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			key := f.GetName() + "{" + strings.Join(labels, ",") + "}"
			if h := m.GetHistogram(); h != nil {
				all[key+" count"] = float64(h.GetSampleCount())
			} else {
				all[key] = m.GetCounter().GetValue()
			}
		}
	}
	return all
}

func TestTunnelsAreLeftOutOfTheDurations(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	for _, tag := range []Tag{TagHit, TagTunnel, TagMiss} {
		m.Observe(&Record{Mode: "forward", Tag: tag, Status: 200, Duration: 3 * time.Millisecond})
	}
	if n := series(t, reg)["fwdproxy_request_duration_seconds{mode=forward} count"]; n != 2 {
		t.Errorf("%v samples, want those of the hit and the miss", n)
	}
}

func TestNoRequestCanMakeTimeSeriesWithoutBound(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	for i := range 5000 {
		m.Observe(&Record{
			Mode: fmt.Sprint(i), Tag: Tag(fmt.Sprint(i)), Status: i - 10, Method: fmt.Sprint(i), URL: fmt.Sprint(i), Error: fmt.Sprint(i),
		})
		m.Observe(&Record{Tag: TagDenied, Rule: fmt.Sprint("rule ", i), Status: 403, BytesIn: -1, BytesOut: -1, Duration: -1})
	}
	m.Observe(&Record{Tag: TagDenied, Rule: "\xff", Error: "\xff"})
	all := series(t, reg)
	if limit := maxRules + maxKinds + 50; len(all) > limit {
		t.Errorf("%d time series, want at most %d", len(all), limit)
	}
	if got := all["fwdproxy_denied_total{rule=other}"]; got != 5001-maxRules {
		t.Errorf("%v refusals are counted as other", got)
	}
}

func TestALabelThatIsNotUTF8IsCountedAllTheSame(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	for range 2 {
		m.Observe(&Record{Tag: TagDenied, Rule: "a\xffb"})
	}
	m.Observe(&Record{Tag: TagDenied})
	if got := series(t, reg)["fwdproxy_denied_total{rule=a?b}"]; got != 2 {
		t.Error(got)
	}
	if got := series(t, reg)["fwdproxy_denied_total{rule=none}"]; got != 1 {
		t.Error(got)
	}
}

func TestObserveMayBeCalledFromEverywhere(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				m.Observe(&Record{Mode: "reverse", Tag: TagDenied, Rule: fmt.Sprint(i % 10), Status: 200 + 100*(i%4), Error: "dns_error"})
			}
		})
	}
	wg.Wait()
	if got := series(t, reg)["fwdproxy_faults_total{kind=dns_error}"]; got != 8000 {
		t.Error(got)
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	m := NewMetrics(prometheus.NewRegistry())
	for i, r := range goldenRecords()[:6] {
		if n := testing.AllocsPerRun(100, func() { m.Observe(&r) }); n != 0 {
			t.Errorf("record %d: %v allocations", i, n)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	m := NewMetrics(prometheus.NewRegistry())
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r := sample()
		for pb.Next() {
			m.Observe(&r)
		}
	})
}
