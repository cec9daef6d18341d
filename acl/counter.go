package acl

import (
	"reflect"
	"sync/atomic"
	"time"
)

// Counter is what came of one rule. It is shared by the engines in which the
// rule is the same.
type Counter struct {
	hits, shadow atomic.Uint64
	last         atomic.Int64 // Unix nanoseconds of the last of either; 0: never
}

func (c *Counter) hit(n *atomic.Uint64, now time.Time) {
	n.Add(1)
	if t := now.UnixNano(); t > c.last.Load() {
		c.last.Store(t)
	}
}

// Count notes the final verdict about one request: a hit for the rule that
// decided and for the shadow that would have. A verdict that is still pending
// when the request is over was refused by the rule that waited.
func (e *Engine) Count(v Verdict, now time.Time) {
	c := e.counts
	if v.Index >= 0 && v.Index < len(e.rules) {
		c = e.rules[v.Index].counts
	}
	if c == nil {
		return
	}
	c.hit(&c.hits, now)
	if i := v.Shadow.number - 1; i >= 0 && i < len(e.rules) {
		c := e.rules[i].counts
		c.hit(&c.shadow, now)
	}
}

// Inherit takes the counters of old over, which may be nil, for the rules that
// are the same in both, wherever they stand. It must be called before the
// engine is asked anything.
func (e *Engine) Inherit(old *Engine) {
	if old == nil || old.counts == nil {
		return
	}
	e.counts = old.counts
	was := positions(old.rules)
	for i := range e.rules {
		if j, ok := was[e.rules[i].name]; ok && reflect.DeepEqual(old.rules[j].config, e.rules[i].config) {
			e.rules[i].counts = old.rules[j].counts
		}
	}
}

// RuleInfo describes a rule, and what came of it, to people.
type RuleInfo struct {
	Name       string     `json:"name"`
	Action     string     `json:"action"`
	Shadow     bool       `json:"shadow,omitempty"`
	Hits       uint64     `json:"hits"`        // requests that it decided
	ShadowHits uint64     `json:"shadow_hits"` // requests that it would have decided, being a shadow
	LastHit    *time.Time `json:"last_hit"`    // of either; null when there was none
}

// Rules returns the rules in the order in which they are tried, and the
// default last.
func (e *Engine) Rules() []RuleInfo {
	out := make([]RuleInfo, 0, len(e.rules)+1)
	for i := range e.rules {
		u := &e.rules[i]
		out = append(out, u.counts.info(RuleInfo{Name: u.name, Action: u.word(), Shadow: u.shadow}))
	}
	return append(out, e.counts.info(RuleInfo{Name: defaultRule, Action: e.fallback.String()}))
}

func (c *Counter) info(r RuleInfo) RuleInfo {
	if c == nil {
		return r
	}
	r.Hits, r.ShadowHits = c.hits.Load(), c.shadow.Load()
	if ns := c.last.Load(); ns != 0 {
		t := time.Unix(0, ns).UTC()
		r.LastHit = &t
	}
	return r
}
