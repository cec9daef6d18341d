// Package header holds the rules for fields that every stage shares:
// hop-by-hop fields, list-valued fields and Via.
//
// It changes only the header it is given and decides nothing about caching.
package header

import (
	"iter"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
)

// hopByHop are the fields that concern one connection only (RFC 9110,
// Section 7.6.1), with the proxy's own and two that predate them.
var hopByHop = []string{
	"Connection",
	"Keep-Alive",
	"Proxy-Connection",
	"Proxy-Authenticate",
	"Proxy-Authentication-Info",
	"Proxy-Authorization",
	"Te",
	"Trailer",
	"Transfer-Encoding",
	"Upgrade",
	"Http2-Settings",
}

// kept are fields that Connection cannot nominate away: the rule, the key and
// the framing of the message rest on them.
var kept = map[string]bool{
	"Host": true, "Content-Length": true, "Cache-Control": true, "Via": true,
	"Date": true, "Age": true, "Vary": true, "Content-Range": true, "Set-Cookie": true,
	"Pragma": true, "Expires": true,
}

// RemoveHopByHop deletes the hop-by-hop fields of h and those that Connection
// nominates (RFC 9110, Section 7.6.1). Fields that policy and cache decide by
// stay even when nominated.
func RemoveHopByHop(h http.Header) {
	for _, name := range Tokens(h, "Connection") {
		name = textproto.CanonicalMIMEHeaderKey(name)
		if !kept[name] {
			delete(h, name)
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}

// IsHopByHop reports whether the field with the canonical name concerns one
// connection only.
func IsHopByHop(name string) bool { return slices.Contains(hopByHop, name) }

// Tokens returns the members of a list-valued field over all its lines,
// trimmed, empty ones left out (RFC 9110, Section 5.6.1). Quoted strings are
// not split.
func Tokens(h http.Header, name string) []string {
	var out []string
	for _, line := range h[name] {
		for e := range Elements(line) {
			if e != "" {
				out = append(out, e)
			}
		}
	}
	return out
}

// Elements yields the elements of one line of a list-valued field, trimmed,
// empty ones too; a comma inside a quoted string does not separate (RFC 9110,
// Section 5.6.1).
func Elements(line string) iter.Seq[string] {
	return func(yield func(string) bool) {
		start, quoted := 0, false
		for i := 0; i < len(line); i++ {
			switch c := line[i]; {
			case c == '"':
				quoted = !quoted
			case c == '\\' && quoted:
				i++
			case c == ',' && !quoted:
				if !yield(Trim(line[start:i])) {
					return
				}
				start = i + 1
			}
		}
		yield(Trim(line[start:]))
	}
}

// Trim removes optional whitespace (RFC 9110, Section 5.6.3).
func Trim(s string) string { return strings.Trim(s, " \t") }

// IsToken reports whether s is a token (RFC 9110, Section 5.6.2).
func IsToken(s string) bool {
	for i := range len(s) {
		if !IsTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

// IsTokenByte reports whether c may stand in a token (RFC 9110, Section 5.6.2).
func IsTokenByte(c byte) bool {
	switch {
	case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// HasToken reports whether the list-valued field contains the token, in any case.
func HasToken(h http.Header, name, token string) bool {
	for _, t := range Tokens(h, name) {
		if strings.EqualFold(t, token) {
			return true
		}
	}
	return false
}

// Upgrade returns the protocol that a message asks to switch to, "" when
// Connection does not name Upgrade (RFC 9110, Section 7.8).
func Upgrade(h http.Header) string {
	if !HasToken(h, "Connection", "upgrade") {
		return ""
	}
	return h.Get("Upgrade")
}

// AppendVia adds this proxy to Via as pseudonym name, joining what came as
// several lines into one (RFC 9110, Section 7.6.3).
func AppendVia(h http.Header, major, minor int, name string) {
	version := strconv.Itoa(major)
	if major < 2 {
		version += "." + strconv.Itoa(minor)
	}
	via := version + " " + name
	if prior := h["Via"]; len(prior) > 0 {
		via = strings.Join(prior, ", ") + ", " + via
	}
	h["Via"] = []string{via}
}

// Passed reports whether Via says that the message went through the proxy
// called name before (RFC 9110, Section 7.6.3).
func Passed(h http.Header, name string) bool {
	for _, entry := range Tokens(h, "Via") {
		fields := strings.Fields(entry)
		if len(fields) >= 2 && strings.EqualFold(fields[1], name) {
			return true
		}
	}
	return false
}
