package acl

import "strings"

// maxDecoding is how many times over something may be percent-encoded; what
// is, and more, is read differently by everybody.
const maxDecoding = 3

// plainPath returns the path as a server may read it that decodes and resolves
// it: percent-encoding decoded until none is left, "\" as "/", empty and dot
// segments resolved, also where parameters (";") hang on them. It reports
// false for a path that is encoded too often to tell.
func plainPath(sent string) (string, bool) {
	path, ok := decoded(sent)
	if !ok {
		return "", false
	}
	path = strings.ReplaceAll(path, `\`, "/")
	if path == "" || path[0] != '/' || !strings.Contains(path, "//") && !strings.Contains(path, "/.") {
		return path, true
	}
	var kept []string
	open := false // whether the path ends in a slash
	for segment := range strings.SplitSeq(path[1:], "/") {
		name, _, _ := strings.Cut(segment, ";")
		open = true
		switch {
		case segment == "" || name == ".":
		case name == "..":
			kept = kept[:max(0, len(kept)-1)]
		default:
			kept, open = append(kept, segment), false
		}
	}
	path = "/" + strings.Join(kept, "/")
	if open && len(kept) > 0 {
		path += "/"
	}
	return path, true
}

// plainQuery returns the query as a server reads a form: "+" as a space, and
// decoded as for plainPath.
func plainQuery(sent string) (string, bool) {
	return decoded(strings.ReplaceAll(sent, "+", " "))
}

// decoded resolves percent-encoding until none is left. It reports false where
// that would take more than maxDecoding rounds.
func decoded(s string) (string, bool) {
	for range maxDecoding {
		next := decode(s)
		if next == s {
			return s, true
		}
		s = next
	}
	return s, decode(s) == s
}

// decode resolves percent-encoding once; a percent sign that begins none stays.
func decode(s string) string {
	i := strings.IndexByte(s, '%')
	if i < 0 {
		return s
	}
	out := append(make([]byte, 0, len(s)), s[:i]...)
	for ; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			high, low := unhex(s[i+1]), unhex(s[i+2])
			if high < 16 && low < 16 {
				out = append(out, high<<4|low)
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

// unhex returns the value of a hexadecimal digit, 16 for anything else.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}
