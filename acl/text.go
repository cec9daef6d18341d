package acl

import (
	"strings"

	"fwdproxy/internal/target"
)

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
		next := target.Decode(s)
		if next == s {
			return s, true
		}
		s = next
	}
	return s, target.Decode(s) == s
}
