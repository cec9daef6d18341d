package cache

import (
	"net/http"
	"slices"
)

// Refusal says why a response is not stored; "" means that it is.
type Refusal string

// The refusals (RFC 9111, Section 3, unless another is named).
const (
	NotGET           Refusal = "only responses to GET are stored"
	StatusNever      Refusal = "this status is never stored"
	StatusUnknown    Refusal = "must-understand, and the status is not understood" // Section 5.2.2.3
	RequestNoStore   Refusal = "the request says no-store"                         // Section 5.2.1.5
	ResponseNoStore  Refusal = "the response says no-store"
	ResponsePrivate  Refusal = "the response is private"
	Authorized       Refusal = "the request has Authorization and the response does not allow it" // Section 3.5
	SetsCookie       Refusal = "the response sets a cookie and is not public"                     // Section 7.3
	CookieHeuristic  Refusal = "the request has a cookie and the response does not say how long it is fresh"
	VaryAll          Refusal = "Vary lets no other request match" // Section 4.1
	NotCacheable     Refusal = "nothing says that this status may be stored"
	NeverUsable      Refusal = "it is neither fresh nor has it a validator"
	TooLarge         Refusal = "the body is larger than cache.max_object"
	TooFewUses       Refusal = "it was not asked for min_uses times yet"
	HeadTooLarge     Refusal = "the header section is too large to store"
	HasTrailers      Refusal = "it announces trailer fields"
	FromUnknown      Refusal = "the address that it came from is not known"
	Incomplete       Refusal = "the body broke off"                          // Section 3.3
	Invalidated      Refusal = "an unsafe request invalidated it on the way" // Section 4.4
	WasPurged        Refusal = "it was purged on the way"
	OlderThanStored  Refusal = "what is stored was requested later"
	StoreUnavailable Refusal = "the store did not take it"
)

// neverStored are statuses that say nothing about the target for anybody else:
// partial and conditional answers, a change against what one client holds (226,
// RFC 3229), and those that RFC 6585 forbids to store.
var neverStored = []int{206, 226, 304, 407, 412, 416, 428, 429, 431, 511}

// understood reports whether this cache knows the status and how to cache it
// (RFC 9111, Section 5.2.2.3).
func understood(status int) bool {
	return http.StatusText(status) != "" && !slices.Contains(neverStored, status)
}

// storable says whether a complete response may be stored by a shared cache
// and would ever be used (RFC 9111, Section 3). The record is the one that
// would be stored, seen with v, and d are its directives as v has them.
func storable(v *view, method string, rq requestDirectives, r *record, h http.Header, d responseDirectives) Refusal {
	saw := v.rule.forgive(r.saw)
	explicit := r.source != NoLifetime && r.source != FromHeuristic
	_, varies := varyNames(h)
	switch {
	case method != http.MethodGet:
		return NotGET
	case r.status < 200 || r.status > 599 || slices.Contains(neverStored, r.status):
		return StatusNever
	case d.mustUnderstand && !understood(r.status):
		return StatusUnknown
	case rq.noStore:
		return RequestNoStore
	case d.noStore && !d.mustUnderstand:
		return ResponseNoStore
	case d.private:
		return ResponsePrivate
	case saw&sawAuthorization != 0 && !d.permitsAuthorized():
		return Authorized
	case saw&sawSetCookie != 0 && !d.public && d.sMaxAge <= 0:
		return SetsCookie
	case saw&sawCookie != 0 && !d.public && !(explicit && r.lifetime > 0):
		return CookieHeuristic
	case !varies:
		return VaryAll
	case !explicit && !d.public && !heuristicStatus[r.status]:
		return NotCacheable
	case !r.hasValidator() && !(r.usableWithoutValidator()):
		return NeverUsable
	case !r.addr.IsValid():
		return FromUnknown
	}
	return ""
}

// permitsAuthorized reports whether the response may be reused although the
// request was authorized (RFC 9111, Section 3.5).
func (d responseDirectives) permitsAuthorized() bool {
	return d.public || d.mustRevalidate || d.sMaxAge > 0
}

// mayGuess says whether a response may be given a lifetime that it does not
// state: never when it may be one user's own.
func mayGuess(s saw, d responseDirectives) bool {
	return d.public || s&(sawCookie|sawAuthorization) == 0
}

// usableWithoutValidator reports whether the response can be served at least
// once without asking the origin.
func (r *record) usableWithoutValidator() bool {
	if r.noCache {
		return false
	}
	window := r.lifetime
	if !r.noStale {
		window += max(r.staleIfError, r.staleRevalidate, 0).duration()
	}
	return window > r.initialAge
}
