package intercept

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxRejected bounds the hosts, and the pairs of a client and a host, that are
// remembered: clients make them up.
const maxRejected = 1000

// Other stands for the hosts for which there is no room.
const Other = "other"

// Rejected remembers which hosts' certificates clients rejected. It is safe
// for concurrent use; its zero value has none.
type Rejected struct {
	mu    sync.Mutex
	hosts map[string]*RejectedHost
	pairs map[refused]time.Time // when that client rejected that host's last
}

type refused struct {
	client netip.Addr
	host   string
}

// RejectedHost is what came of one host, for people.
type RejectedHost struct {
	Host    string    `json:"host"`
	Count   uint64    `json:"count"`
	Last    time.Time `json:"last"`
	Reason  string    `json:"reason"` // of the last, in the words of TLS
	Suggest string    `json:"suggest,omitempty"`
}

// Note counts a rejection, and reports whether it is the first of its host.
func (r *Rejected) Note(client netip.Addr, host, reason string, now time.Time) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hosts == nil {
		r.hosts, r.pairs = map[string]*RejectedHost{}, map[refused]time.Time{}
	}
	name := host
	if r.hosts[name] == nil && len(r.hosts) >= maxRejected {
		name = Other
	}
	h := r.hosts[name]
	if h == nil {
		h = &RejectedHost{Host: name}
		if name != Other {
			h.Suggest = Suggestion(name)
		}
		r.hosts[name], first = h, true
	}
	h.Count++
	h.Last, h.Reason = now, reason
	if len(r.pairs) >= maxRejected {
		r.forget(now)
	}
	r.pairs[refused{client, host}] = now
	return first
}

// forget drops the oldest half of the pairs.
func (r *Rejected) forget(now time.Time) {
	ages := make([]time.Duration, 0, len(r.pairs))
	for _, t := range r.pairs {
		ages = append(ages, now.Sub(t))
	}
	slices.Sort(ages)
	for p, t := range r.pairs {
		if now.Sub(t) >= ages[len(ages)/2] {
			delete(r.pairs, p)
		}
	}
}

// Passes reports whether the client rejected the host's certificate within the
// last while.
func (r *Rejected) Passes(client netip.Addr, host string, while time.Duration, now time.Time) bool {
	if while <= 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.pairs[refused{client, host}]
	return ok && now.Sub(t) < while
}

// List returns the hosts, those with the most rejections first.
func (r *Rejected) List() []RejectedHost {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]RejectedHost, 0, len(r.hosts))
	for _, h := range r.hosts {
		out = append(out, *h)
	}
	slices.SortFunc(out, func(a, b RejectedHost) int {
		if a.Count != b.Count {
			if a.Count > b.Count {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Host, b.Host)
	})
	return out
}

// Suggestion is the rule that leaves the host undecrypted, in the policy's
// words.
func Suggestion(host string) string {
	return `[[acl.rule]] to = ["` + host + `"], action = "tunnel", before the rule that intercepts`
}
