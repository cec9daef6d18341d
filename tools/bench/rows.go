package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// figures are what one turn gave. A row fills what it is about.
type figures struct {
	rate   float64       // requests, tunnels or MiB a second
	cpu    time.Duration // for one of these
	hits   float64       // the part that did not reach the origin, 0 to 1
	p99    time.Duration
	memory float64 // MiB
}

// row is one workload.
type row struct {
	name, title, unit string
	only              []string // the peers that can do it; nil: all
	measure           func(*bench, *peer) (figures, error)
}

var rows = []row{
	{"hit1k", "Hits of 1 KiB", "requests", nil, hits(1<<10, 100)},
	{"hit64k", "Hits of 64 KiB", "requests", nil, hits(64<<10, 10)},
	{"hit1m", "Hits of 1 MiB", "requests", nil, hits(1<<20, 4)},
	{"miss", "Misses of 100 bytes, stored", "requests", nil, misses},
	{"mix", "Skewed mix over 100,000 objects of 4 KiB", "requests", nil, mix},
	{"connect", "CONNECT, bytes through tunnels", "MiB", []string{"fwdproxy", "squid", "trafficserver"}, tunnelBytes},
	{"tunnels", "CONNECT, tunnels opened and closed", "tunnels", []string{"fwdproxy", "squid", "trafficserver"}, tunnels},
	{"idle", "Memory for idle keep-alive clients", "MiB", nil, idle},
	{"half", "Latency of 1 KiB hits at half of the maximum rate", "p99", nil, half},
	{"cores", "Hits of 1 KiB with two cores against one", "times", []string{"fwdproxy"}, cores},
}

func rowNames() []string {
	var names []string
	for _, r := range rows {
		names = append(names, r.name)
	}
	return names
}

func findRow(name string) *row {
	i := slices.IndexFunc(rows, func(r row) bool { return r.name == name })
	if i < 0 {
		return nil
	}
	return &rows[i]
}

func (f figures) line(r *row) string {
	switch r.unit {
	case "p99":
		return fmt.Sprintf("p99 %v at %.0f requests/s", f.p99.Round(10*time.Microsecond), f.rate)
	case "times":
		return fmt.Sprintf("%.2f times", f.rate)
	}
	if f.memory > 0 {
		return fmt.Sprintf("%.1f MiB more", f.memory)
	}
	s := fmt.Sprintf("%.0f %s/s, %.1f µs CPU each", f.rate, r.unit, micros(f.cpu))
	if f.hits > 0 {
		s += fmt.Sprintf(", %.1f %% hits, p99 %v", 100*f.hits, f.p99)
	}
	return s
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// table shows the median of each figure over the rounds, and by how much the
// first proxy is ahead.
func (r *row) table(names []string, seen map[string][]figures) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s (`%s`)\n\n", r.title, r.name)
	switch {
	case r.unit == "p99":
		b.WriteString("| proxy | p99 | at requests/s |\n| --- | --- | --- |\n")
	case r.unit == "times":
		b.WriteString("| proxy | requests/s with 2 cores / with 1 |\n| --- | --- |\n")
	case r.name == "idle":
		b.WriteString("| proxy | MiB beyond what it began with |\n| --- | --- |\n")
	default:
		fmt.Fprintf(&b, "| proxy | %s/s | µs CPU for one | fwdproxy's rate / its | its CPU / fwdproxy's |\n| --- | --- | --- | --- | --- |\n", r.unit)
	}
	own := medians(seen["fwdproxy"])
	for _, name := range names {
		if len(seen[name]) == 0 {
			continue
		}
		f := medians(seen[name])
		label := name
		if f.hits > 0 && r.name == "mix" {
			label = fmt.Sprintf("%s (%.1f %% hits)", name, 100*f.hits)
		}
		switch {
		case r.unit == "p99":
			fmt.Fprintf(&b, "| %s | %v | %.0f |\n", label, f.p99.Round(10*time.Microsecond), f.rate)
		case r.unit == "times":
			fmt.Fprintf(&b, "| %s | %.2f |\n", label, f.rate)
		case r.name == "idle":
			fmt.Fprintf(&b, "| %s | %.1f |\n", label, f.memory)
		default:
			fmt.Fprintf(&b, "| %s | %.0f | %.1f | %s | %s |\n", label, f.rate, micros(f.cpu), ratio(own.rate, f.rate), ratio(micros(f.cpu), micros(own.cpu)))
		}
	}
	return b.String()
}

func ratio(a, b float64) string {
	if a == 0 || b == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", a/b)
}

func medians(all []figures) figures {
	return figures{
		rate:   median(all, func(f figures) float64 { return f.rate }),
		cpu:    median(all, func(f figures) time.Duration { return f.cpu }),
		hits:   median(all, func(f figures) float64 { return f.hits }),
		p99:    median(all, func(f figures) time.Duration { return f.p99 }),
		memory: median(all, func(f figures) float64 { return f.memory }),
	}
}

func median[T cmp.Ordered](all []figures, of func(figures) T) T {
	var values []T
	for _, f := range all {
		values = append(values, of(f))
	}
	slices.Sort(values)
	if len(values) == 0 {
		var zero T
		return zero
	}
	return values[len(values)/2]
}
