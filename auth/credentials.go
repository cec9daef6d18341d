package auth

import (
	"encoding/base64"
	"strings"
	"unicode"
	"unicode/utf8"
)

// credentials are what a client sent (RFC 9110, Section 11.4).
type credentials struct {
	bearer bool
	user   string // "" for a bearer
	secret string // the password or token
}

// parseCredentials reads the values of Proxy-Authorization. It is false for
// what is malformed, for a scheme that is not offered, and for several fields
// at once, of which nobody could say which one counts.
func parseCredentials(fields []string) (credentials, bool) {
	if len(fields) != 1 {
		return credentials{}, false
	}
	scheme, rest, _ := strings.Cut(strings.TrimSpace(fields[0]), " ")
	rest = strings.TrimLeft(rest, " ")
	switch {
	case strings.EqualFold(scheme, "Basic"):
		return parseBasic(rest)
	case strings.EqualFold(scheme, "Bearer"):
		return credentials{bearer: true, secret: rest}, isToken68(rest)
	}
	return credentials{}, false
}

// parseBasic reads user-pass (RFC 7617, Section 2): the first colon ends the
// user, further ones are part of the password. A user without a name, which
// the RFC permits, is nobody here.
func parseBasic(encoded string) (credentials, bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(encoded)
	text := string(b)
	user, password, ok := strings.Cut(text, ":")
	if err != nil || !ok || user == "" || strings.ContainsAny(encoded, "\r\n") || !isText(text) {
		return credentials{}, false
	}
	return credentials{user: user, secret: password}, true
}

// isText reports whether s is UTF-8 without control characters.
func isText(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) }

// isToken68 reports whether s can follow Bearer (RFC 6750, Section 2.1).
func isToken68(s string) bool {
	body := strings.TrimRight(s, "=")
	return body != "" && !strings.ContainsFunc(body, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("-._~+/", r)
	})
}
