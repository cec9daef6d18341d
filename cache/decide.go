package cache

import (
	"time"
)

// Action is what is to be done about a request.
type Action uint8

// The actions. The zero Action asks the next hop.
const (
	Fetch    Action = iota // ask the next hop
	Validate               // ask it whether what is stored is still good
	Serve                  // answer from the store
	Fail                   // answer 504, since the request asks for nothing else
)

func (a Action) String() string {
	return [...]string{"fetch", "validate", "serve", "fail"}[a&3]
}

// Reason says why an Action was decided.
type Reason string

// The reasons.
const (
	Fresh             Reason = "it is fresh"
	StaleAccepted     Reason = "it is stale, and the request's max-stale accepts that"         // RFC 9111, Section 5.2.1.2
	StaleRevalidating Reason = "it is stale, within stale-while-revalidate"                    // RFC 5861, Section 3
	NothingStored     Reason = "nothing is stored for this URI"                                // RFC 9211, uri-miss
	NoVariant         Reason = "what is stored for this URI answers other requests (Vary)"     // RFC 9211, vary-miss
	OtherMethod       Reason = "only GET and HEAD are answered from the store"                 // RFC 9211, method
	Stale             Reason = "it is stale"                                                   // RFC 9111, Section 4.2
	ResponseNoCache   Reason = "the response says no-cache"                                    // RFC 9111, Section 5.2.2.4
	RequestNoCache    Reason = "the request says no-cache"                                     // RFC 9111, Section 5.2.1.4
	RequestMaxAge     Reason = "it is older than the request's max-age"                        // RFC 9111, Section 5.2.1.1
	RequestMinFresh   Reason = "it is not fresh for as long as the request's min-fresh"        // RFC 9111, Section 5.2.1.3
	OnlyIfCached      Reason = "the request says only-if-cached and nothing stored may answer" // RFC 9111, Section 5.2.1.7
)

// Decision is what decide found.
type Decision struct {
	Action  Action
	Reason  Reason
	Refresh bool // Serve, and validate in the background
}

// decide says what to do about a request with the directives d when r is
// stored for it; nil when nothing is, and known says whether that is for want
// of the variant alone (RFC 9111, Section 4).
func decide(d requestDirectives, r *record, known bool, now time.Time) Decision {
	dec := judge(d, r, known, now)
	if d.onlyIfCached && dec.Action != Serve {
		return Decision{Action: Fail, Reason: OnlyIfCached}
	}
	return dec
}

func judge(d requestDirectives, r *record, known bool, now time.Time) Decision {
	if r == nil {
		if known {
			return Decision{Reason: NoVariant}
		}
		return Decision{Reason: NothingStored}
	}
	ask := func(why Reason) Decision {
		if r.hasValidator() {
			return Decision{Action: Validate, Reason: why}
		}
		return Decision{Action: Fetch, Reason: why}
	}
	age := r.age(now)
	ttl := r.ttl(now)
	switch {
	case d.noCache:
		return ask(RequestNoCache)
	case r.noCache:
		return ask(ResponseNoCache)
	case d.maxAge != unset && age > d.maxAge.duration():
		return ask(RequestMaxAge)
	case d.minFresh != unset && ttl < d.minFresh.duration():
		return ask(RequestMinFresh)
	case ttl > 0:
		return Decision{Action: Serve, Reason: Fresh}
	case r.noStale:
		return ask(Stale)
	case d.maxStale != unset && r.staleSince == nil && (d.maxStale == maxAge || -ttl <= d.maxStale.duration()):
		return Decision{Action: Serve, Reason: StaleAccepted}
	case r.staleRevalidate != unset && -ttl < r.staleRevalidate.duration():
		return Decision{Action: Serve, Reason: StaleRevalidating, Refresh: true}
	}
	return ask(Stale)
}

// staleMax is how long after it went stale a response still stands in for an
// origin that cannot be reached, where no stale-if-error says how long.
const staleMax = 24 * time.Hour

// mayServeStale says whether r may stand in when the origin failed: answered
// says whether it did answer, with a server error. Then stale-if-error has to
// allow it (RFC 5861, Section 4); when nobody answered, anything does that
// forbids it neither by directive nor by a stale-if-error that has run out
// (RFC 9111, Section 4.2.4). A request that asked for something fresher than
// what is stored gets the error.
func mayServeStale(d requestDirectives, r *record, answered bool, now time.Time) bool {
	if r == nil || r.noCache || r.noStale || d.noCache || d.minFresh != unset {
		return false
	}
	if d.maxAge != unset && r.age(now) > d.maxAge.duration() {
		return false
	}
	stale := -r.ttl(now)
	if r.staleIfError != unset {
		return stale < r.staleIfError.duration()
	}
	return !answered && stale < staleMax
}
