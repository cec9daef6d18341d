package cache

import (
	"net/http"
	"strconv"
	"time"

	"fwdproxy/internal/hop"
)

// Explanation is what the cache would do about a request, and why. Durations
// are in whole seconds.
type Explanation struct {
	Key      string      `json:"key"`
	Rule     string      `json:"rule,omitempty"`  // the [[cache.rule]] that holds for the URL
	Bends    string      `json:"bends,omitempty"` // how the rule breaks RFC 9111 here
	Decision string      `json:"decision"`        // serve, validate, fetch, fail or bypass
	Reason   string      `json:"reason"`
	Vary     []string    `json:"vary,omitempty"` // fields that stored responses to the URI vary by
	Stored   *StoredInfo `json:"stored,omitempty"`
	Purged   string      `json:"purged,omitempty"` // what made something stored unusable, or stale
	// CollapsePaused says that a response to the URI turned out not to be for
	// sharing a short while ago, so that requests do not wait for each other.
	CollapsePaused bool `json:"collapse_paused,omitempty"`
}

// StoredInfo is the stored response that the request selects.
type StoredInfo struct {
	Status          int       `json:"status"`
	Size            int64     `json:"size"`
	Address         string    `json:"address"` // that it came from
	Received        time.Time `json:"received"`
	LifetimeSource  string    `json:"lifetime_source"` // s-maxage, max-age, Expires, heuristic, rule or none
	Lifetime        int64     `json:"lifetime"`
	Age             int64     `json:"age"`
	TTL             int64     `json:"ttl"`
	ETag            string    `json:"etag,omitempty"`
	LastModified    string    `json:"last_modified,omitempty"`
	MustRevalidate  bool      `json:"must_revalidate,omitempty"` // never served stale
	AlwaysValidated bool      `json:"always_validated,omitempty"`
}

// Explain says what RoundTrip would do about the request at now. It asks
// nobody, and uses the same code to decide.
func (t *Transport) Explain(req *http.Request, now time.Time) Explanation {
	view, key := t.view(req.URL), t.Key(req.URL)
	ex := Explanation{Key: key.String(), Decision: "bypass"}
	if view.rule != nil {
		ex.Rule = view.rule.Name
	}
	h := hop.From(req.Context())
	switch {
	case t.cfg.off():
		ex.Reason = "the cache is off: cache.memory is 0 and there is no cache.disk.dir"
		return ex
	case req.Method != http.MethodGet && req.Method != http.MethodHead:
		ex.Reason = string(OtherMethod)
		return ex
	case h == nil || h.Permit == nil:
		ex.Reason = "nothing says which addresses the request may use"
		return ex
	case bypasses(req):
		ex.Reason = "the request has a body, If-Match or If-Unmodified-Since"
		return ex
	case h.Bypass != "":
		ex.Reason = h.Bypass + " bypasses the cache"
		return ex
	case view.bypass():
		ex.Reason = "the rule bypasses the cache"
		return ex
	}
	q := &query{req: req, hop: h, view: view, dir: parseRequest(req.Header)}
	q.setKey()
	fd := t.lookup(q, now)
	ex.Purged = fd.why()
	ex.Vary, ex.CollapsePaused = fd.names, fd.alone
	if fd.entry == nil {
		fd.entry = t.equivalent(q, now)
	}
	rec := recordOf(fd.entry)
	dec := decide(q.dir, rec, fd.known, now)
	if fd.entry != nil && !fd.entry.serves(req.Method, req.Header) {
		dec = partOnly(q.dir)
	}
	ex.Bends = view.label(q.bent)
	ex.Decision, ex.Reason = dec.Action.String(), string(dec.Reason)
	if rec == nil {
		return ex
	}
	ex.Bends = view.label(q.bent | rec.bentBy(now))
	ex.Stored = &StoredInfo{
		Status: rec.status, Size: fd.entry.obj.Size, Address: rec.addr.String(), Received: rec.received,
		LifetimeSource: rec.source.String(), Lifetime: wholeSeconds(rec.lifetime),
		Age: wholeSeconds(rec.age(now)), TTL: wholeSeconds(rec.ttl(now)),
		ETag: first(rec.header, "Etag"), LastModified: first(rec.header, "Last-Modified"),
		MustRevalidate: rec.noStale, AlwaysValidated: rec.noCache,
	}
	if err := h.Permit(rec.addr); err != nil {
		if dec.Action == Serve && !view.rule.sharesHosts() {
			ex.Decision, ex.Reason = Fail.String(), "the policy refuses the address that it came from"
		} else {
			ex.Decision, ex.Reason = Fetch.String(), "the policy refuses the address that what is stored came from"
		}
	}
	return ex
}

// why says which purge took away or made stale what was found, "" for none.
func (fd found) why() string {
	r, e := fd.ruling, fd.entry
	if r.gone {
		e = fd.lost
	}
	if e == nil {
		return ""
	}
	what := ""
	switch r.by {
	case ByURL:
		what = "a purge of the URL"
	case ByPrefix:
		what = "a purge of the prefix " + r.text
	case ByHost:
		what = "a purge of the host " + r.text
	case ByTag:
		what = "a purge by tag, and its tags are not known"
		if r.tag != 0 {
			what = "a purge of the tag " + strconv.Quote(tagNamed(e.rec.header, r.tag))
		}
	case byGroup:
		what = "an unsafe request, which invalidated a group that it is in (RFC 9875)"
	case byForgotten, byForgottenTag:
		what = "purges that were too many to remember each"
	default:
		what = "the loss of the journal of purges"
	}
	switch {
	case r.gone:
		return "gone by " + what
	case r.stale:
		return "stale by " + what
	}
	return ""
}
