package cache

import (
	"net/http"
	"strings"

	"github.com/pquerna/cachecontrol/cacheobject"

	"fwdproxy/internal/header"
)

// unset marks a directive with a number that is not there.
const unset seconds = -1

// responseDirectives is a response's Cache-Control (RFC 9111, Section 5.2.2;
// RFC 5861) at its strictest reading over all field lines and members.
type responseDirectives struct {
	noStore, noCache, private       bool // the unqualified forms
	public, mustUnderstand          bool
	mustRevalidate, proxyRevalidate bool
	maxAge, sMaxAge                 seconds // unset, or 0 and more
	staleIfError, staleRevalidate   seconds
	withheld                        []string // fields named by no-cache="..." and private="..."
	targeted                        string   // the targeted field that they are from; "" for Cache-Control
}

func noResponseDirectives() responseDirectives {
	return responseDirectives{maxAge: unset, sMaxAge: unset, staleIfError: unset, staleRevalidate: unset}
}

// requestDirectives is a request's Cache-Control (RFC 9111, Section 5.2.1).
type requestDirectives struct {
	noStore, noCache, onlyIfCached bool
	maxAge, minFresh               seconds
	maxStale                       seconds // maxAge when the directive has no argument
}

// readResponse reads the directives of a response: those of the first of the
// targeted fields that is valid and not empty, else those of Cache-Control
// (RFC 9213, Section 2.2).
func readResponse(h http.Header, targeted []string) responseDirectives {
	for _, name := range targeted {
		if lines := h[name]; len(lines) > 0 {
			if d, ok := parseTargeted(lines); ok {
				d.targeted = name
				return d
			}
		}
	}
	return parseResponse(h)
}

// parseResponse reads the Cache-Control of a response. Every directive is
// parsed by itself, so that a malformed one takes no other with it; what is
// malformed restricts as far as its words can, and permits nothing.
func parseResponse(h http.Header) responseDirectives {
	d := noResponseDirectives()
	eachMember(h, func(member string, wellFormed bool) {
		if wellFormed {
			if p, err := cacheobject.ParseResponseCacheControl(member); err == nil {
				d.add(p, member)
				return
			}
		}
		eachWord(member, d.restrict)
	})
	return d
}

func (d *responseDirectives) add(p *cacheobject.ResponseCacheDirectives, member string) {
	d.noStore = d.noStore || p.NoStore
	d.public = d.public || p.Public
	d.mustRevalidate = d.mustRevalidate || p.MustRevalidate
	d.proxyRevalidate = d.proxyRevalidate || p.ProxyRevalidate
	for _, ext := range p.Extensions {
		d.mustUnderstand = d.mustUnderstand || ext == "must-understand"
	}
	if p.NoCachePresent {
		d.qualify(&d.noCache, p.NoCache, member)
	}
	if p.PrivatePresent {
		d.qualify(&d.private, p.Private, member)
	}
	least(&d.maxAge, p.MaxAge)
	least(&d.sMaxAge, p.SMaxAge)
	least(&d.staleIfError, p.StaleIfError)
	least(&d.staleRevalidate, p.StaleWhileRevalidate)
}

// qualify takes the field names of a no-cache or private. Only a quoted list
// of names limits the directive to them (RFC 9111, Section 5.2.2.4); any other
// argument does not.
func (d *responseDirectives) qualify(unqualified *bool, names cacheobject.FieldNames, member string) {
	_, argument, _ := strings.Cut(member, "=")
	if !strings.HasPrefix(argument, `"`) || len(names) == 0 {
		*unqualified = true
		return
	}
	for name := range names {
		if !mayWithhold(name) {
			*unqualified = true
			return
		}
		d.withheld = append(d.withheld, name)
	}
}

// mayWithhold reports whether a response makes sense without the field: those
// that the body, the key and the freshness hang on stay, or the whole goes.
func mayWithhold(name string) bool {
	name = http.CanonicalHeaderKey(name)
	switch name {
	case "Vary", "Cache-Control", "Expires", "Date", "Age", "Etag", "Last-Modified", "No-Vary-Search":
		return false
	}
	return header.IsToken(name) && !strings.HasPrefix(name, "Content-") && !strings.HasSuffix(name, "-Cache-Control")
}

