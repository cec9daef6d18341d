package cache

import (
	"net/http"
	"strings"
	"time"
)

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
