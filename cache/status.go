package cache

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"fwdproxy/internal/header"
)

// status is our member of Cache-Status (RFC 9211).
type status struct {
	hit       bool
	fwd       string // why the request went forward
	fwdStatus int    // what came back, where the client is sent another status; 0 for nothing to say
	ttl       time.Duration
	hasTTL    bool
	stored    bool
	collapsed bool
	key       string // where it is not the URL
	detail    string
}

// String returns the member, for the cache called name.
func (s status) String(name string) string {
	b := make([]byte, 0, 64)
	b = appendMember(b, name)
	if s.hit {
		b = append(b, "; hit"...)
	}
	if s.fwd != "" {
		b = append(b, "; fwd="...)
		b = append(b, s.fwd...)
	}
	if s.fwdStatus != 0 {
		b = append(b, "; fwd-status="...)
		b = strconv.AppendInt(b, int64(s.fwdStatus), 10)
	}
	if s.hasTTL {
		b = append(b, "; ttl="...)
		b = strconv.AppendInt(b, wholeSeconds(s.ttl), 10)
	}
	if s.stored {
		b = append(b, "; stored"...)
	}
	if s.collapsed {
		b = append(b, "; collapsed"...)
	}
	if s.key != "" {
		b = append(b, "; key="...)
		b = appendString(b, s.key)
	}
	if s.detail != "" {
		b = append(b, "; detail="...)
		b = appendMember(b, s.detail)
	}
	return string(b)
}

// appendMember appends a name as a Token where it is one, else as a String
// (RFC 9651, Section 3.3).
func appendMember(b []byte, name string) []byte {
	if header.IsToken(name) && (name[0] == '*' || name[0]|0x20 >= 'a' && name[0]|0x20 <= 'z') {
		return append(b, name...)
	}
	return appendString(b, name)
}

// appendString appends a String (RFC 9651, Section 3.3.3).
func appendString(b []byte, name string) []byte {
	b = append(b, '"')
	for _, c := range []byte(name) {
		switch {
		case c < 0x20 || c > 0x7e:
			c = '?'
		case c == '"' || c == '\\':
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return append(b, '"')
}

// wholeSeconds rounds down, so that what is stale has a negative ttl.
func wholeSeconds(d time.Duration) int64 {
	n := int64(d / time.Second)
	if d%time.Second < 0 {
		n--
	}
	return n
}

// sign makes the header of a response ours: it adds our Cache-Status, and takes
// out the field that was for us alone.
func (t *Transport) sign(h http.Header, member string) {
	if slices.Contains(t.plain.targeted, ownField) {
		delete(h, ownField)
	}
	addStatus(h, member)
}

// addStatus adds our member behind those of caches nearer to the origin.
func addStatus(h http.Header, member string) {
	h["Cache-Status"] = append(slices.Clip(h["Cache-Status"]), member)
}

// fwdReason returns the token of RFC 9211, Section 2.2.
func fwdReason(r Reason) string {
	switch r {
	case NothingStored:
		return "uri-miss"
	case OtherMethod:
		return "method"
	case NoVariant:
		return "vary-miss"
	case PartStored:
		return "partial"
	case RequestNoCache, RequestMaxAge, RequestMinFresh:
		return "request"
	}
	return "stale"
}
