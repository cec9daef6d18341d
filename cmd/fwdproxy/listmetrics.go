package main

import (
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// listInfo is what /api/info tells of a list.
type listInfo struct {
	Name      string         `json:"name"`
	Domains   int            `json:"domains"`
	Addresses int            `json:"addresses"`
	URLs      int            `json:"urls"`
	Skipped   int            `json:"skipped"` // lines that no proxy can apply
	Downloads []downloadInfo `json:"downloads,omitempty"`
}

// downloadInfo is about one URL that a list is downloaded from.
type downloadInfo struct {
	URL      string     `json:"url"`     // without its query, which may be a secret
	Checked  *time.Time `json:"checked"` // when the server last said what the list is; null for never
	Failures uint64     `json:"failures"`
	Error    string     `json:"error,omitempty"` // of the last try
}

func (e *engine) listInfos() []listInfo {
	p := e.current.Load().policy
	var out []listInfo
	for _, l := range p.ACL.Lists() {
		info := listInfo{Name: l.Name, Domains: l.Domains, Addresses: l.Addresses, URLs: l.URLs, Skipped: l.Skipped}
		for _, d := range p.ACL.Downloads() {
			if d.List != l.Name {
				continue
			}
			st := e.downloads.known(p.Copies(), d)
			shown := downloadInfo{URL: withoutQuery(d.URL), Failures: st.failures, Error: st.err}
			if !st.checked.IsZero() {
				shown.Checked = &st.checked
			}
			info.Downloads = append(info.Downloads, shown)
		}
		out = append(out, info)
	}
	return out
}

func withoutQuery(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	u.RawQuery = ""
	return u.String()
}

// listMetrics shows the lists in force.
type listMetrics func() []listInfo

var (
	listEntries  = prometheus.NewDesc("fwdproxy_list_entries", "Domains, addresses and URLs in the list.", []string{"list"}, nil)
	listChecked  = prometheus.NewDesc("fwdproxy_list_checked_timestamp_seconds", "When the list's server last said what the list is; the oldest of its downloads, 0 for never.", []string{"list"}, nil)
	listFailures = prometheus.NewDesc("fwdproxy_list_download_failures_total", "Downloads of the list that failed and left the last good copy in force.", []string{"list"}, nil)
)

// Describe implements prometheus.Collector.
func (m listMetrics) Describe(out chan<- *prometheus.Desc) {
	out <- listEntries
	out <- listChecked
	out <- listFailures
}

// Collect implements prometheus.Collector.
func (m listMetrics) Collect(out chan<- prometheus.Metric) {
	for _, l := range m() {
		name := strings.ToValidUTF8(l.Name, "?")
		out <- prometheus.MustNewConstMetric(listEntries, prometheus.GaugeValue, float64(l.Domains+l.Addresses+l.URLs), name)
		if len(l.Downloads) == 0 {
			continue
		}
		var oldest, failures float64
		for i, d := range l.Downloads {
			at := 0.0
			if d.Checked != nil {
				at = float64(d.Checked.UnixMilli()) / 1e3
			}
			if i == 0 || at < oldest {
				oldest = at
			}
			failures += float64(d.Failures)
		}
		out <- prometheus.MustNewConstMetric(listChecked, prometheus.GaugeValue, oldest, name)
		out <- prometheus.MustNewConstMetric(listFailures, prometheus.CounterValue, failures, name)
	}
}
