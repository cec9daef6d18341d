package http1

import "fwdproxy/internal/header"

// token, visible and text are the octets of RFC 9110, Section 5.6.2, of a
// request-target, and of a field's value (Section 5.5). What RFC 3986 leaves
// out of a target and browsers send all the same is visible; "#" is not: a
// target has no fragment, and parsers disagree about one.
var token, visible, text [256]bool

func init() {
	for c := range token {
		token[c] = header.IsTokenByte(byte(c))
	}
	for c := 0x21; c < 0x100; c++ {
		visible[c] = c != 0x7f && c != '#'
		text[c] = c != 0x7f
	}
	text[' '], text['\t'] = true, true
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func blank(c byte) bool { return c == ' ' || c == '\t' }

// equalFold compares with a lower-case ASCII string, letters in any case.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
