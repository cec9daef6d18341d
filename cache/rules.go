package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"fwdproxy/internal/target"
)

// rule is a compiled [[cache.rule]]. All methods may be called on nil, which
// changes nothing.
type rule struct {
	RuleConfig
	anyHost bool
	hosts   target.Hosts
	path    *regexp.Regexp
	ignore  bend
}

// bend is a set of ways to treat a message otherwise than RFC 9111 says, or
// than this cache would by itself.
type bend uint16

const (
	bendMinTTL bend = 1 << iota
	bendNegative
	bendStale
	bendKey
	bendNoStore
	bendNoCache
	bendPrivate
	bendRevalidate
	bendAuthorization
	bendReload
	// These two are against no rule of the RFC.
	bendSetCookie
	bendCookie
)

// bends are those against the RFC, as they are labelled.
var bends = []struct {
	bit                   bend
	label, section, means string
}{
	{bendMinTTL, "min_ttl", "4.2.1", "responses are served for longer than they say"},
	{bendNegative, "negative_ttl", "3", "errors are stored that nothing says may be"},
	{bendStale, "stale", "4.2.4", "stale responses are served where the origin did not agree"},
	{bendKey, "key", "4", "a response answers for other URLs than its own"},
	{bendNoStore, "ignore no-store", "5.2.2.5", "responses that say no-store are stored"},
	{bendNoCache, "ignore no-cache", "5.2.2.4", "responses that say no-cache are served without asking"},
	{bendPrivate, "ignore private", "5.2.2.7", "what is for one user is given to all"},
	{bendRevalidate, "ignore must-revalidate", "5.2.2.2", "responses that forbid it are served stale"},
	{bendAuthorization, "ignore authorization", "3.5", "what one user is authorized for is given to all"},
	{bendReload, "ignore reload", "5.2.1", "a client that asks for something fresher does not get it"},
}

// ignorance is something that Ignore can name.
type ignorance struct {
	name string
	bit  bend
}

var ignorable = []ignorance{
	{"no-store", bendNoStore}, {"no-cache", bendNoCache}, {"private", bendPrivate}, {"must-revalidate", bendRevalidate},
	{"set-cookie", bendSetCookie}, {"authorization", bendAuthorization}, {"cookie", bendCookie}, {"reload", bendReload},
}

// mayBend returns the ways in which the rule can break the RFC.
func (r *rule) mayBend() bend {
	b := r.ignore &^ (bendSetCookie | bendCookie)
	if r.MinTTL > 0 {
		b |= bendMinTTL
	}
	if r.NegativeTTL > 0 {
		b |= bendNegative
	}
	if r.StaleWhileRevalidate > 0 || r.StaleIfError > 0 {
		b |= bendStale
	}
	if len(r.IgnoreQuery) > 0 || r.SortQuery || r.KeyHost != "" {
		b |= bendKey
	}
	return b
}

// view is how the responses of one URL are seen: which fields say how they
// are to be cached, and which rule holds.
type view struct {
	targeted []string
	rule     *rule  // nil where none holds
	print    uint64 // differs between views that read a response differently
}

func newView(targeted []string, r *rule) *view {
	v := &view{targeted: targeted, rule: r}
	var c RuleConfig
	var ignore bend
	if r != nil {
		c, ignore = r.RuleConfig, r.ignore
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %d %d %d %d %d %d %d", targeted, c.MinTTL, c.MaxTTL, c.DefaultTTL, c.NegativeTTL,
		c.StaleWhileRevalidate, c.StaleIfError, ignore))
	v.print = binary.LittleEndian.Uint64(sum[:])
	return v
}

// view returns the view of the URL: that of the first rule that holds for it.
func (t *Transport) view(u *url.URL) *view {
	if len(t.rules) > 0 {
		host, path := u.Hostname(), u.EscapedPath()
		if path == "" {
			path = "/"
		}
		for _, v := range t.rules {
			if v.rule.matches(host, path) {
				return v
			}
		}
	}
	return t.plain
}

func (v *view) bypass() bool { return v.rule != nil && v.rule.Bypass }

func (r *rule) ignores(b bend) bool { return r != nil && r.ignore&b != 0 }

// soften takes from a request's directives what the rule ignores, and returns
// what that was.
func (r *rule) soften(d *requestDirectives) bend {
	if !r.ignores(bendReload) || !d.noCache && d.maxAge == unset && d.minFresh == unset {
		return 0
	}
	d.noCache, d.maxAge, d.minFresh = false, unset, unset
	return bendReload
}

