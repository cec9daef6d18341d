package cache

import (
	"iter"
	"net/http"
	"strings"
	"time"
)

// elements yields the elements of one line of a list-valued field, trimmed,
// empty ones too; a comma inside a quoted string does not separate (RFC 9110,
// Section 5.6.1).
func elements(line string) iter.Seq[string] {
	return func(yield func(string) bool) {
		start, quoted := 0, false
		for i := 0; i < len(line); i++ {
			switch c := line[i]; {
			case c == '"':
				quoted = !quoted
			case c == '\\' && quoted:
				i++
			case c == ',' && !quoted:
				if !yield(trim(line[start:i])) {
					return
				}
				start = i + 1
			}
		}
		yield(trim(line[start:]))
	}
}

// trim removes optional whitespace (RFC 9110, Section 5.6.3).
func trim(s string) string { return strings.Trim(s, " \t") }

// parseDate reads an HTTP-date in any of its three forms (RFC 9110, Section
// 5.6.7), whatever the case of its letters. A zone other than GMT is an error.
func parseDate(s string) (time.Time, bool) {
	if n := len(s) - len(" GMT"); n > 0 && strings.EqualFold(s[n:], " GMT") {
		s = s[:n] + " GMT"
	} else if len(s) != len(time.ANSIC) {
		return time.Time{}, false
	}
	t, err := http.ParseTime(s)
	return t.UTC(), err == nil
}

// date returns the field's first line as a date.
func date(h http.Header, name string) (time.Time, bool) {
	if lines := h[name]; len(lines) > 0 {
		return parseDate(lines[0])
	}
	return time.Time{}, false
}

func first(h http.Header, name string) string {
	if lines := h[name]; len(lines) > 0 {
		return lines[0]
	}
	return ""
}

func isToken(s string) bool {
	for i := range len(s) {
		if !tokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func tokenByte(c byte) bool {
	switch {
	case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
