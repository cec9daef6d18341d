package edge

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fwdproxy/acl"
	"fwdproxy/internal/fault"
)

// Candidate is a policy that is asked about each request beside the one in
// force, on the same facts, and decides nothing. It resolves no names and does
// no I/O, and a panic in it stays in it. It outlives reloads.
type Candidate struct {
	door            atomic.Pointer[Door]
	asked, panicked atomic.Uint64

	mu    sync.Mutex
	pairs map[pair]*Difference
	more  uint64 // differences beyond maxPairs
}

// Opinion is a verdict ("allow", "deny", "challenge", or "pending" where it
// hangs on an address that nobody looked up) and the rule that gives it.
type Opinion struct {
	Verdict string `json:"verdict"`
	Rule    string `json:"rule"`
}

type pair struct{ live, candidate Opinion }

// maxPairs bounds the differences that are told apart.
const maxPairs = 1000

// Difference is what one rule of each policy disagree about.
type Difference struct {
	Live      Opinion   `json:"live"`
	Candidate Opinion   `json:"candidate"`
	Requests  uint64    `json:"requests"`
	Last      time.Time `json:"last"`
	Example   Example   `json:"example"` // the last
}

// Example is a request, as the access log knows it.
type Example struct {
	RequestID string `json:"request_id"`
	Client    string `json:"client"`
	User      string `json:"user,omitempty"`
	Method    string `json:"method"`
	Target    string `json:"target"` // scheme, host and port; no path, which may hold secrets
}

// Comparison is what came of the candidate since it was loaded.
type Comparison struct {
	Asked       uint64       `json:"requests"`         // that it was asked about
	Panicked    uint64       `json:"panics,omitempty"` // while it was asked
	Differing   uint64       `json:"differing"`
	Unlisted    uint64       `json:"unlisted,omitempty"` // of differing, beyond the pairs of rules that are told apart
	Differences []Difference `json:"differences"`        // most requests first
}

// NewCandidate returns a Candidate that asks d's policy: its ACL, Guard, Auth,
// Tunnel and Unresolved.
func NewCandidate(d *Door) *Candidate {
	c := &Candidate{}
	c.Use(d)
	return c
}

// Use makes d's policy the candidate, and forgets what came of the last one.
func (c *Candidate) Use(d *Door) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.door.Store(d)
	c.pairs, c.more = map[pair]*Difference{}, 0
	c.asked.Store(0)
	c.panicked.Store(0)
}

// Comparison returns what came of the candidate so far.
func (c *Candidate) Comparison() Comparison {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := Comparison{Asked: c.asked.Load(), Panicked: c.panicked.Load(), Differing: c.more, Unlisted: c.more, Differences: []Difference{}}
	for d := range maps.Values(c.pairs) {
		out.Differing += d.Requests
		out.Differences = append(out.Differences, *d)
	}
	slices.SortFunc(out.Differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Live.Rule, b.Live.Rule), cmp.Compare(a.Candidate.Rule, b.Candidate.Rule))
	})
	return out
}

// note counts a difference, unless the candidate is no longer d's policy.
func (c *Candidate) note(d *Door, p pair, now time.Time, e Example) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.door.Load() != d {
		return
	}
	found := c.pairs[p]
	if found == nil {
		if len(c.pairs) >= maxPairs {
			c.more++
			return
		}
		found = &Difference{Live: p.live, Candidate: p.candidate}
		c.pairs[p] = found
	}
	found.Requests++
	found.Last, found.Example = now, e
}

// compare asks the candidate about the request that is over, in which v was the
// latest verdict, and notes where it would have said otherwise.
func (x *Exchange) compare(v acl.Verdict) {
	c := x.door.Candidate
	if c == nil {
		return
	}
	defer func() {
		if recover() != nil {
			c.panicked.Add(1)
		}
	}()
	d := c.door.Load()
	c.asked.Add(1)
	live := Opinion{x.rec.Verdict, x.rec.Rule}
	switch {
	case x.w.status == http.StatusProxyAuthRequired && v.Challenge:
		live.Verdict = challenge
	case v.Pending && live.Verdict == acl.Deny.String() && x.rec.Error != string(fault.RequestDenied) && x.rec.Error != string(fault.DestinationIPProhibited):
		live.Verdict = pending // the name was not found, or not looked up
	}
	other := x.opinion(d)
	if other.Verdict == live.Verdict {
		return
	}
	x.rec.Candidate, x.rec.CandidateSays = other.Rule, other.Verdict
	about := x.target.HostPort()
	if x.target.Scheme != "" {
		about = x.target.Origin()
	}
	c.note(d, pair{live, other}, x.start, Example{RequestID: x.rec.RequestID, Client: x.rec.Client.Addr().String(),
		User: x.rec.User, Method: x.rec.Method, Target: about})
}

const (
	challenge = "challenge"
	pending   = "pending"
)

// opinion returns what d's policy says of the request by all that became known
// of it. What the policy in force did not look at (an address, a server name)
// d's is not asked about.
func (x *Exchange) opinion(d *Door) Opinion {
	who := d.known(x)
	j := d.Judge(x.questionOf(d, x.target, x.start, who))
	v, err := j.Verdict, j.Err
	at, _ := x.hop.Answered()
	if asked := x.asked.Load(); asked != nil && !at.IsValid() {
		at = *asked
	}
	if err == nil && at.IsValid() {
		v, err = j.Address(at)
	}
	if err == nil && x.hello != nil && d.Tunnel.Peeks(x.target.Port) {
		_, err = x.judgeHello(d, *x.hello, x.start, who, v)
	}
	switch {
	case err != nil:
		f := fault.From(err)
		if f.HTTPStatus() == http.StatusProxyAuthRequired {
			return Opinion{challenge, f.Rule}
		}
		return Opinion{acl.Deny.String(), f.Rule}
	case v.Pending:
		return Opinion{pending, v.Rule}
	}
	return Opinion{v.Action.String(), v.Rule}
}