// adjust takes from a response's directives what the rule ignores, adds the
// stale windows that the rule gives, and returns in what that bends the RFC.
func (r *rule) adjust(d *responseDirectives) (bent bend) {
	if r == nil {
		return 0
	}
	ignore := func(b bend, said ...*bool) {
		for _, s := range said {
			if *s && r.ignores(b) {
				*s = false
				bent |= b
			}
		}
	}
	ignore(bendNoStore, &d.noStore)
	ignore(bendNoCache, &d.noCache)
	ignore(bendPrivate, &d.private)
	ignore(bendRevalidate, &d.mustRevalidate, &d.proxyRevalidate)
	for _, w := range []struct {
		window time.Duration
		said   *seconds
	}{{r.StaleWhileRevalidate.D(), &d.staleRevalidate}, {r.StaleIfError.D(), &d.staleIfError}} {
		if w.window > 0 && *w.said == unset {
			*w.said = min(seconds(w.window/time.Second), maxAge)
			bent |= bendStale
		}
	}
	return bent
}

// negativeStatus are the errors that negative_ttl gives a lifetime: those that
// tell of the resource or the server, not of what one client sent.
var negativeStatus = map[int]bool{404: true, 405: true, 410: true, 414: true, 451: true, 500: true, 501: true, 502: true, 503: true, 504: true}

// lifetime gives a record the lifetime that the rule says, where guess says
// whether whom the response is for allows one that it does not state.
func (r *rule) lifetime(rec *record, d responseDirectives, guess bool) {
	if r == nil {
		return
	}
	set := func(l time.Duration) { rec.lifetime, rec.source = min(l, maxAge.duration()), FromRule }
	stated := rec.source != NoLifetime && rec.source != FromHeuristic
	may := guess && (heuristicStatus[rec.status] || d.public)
	switch {
	case rec.status >= 400:
		if r.NegativeTTL > 0 && !stated && (may || guess && negativeStatus[rec.status]) {
			set(r.NegativeTTL.D())
			if !heuristicStatus[rec.status] && !d.public {
				rec.bent |= bendNegative
			}
		}
	case r.DefaultTTL > 0 && !stated && may:
		set(r.DefaultTTL.D())
	}
	if rec.status < 400 && rec.lifetime < r.MinTTL.D() && (may || stated && (guess || rec.lifetime > 0)) {
		set(r.MinTTL.D())
		if stated {
			rec.bent |= bendMinTTL
		}
	}
	if most := r.MaxTTL.D(); most > 0 && rec.lifetime > most {
		set(most)
	}
}

// saw are facts about the exchange that brought a response, which say whom it
// may be for.
type saw uint8

const (
	sawAuthorization saw = 1 << iota // in the request
	sawCookie                        // in the request
	sawSetCookie                     // in the response
)

func sees(reqHeader, h http.Header) (s saw) {
	if len(reqHeader["Authorization"]) > 0 {
		s |= sawAuthorization
	}
	if len(reqHeader["Cookie"]) > 0 {
		s |= sawCookie
	}
	if len(h["Set-Cookie"]) > 0 {
		s |= sawSetCookie
	}
	return s
}

// forgive takes from s what the rule ignores.
func (r *rule) forgive(s saw) saw {
	if r.ignores(bendAuthorization) {
		s &^= sawAuthorization
	}
	if r.ignores(bendCookie) {
		s &^= sawCookie
	}
	if r.ignores(bendSetCookie) {
		s &^= sawSetCookie
	}
	return s
}

// label says for Cache-Status and explain what the rule bent.
func (v *view) label(b bend) string {
	var words []string
	for _, k := range bends {
		if b&k.bit != 0 {
			words = append(words, k.label)
		}
	}
	if len(words) == 0 || v.rule == nil {
		return ""
	}
	return "rule " + v.rule.Name + ": " + strings.Join(words, ", ")
}

// bentBy returns what was bent so that r is served at now.
func (r *record) bentBy(now time.Time) bend {
	b := r.bent
	if r.ttl(now) > 0 {
		b &^= bendStale | bendRevalidate
	}
	return b
}

// dropQuery reports whether the cache key leaves the query parameter out. One
// that holds a semicolon, where some servers begin another, stays.
func (r *rule) dropQuery(param string) bool {
	if strings.IndexByte(param, ';') >= 0 {
		return false
	}
	name, _, _ := strings.Cut(param, "=")
	return slices.ContainsFunc(r.IgnoreQuery, func(p string) bool {
		prefix, wild := strings.CutSuffix(p, "*")
		return name == p || wild && strings.HasPrefix(name, prefix)
	})
}

// sharesHosts reports whether what one host sent answers for others.
func (r *rule) sharesHosts() bool { return r != nil && r.KeyHost != "" }

func (r *rule) dropsQuery() bool { return r != nil && len(r.IgnoreQuery) > 0 }

// query returns the query as the cache key has it.
func (r *rule) query(raw string) string {
	if !r.dropsQuery() && (r == nil || !r.SortQuery) {
		return raw
	}
	params := strings.Split(raw, "&")
	params = slices.DeleteFunc(params, r.dropQuery)
	if r.SortQuery {
		slices.SortStableFunc(params, func(a, b string) int {
			a, _, _ = strings.Cut(a, "=")
			b, _, _ = strings.Cut(b, "=")
			return strings.Compare(a, b)
		})
	}
	return strings.Join(params, "&")
}
