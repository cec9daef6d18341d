package main

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"fwdproxy/auth"
	"fwdproxy/internal/edge"
	"fwdproxy/policy"
	"fwdproxy/upstream"
)

// candidate is the policy of --shadow: it is asked beside the one in force, and
// decides nothing. Its zero pointer is none.
type candidate struct {
	asked    *edge.Candidate
	policy   atomic.Pointer[policy.Policy]
	problem  atomic.Pointer[string] // why a newer file is not the candidate; nil when it is
	reloadMu sync.Mutex
}

func (e *engine) newCandidate(p *policy.Policy) *candidate {
	c := &candidate{asked: edge.NewCandidate(e.candidateDoor(p))}
	c.policy.Store(p)
	for _, w := range p.Warnings {
		e.log.Warn("candidate policy", "warning", w.String())
	}
	return c
}

// candidateDoor is a front door with all that a verdict takes, and nothing
// that could serve a request.
func (e *engine) candidateDoor(p *policy.Policy) *edge.Door {
	c := p.Config
	d := &edge.Door{
		Mode: e.mode, ACL: p.ACL, Tunnel: c.Forward.Tunnel,
		Unresolved: slices.ContainsFunc(c.Upstream.Parents, func(p upstream.ParentConfig) bool { return p.Resolves }),
	}
	if e.mode == modeForward {
		d.Guard = e.guard(p.ACL)
		if p.Auth != nil {
			d.Auth = auth.New(c.Forward.Auth, p.Auth, nil)
		}
	}
	return d
}

// reloadCandidate loads the candidate again, if its files have changed. On any
// error the last good one stays.
func (s *server) reloadCandidate() {
	c := s.shadow
	if c == nil {
		return
	}
	c.reloadMu.Lock()
	defer c.reloadMu.Unlock()
	old := c.current()
	p, err := old.Reload("")
	if err != nil {
		why := err.Error()
		c.problem.Store(&why)
		s.log.Error("reload of the candidate policy failed; the old candidate stays", "policy", old.Source(), "error", err)
		return
	}
	c.problem.Store(nil)
	if p.Digest == old.Digest {
		return
	}
	c.policy.Store(p)
	c.asked.Use(s.candidateDoor(p))
	s.log.Info("candidate policy reloaded; its differences count from here", "policy", p.Source())
	for _, w := range p.Warnings {
		s.log.Warn("candidate policy", "warning", w.String())
	}
}

func (c *candidate) current() *policy.Policy { return c.policy.Load() }

// differences returns what a front door asks; nil for none.
func (c *candidate) differences() *edge.Candidate {
	if c == nil {
		return nil
	}
	return c.asked
}

// shadowInfo is what /api/shadow tells.
type shadowInfo struct {
	Policy  string `json:"policy"`
	Digest  string `json:"policy_sha256"`
	Problem string `json:"problem,omitempty"` // why a newer file is not the candidate
	edge.Comparison
}

// report returns what /api/shadow shows; nil for none.
func (c *candidate) report() func() any {
	if c == nil {
		return nil
	}
	return func() any {
		p := c.current()
		info := shadowInfo{Policy: p.Source(), Digest: p.Digest, Comparison: c.asked.Comparison()}
		if why := c.problem.Load(); why != nil {
			info.Problem = *why
		}
		return info
	}
}

// registerShadow shows in the metrics how often the candidate differs. The
// values are gauges: they begin again with each candidate.
func registerShadow(r prometheus.Registerer, c *candidate) {
	gauge := func(name, help string, value func(edge.Comparison) uint64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			return float64(value(c.asked.Comparison()))
		}))
	}
	gauge("fwdproxy_shadow_requests", "Requests that the candidate policy in force was asked about.", func(c edge.Comparison) uint64 { return c.Asked })
	gauge("fwdproxy_shadow_differences", "Requests of which the candidate policy in force would have said otherwise.", func(c edge.Comparison) uint64 { return c.Differing })
}