// restrict honours one word of a member that could not be parsed.
func (d *responseDirectives) restrict(word string) {
	switch word {
	case "no-store":
		d.noStore = true
	case "no-cache":
		d.noCache = true
	case "private":
		d.private = true
	case "must-revalidate":
		// It forbids, but it does not permit what Section 3.5 would.
		d.proxyRevalidate = true
	case "proxy-revalidate":
		d.proxyRevalidate = true
	case "max-age":
		d.maxAge = 0
	case "s-maxage":
		d.sMaxAge = 0
	case "stale-if-error":
		d.staleIfError = 0
	case "stale-while-revalidate":
		d.staleRevalidate = 0
	}
}

// plainRequest are the directives of a request without any.
var plainRequest = requestDirectives{maxAge: unset, minFresh: unset, maxStale: unset}

// parseRequest reads the Cache-Control of a request, and Pragma: no-cache
// where there is none (RFC 9111, Section 5.4).
func parseRequest(h http.Header) requestDirectives {
	d := plainRequest
	if len(h["Cache-Control"]) == 0 {
		d.noCache = len(h["Pragma"]) > 0 && header.HasToken(h, "Pragma", "no-cache")
		return d
	}
	badStale := false
	eachMember(h, func(member string, wellFormed bool) {
		if wellFormed {
			if p, err := cacheobject.ParseRequestCacheControl(member); err == nil {
				d.add(p)
				return
			}
		}
		eachWord(member, func(word string) { badStale = d.restrict(word) || badStale })
	})
	if badStale {
		d.maxStale = unset
	}
	return d
}

func (d *requestDirectives) add(p *cacheobject.RequestCacheDirectives) {
	d.noStore = d.noStore || p.NoStore
	d.noCache = d.noCache || p.NoCache
	d.onlyIfCached = d.onlyIfCached || p.OnlyIfCached
	least(&d.maxAge, p.MaxAge)
	d.minFresh = max(d.minFresh, seconds(p.MinFresh))
	if p.MaxStaleSet {
		leastOf(&d.maxStale, maxAge)
	}
	least(&d.maxStale, p.MaxStale)
}

// restrict honours one word of a member that could not be parsed; it reports
// whether max-stale must be ignored.
func (d *requestDirectives) restrict(word string) (badStale bool) {
	switch word {
	case "no-store":
		d.noStore = true
	case "no-cache":
		d.noCache = true
	case "only-if-cached":
		d.onlyIfCached = true
	case "max-age":
		d.maxAge = 0
	case "min-fresh":
		d.minFresh = maxAge
	case "max-stale":
		return true
	}
	return false
}

// least lowers *s to v, which counts only when it is not negative.
func least(s *seconds, v cacheobject.DeltaSeconds) {
	if v >= 0 {
		leastOf(s, seconds(v))
	}
}

func leastOf(s *seconds, v seconds) {
	if *s == unset || v < *s {
		*s = v
	}
}

// eachMember calls f with every member of Cache-Control, over all its lines
// (RFC 9110, Section 5.3), and whether it is a directive in form: a token,
// perhaps with one argument (RFC 9111, Section 5.2).
func eachMember(h http.Header, f func(member string, wellFormed bool)) {
	for _, line := range h["Cache-Control"] {
		if strings.Count(line, `"`)%2 != 0 {
			// Where a quote does not close, nobody knows what it was to cover.
			f(line, false)
			continue
		}
		for member := range header.Elements(line) {
			if member != "" {
				f(member, isDirective(member))
			}
		}
	}
}

func isDirective(member string) bool {
	name, argument, has := strings.Cut(member, "=")
	if !header.IsToken(name) {
		return false
	}
	if !has || header.IsToken(argument) {
		return true
	}
	if len(argument) < 2 || argument[0] != '"' || argument[len(argument)-1] != '"' {
		return false
	}
	// An escape would make another string than it reads; no directive needs one.
	return !strings.ContainsAny(argument[1:len(argument)-1], `"\`)
}

// eachWord calls f with every token in s, in lower case.
func eachWord(s string, f func(string)) {
	for word := range strings.FieldsFuncSeq(strings.ToLower(s), func(r rune) bool { return r >= 0x80 || !header.IsTokenByte(byte(r)) }) {
		f(word)
	}
}
