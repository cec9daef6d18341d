package edge

import (
	"testing"

	"fwdproxy/internal/unit"
)

func TestTheDefaultLimitsAreRightAndBoundEverything(t *testing.T) {
	l := DefaultLimits()
	if p := l.Validate(); len(p) > 0 {
		t.Errorf("%v", p)
	}
}

func TestALimitThatProtectsNobodyIsAProblem(t *testing.T) {
	for key, set := range map[string][]func(*Limits){
		"limits.header_size": {func(l *Limits) { l.HeaderSize = 0 }, func(l *Limits) { l.HeaderSize = 4 << 10 },
			func(l *Limits) { l.HeaderSize = 8<<10 - 1 }, func(l *Limits) { l.HeaderSize = 1<<20 + 1 }},
		"limits.request_line":            {func(l *Limits) { l.RequestLine = 0 }, func(l *Limits) { l.RequestLine = 1<<20 + 1 }},
		"limits.body_rate":               {func(l *Limits) { l.BodyRate = -1 }},
		"limits.body_rate_window":        {func(l *Limits) { l.BodyRateWindow = 0 }},
		"limits.half_close_timeout":      {func(l *Limits) { l.HalfCloseTimeout = 0 }},
		"limits.requests_per_connection": {func(l *Limits) { l.RequestsPerConnection = -1 }},
		"limits.connections_per_client":  {func(l *Limits) { l.ConnectionsPerClient = -1 }},
		"limits.header_count":            {func(l *Limits) { l.HeaderCount = 0 }, func(l *Limits) { l.HeaderCount = 15 }, func(l *Limits) { l.HeaderCount = 10001 }},
		"limits.header_timeout":          {func(l *Limits) { l.HeaderTimeout = 0 }, func(l *Limits) { l.HeaderTimeout = -1 }},
		"limits.body_timeout":            {func(l *Limits) { l.BodyTimeout = 0 }},
		"limits.write_timeout":           {func(l *Limits) { l.WriteTimeout = 0 }},
		"limits.idle_timeout":            {func(l *Limits) { l.IdleTimeout = 0 }},
		"limits.drain_timeout":           {func(l *Limits) { l.DrainTimeout = 0 }},
		"limits.connections":             {func(l *Limits) { l.Connections = 0 }, func(l *Limits) { l.Connections = -1 }},
		"limits.tunnels":                 {func(l *Limits) { l.Tunnels = 0 }},
	} {
		for i, f := range set {
			l := DefaultLimits()
			f(&l)
			p := l.Validate()
			if len(p) != 1 || p[0].Key != key || p[0].Hint == "" {
				t.Errorf("%s, case %d: %v", key, i, p)
			}
		}
	}
}

func TestTheBoundsOfALimitAreRight(t *testing.T) {
	for i, f := range []func(*Limits){
		func(l *Limits) { l.HeaderSize, l.HeaderCount = 8<<10, 16 },
		func(l *Limits) { l.HeaderSize, l.HeaderCount = 1<<20, 10000 },
		func(l *Limits) { l.BodySize, l.Connections, l.Tunnels, l.DrainTimeout = 1, 1, 1, unit.Duration(1) },
	} {
		l := DefaultLimits()
		f(&l)
		if p := l.Validate(); len(p) > 0 {
			t.Errorf("case %d: %v", i, p)
		}
	}
}

func TestEveryProblemOfTheLimitsIsReportedAtOnce(t *testing.T) {
	if p := (Limits{}).Validate(); len(p) != 14 {
		t.Errorf("%d problems: %v", len(p), p)
	}
}
