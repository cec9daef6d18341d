package accesslog

import (
	"bytes"
	"slices"
	"strings"
)

// redacted stands for a value that looks like a credential.
const redacted = "REDACTED"

// appendURL appends s without userinfo, and with the values of query
// parameters whose names look like credentials replaced.
func appendURL(dst []byte, s string) []byte {
	query := strings.IndexAny(s, "?#")
	if query < 0 {
		query = len(s)
	}
	dst = appendAuthority(dst, s[:query])
	for s = s[query:]; s != ""; {
		dst = append(dst, s[0]) // the separator
		s = s[1:]
		end := strings.IndexAny(s, "?#&;")
		if end < 0 {
			end = len(s)
		}
		name, value, assigned := strings.Cut(s[:end], "=")
		switch {
		case assigned && value != "" && isCredential(name):
			dst = append(dst, name...)
			dst = append(dst, '=')
			dst = append(dst, redacted...)
		case assigned && strings.Contains(value, "://"):
			dst = append(dst, name...)
			dst = append(dst, '=')
			dst = appendAuthority(dst, value)
		default:
			dst = append(dst, s[:end]...)
		}
		s = s[end:]
	}
	return dst
}

// appendAuthority appends s without the userinfo of the authority that it
// holds: behind "://", or at its beginning where there is neither scheme nor
// path, as in a CONNECT target.
func appendAuthority(dst []byte, s string) []byte {
	start := 0
	if i := strings.Index(s, "://"); i >= 0 {
		start = i + len("://")
	} else if strings.HasPrefix(s, "//") {
		start = 2
	} else if strings.HasPrefix(s, "/") {
		return append(dst, s...)
	}
	end := len(s)
	if i := strings.IndexByte(s[start:], '/'); i >= 0 {
		end = start + i
	}
	dst = append(dst, s[:start]...)
	if at := strings.LastIndexByte(s[start:end], '@'); at >= 0 {
		start += at + 1
	}
	return append(dst, s[start:]...)
}

// appendText appends free text in which URLs may stand, each redacted.
func appendText(dst []byte, s string) []byte {
	for s != "" {
		end := strings.IndexAny(s, " \t\r\n\"'<>")
		switch {
		case end < 0:
			return appendURL(dst, s)
		case end > 0:
			dst = appendURL(dst, s[:end])
		}
		dst = append(dst, s[end])
		s = s[end+1:]
	}
	return dst
}

// credentialEndings are endings of names that hold nothing but secrets,
// whatever stands before them: accessToken, X-Amz-Signature, db_password.
var credentialEndings = []string{
	"token", "password", "passwd", "passphrase", "secret", "signature", "apikey", "credential", "credentials",
}

// credentialWords are too short for an ending: they count as the whole last
// word of a name, as in api_key, and not in monkey.
var credentialWords = []string{"key", "sig", "auth", "authorization", "pwd", "pass", "jwt", "sid"}

// isCredential reports whether a query parameter of this name likely holds a
// secret. A name too long to be read counts as one.
func isCredential(name string) bool {
	var room [128]byte
	b := room[:0]
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c == '%' && i+2 < len(name) {
			hi, lo := unhex(name[i+1]), unhex(name[i+2])
			if hi >= 0 && lo >= 0 {
				c = byte(hi<<4 | lo)
				i += 2
			}
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if len(b) == cap(b) {
			return true
		}
		b = append(b, c)
	}
	b = bytes.TrimRight(b, " +[]")
	if string(b) == "code" {
		return true
	}
	for _, e := range credentialEndings {
		if len(b) >= len(e) && string(b[len(b)-len(e):]) == e {
			return true
		}
	}
	word := b[bytes.LastIndexAny(b, "-_.[ +")+1:]
	return slices.Contains(credentialWords, string(word))
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
