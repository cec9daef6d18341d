package cache

import (
	"net/http"
	"strings"
	"time"

	"fwdproxy/internal/header"
)

// Source says what a freshness lifetime was read from.
type Source uint8

// The sources (RFC 9111, Section 4.2.1).
const (
	NoLifetime    Source = iota // nothing says how long: stale at once
	FromSMaxAge                 // s-maxage
	FromMaxAge                  // max-age
	FromExpires                 // Expires
	FromHeuristic               // a tenth of the time since Last-Modified (Section 4.2.2)
	FromRule                    // a [[cache.rule]]
	sourceCount                 // one more than the last
)

func (s Source) String() string {
	return [...]string{"none", "s-maxage", "max-age", "Expires", "heuristic", "rule"}[min(s, sourceCount-1)]
}

// clockSlack is how far a clock may step back unnoticed, by NTP for one.
const clockSlack = 10 * time.Second

const (
	heuristicShare = 10 // a tenth of the time since Last-Modified
	heuristicMax   = 24 * time.Hour
)

// heuristicStatus holds the status codes that may be given a lifetime that no
// field states (RFC 9110, Section 15.1), 206 left out: it is not stored.
var heuristicStatus = map[int]bool{
	200: true, 203: true, 204: true, 300: true, 301: true, 308: true,
	404: true, 405: true, 410: true, 414: true, 501: true,
}

// Lifetime returns the freshness lifetime of a response that arrived at
// received (RFC 9111, Section 4.2.1): what a shared cache must take, s-maxage
// over max-age over Expires, and the heuristic only where none is there and
// heuristic allows it. An Expires that is no date is in the past (Section 5.3),
// and one beside a targeted field counts for nothing (RFC 9213, Section 2.2).
func Lifetime(status int, h http.Header, d responseDirectives, received time.Time, heuristic bool) (time.Duration, Source) {
	switch {
	case d.sMaxAge != unset:
		return d.sMaxAge.duration(), FromSMaxAge
	case d.maxAge != unset:
		return d.maxAge.duration(), FromMaxAge
	case len(h["Expires"]) > 0 && d.targeted == "":
		return expires(h, received), FromExpires
	case !heuristic || (!heuristicStatus[status] && !d.public):
		return 0, NoLifetime
	}
	modified, ok := date(h, "Last-Modified")
	if !ok {
		return 0, NoLifetime
	}
	unchanged := dateOr(h, received).Sub(modified)
	if unchanged <= 0 {
		return 0, NoLifetime
	}
	return min(unchanged/heuristicShare, heuristicMax), FromHeuristic
}

// expires returns Expires minus Date; of several lines the earliest counts,
// and one that is no date makes it expired.
func expires(h http.Header, received time.Time) time.Duration {
	least := maxAge.duration()
	for _, line := range h["Expires"] {
		t, ok := parseDate(line)
		if !ok {
			return 0
		}
		least = min(least, t.Sub(dateOr(h, received)))
	}
	return max(least, 0)
}

// dateOr returns the Date of h, or received where it has none or an invalid
// one (RFC 9110, Section 6.6.1).
func dateOr(h http.Header, received time.Time) time.Time {
	if t, ok := date(h, "Date"); ok {
		return t
	}
	return received
}

// InitialAge returns the age of a response when it arrived (RFC 9111, Section
// 4.2.3, corrected_initial_age), between 0 and 2^31 seconds.
func InitialAge(h http.Header, requested, received time.Time) time.Duration {
	apparent := max(0, received.Sub(dateOr(h, received)))
	delay := max(0, received.Sub(requested))
	corrected := ageValue(h).duration() + min(delay, maxAge.duration())
	return min(max(apparent, corrected), maxAge.duration())
}

// ageValue reads Age (RFC 9111, Section 5.1): the first member counts, and one
// that is no number is ignored. One that only begins with digits ("1.5",
// "7200;a=b") is taken for the oldest age, since something was meant by it.
func ageValue(h http.Header) seconds {
	value := first(h, "Age")
	if i := strings.IndexByte(value, ','); i >= 0 {
		value = value[:i]
	}
	value = header.Trim(value)
	var n seconds
	for i := range len(value) {
		c := value[i]
		if c < '0' || c > '9' {
			if i == 0 {
				return 0
			}
			return maxAge
		}
		n = min(n*10+seconds(c-'0'), maxAge)
	}
	return n
}

// CurrentAge returns the age at now of a response that had the age initial
// when it arrived at received (RFC 9111, Section 4.2.3). Where that is still to
// come, the clock stepped back and nobody knows the age: it is the greatest.
func CurrentAge(initial time.Duration, received, now time.Time) time.Duration {
	if received.Sub(now) > clockSlack {
		return maxAge.duration()
	}
	return min(initial+min(max(0, now.Sub(received)), maxAge.duration()), maxAge.duration())
}
