package accesslog

import (
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// line is one record being written, with room for a value on its way.
type line struct {
	out []byte
	tmp []byte
}

// encoders holds the formats by name; each appends one line with its end.
var encoders = map[string]func(*line, *Record){
	formatJSON:     (*line).json,
	formatSquid:    (*line).squid,
	formatCombined: (*line).combined,
}

// url returns s without secrets; valid until the next call.
func (l *line) url(s string) []byte {
	l.tmp = appendURL(l.tmp[:0], s)
	return l.tmp
}

// text returns s without the secrets of URLs in it; valid until the next call.
func (l *line) text(s string) []byte {
	l.tmp = appendText(l.tmp[:0], s)
	return l.tmp
}

const hexUpper = "0123456789ABCDEF"

// appendJSONString appends s as a JSON string (RFC 8259, Section 7). What
// does not print (controls, line separators, text direction) is escaped, and
// what is not UTF-8 becomes U+FFFD.
func appendJSONString[S string | []byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		plain := i
		for i < len(s) && inJSON[s[i]] {
			i++
		}
		dst = append(dst, s[plain:i]...)
		if i == len(s) {
			break
		}
		if s[i] < utf8.RuneSelf {
			dst = appendJSONByte(dst, s[i])
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
		i += n
		switch {
		case unicode.IsPrint(r):
			dst = utf8.AppendRune(dst, r)
		case r < 0x10000:
			dst = appendUnicodeEscape(dst, r)
		default:
			r -= 0x10000
			dst = appendUnicodeEscape(dst, 0xD800+r>>10)
			dst = appendUnicodeEscape(dst, 0xDC00+r&0x3FF)
		}
	}
	return append(dst, '"')
}

// appendJSONByte appends an ASCII character that inJSON does not hold.
func appendJSONByte(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return appendUnicodeEscape(dst, rune(c))
}

func appendUnicodeEscape(dst []byte, r rune) []byte {
	return append(dst, '\\', 'u',
		hexUpper[r>>12&0xf], hexUpper[r>>8&0xf], hexUpper[r>>4&0xf], hexUpper[r&0xf])
}

// safe tells which bytes a format writes as they are.
type safe [256]bool

// safeExcept returns the printable ASCII characters without those given.
func safeExcept(chars string) *safe {
	var t safe
	for c := 0x20; c < 0x7f; c++ {
		t[c] = true
	}
	for _, c := range []byte(chars) {
		t[c] = false
	}
	return &t
}

var (
	// inURL leaves the percent sign, so that a URL stays what was asked for.
	inURL = safeExcept(" \"<>\\^`{|}")
	// inWord is for a value between spaces.
	inWord = safeExcept(" \"%\\[]")
	// inQuotes is for a value between double quotes.
	inQuotes = safeExcept("\"%\\[]")
	// inQuotedURL is inQuotes for a URL.
	inQuotedURL = safeExcept("\"\\")
	// inJSON needs no escape in a JSON string.
	inJSON = safeExcept("\"\\")
)

// appendEscaped appends s with every byte that is not safe as %XX, and "-"
// for an empty one.
func appendEscaped[S string | []byte](dst []byte, s S, t *safe) []byte {
	if len(s) == 0 {
		return append(dst, '-')
	}
	if len(s) == 1 && s[0] == '-' {
		return append(dst, "%2D"...)
	}
	for i := range len(s) {
		if c := s[i]; t[c] {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hexUpper[c>>4], hexUpper[c&0xf])
		}
	}
	return dst
}

// appendPadded appends n in decimal, filled up to width from the left.
func appendPadded(dst []byte, n int64, width int, fill byte) []byte {
	var room [20]byte
	digits := strconv.AppendInt(room[:0], n, 10)
	for range width - len(digits) {
		dst = append(dst, fill)
	}
	return append(dst, digits...)
}

// appendMicros appends d in milliseconds, to the microsecond and without
// zeros at the end; a clock that went backwards counts as 0.
func appendMicros(dst []byte, d time.Duration) []byte {
	us := max(0, d.Microseconds())
	dst = strconv.AppendInt(dst, us/1000, 10)
	us %= 1000
	if us == 0 {
		return dst
	}
	dst = append(dst, '.', byte('0'+us/100), byte('0'+us/10%10), byte('0'+us%10))
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}
