package acl

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
)

const (
	maxLine      = 1 << 20
	maxMalformed = 10 // lines reported one by one, for each file
)

// listResult is what reading a list file came to, apart from its entries.
type listResult struct {
	lines     int // read
	skipped   int // that hold nothing a proxy could apply
	malformed []malformedLine
	more      int // malformed lines beyond those
	err       error
}

type malformedLine struct {
	line int
	mistake
}

// readList adds the entries of a list file to s. Lines may be comments ("#" or
// "!"), plain entries, lines of a hosts file ("0.0.0.0 name name", each name
// alone), or Adblock-style "||a.b^" (a.b and all below it). Of the Adblock
// syntax, what depends on more than the host is skipped and counted.
//
// A file without a single byte is an error: it is what a download that failed
// leaves behind, and with it a list that denies would deny nothing.
func readList(r io.Reader, s *set) listResult {
	var out listResult
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 64<<10), maxLine)
	adblock := false
	for in.Scan() {
		out.lines++
		if name, below := commonLine(in.Bytes()); name != nil {
			if !s.domains.add(string(name), below) {
				out.err = errTooLarge
				return out
			}
			continue
		}
		line := in.Text()
		if out.lines == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if strings.HasPrefix(line, "[Adblock") {
			adblock = true
			continue
		}
		entries, kind, bad := parseLine(line)
		switch {
		case kind == skippedLine, bad != nil && adblock:
			out.skipped++
		case bad != nil && len(out.malformed) < maxMalformed:
			out.malformed = append(out.malformed, malformedLine{out.lines, *bad})
		case bad != nil:
			out.more++
		}
		for _, e := range entries {
			if !s.add(e) {
				out.err = errTooLarge
				return out
			}
		}
	}
	switch out.err = in.Err(); {
	case errors.Is(out.err, bufio.ErrTooLong):
		out.err = errors.New("the line is longer than a megabyte")
	case out.err == nil && out.lines == 0:
		out.err = errors.New(`the file is empty; write "# empty" into a list that is meant to be`)
	}
	return out
}

var errTooLarge = errors.New("the list is too large")

// commonLine returns the name on a line of one of the forms that lists of
// millions have, where it is in canonical form already; nil for every other
// line. It is there for speed alone: parseLine reads the same.
func commonLine(line []byte) (name []byte, below bool) {
	if rest, ok := bytes.CutPrefix(line, []byte("0.0.0.0 ")); ok {
		if standard(string(rest)) {
			return nil, false
		}
		line = rest
	} else if rest, ok := bytes.CutPrefix(line, []byte("||")); ok {
		if line, below = bytes.CutSuffix(rest, []byte("^")); !below {
			return nil, false
		}
	}
	if !isCanonical(line) {
		return nil, false
	}
	return line, below
}

// isCanonical reports whether target.ParseHost would return the name as it is;
// it may say no of a few for which it would.
func isCanonical(name []byte) bool {
	if len(name) == 0 || len(name) > 253 {
		return false
	}
	label := 0 // where the label begins
	for i, c := range name {
		switch {
		case c == '.':
			if i == label || i-label > 63 {
				return false
			}
			label = i + 1
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_':
		case c == '-':
			if i >= label+3 && name[i-1] == '-' {
				return false // perhaps punycode
			}
		default:
			return false
		}
	}
	last := name[label:]
	return len(last) > 0 && len(last) <= 63 && 'a' <= last[0] && last[0] <= 'z' // no number
}

// lineKind tells lines apart that hold no entry.
type lineKind uint8

const (
	entryLine   lineKind = iota
	commentLine          // or a blank one
	skippedLine          // holds nothing that a proxy could apply
)

func parseLine(line string) ([]entry, lineKind, *mistake) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' || line[0] == '!' {
		return nil, commentLine, nil
	}
	for i := 1; i < len(line); i++ {
		if line[i] == '#' && (line[i-1] == ' ' || line[i-1] == '\t') {
			line = strings.TrimSpace(line[:i])
			break
		}
	}
	if isFilter(line) {
		return parseFilter(line)
	}
	if fields := strings.Fields(line); len(fields) > 1 {
		return parseHosts(fields)
	}
	e, bad := parseEntry(line)
	if bad != nil {
		return nil, entryLine, bad
	}
	return []entry{e}, entryLine, nil
}

// isFilter reports whether the line is in the Adblock syntax and in no other.
func isFilter(line string) bool {
	if strings.HasPrefix(line, "|") || strings.HasPrefix(line, "@@") || strings.HasPrefix(line, "/") {
		return true
	}
	for _, cosmetic := range []string{"##", "#@", "#?", "#$", "#%"} {
		before, _, ok := strings.Cut(line, cosmetic)
		if ok && !strings.ContainsAny(before, " \t") {
			return true
		}
	}
	return false
}

// parseFilter reads "||a.b^". Options, paths, wildcards and a missing "^"
// (which would make the name a prefix of other names) need more than a host.
func parseFilter(line string) ([]entry, lineKind, *mistake) {
	name, anchored := strings.CutPrefix(line, "||")
	name, ended := strings.CutSuffix(name, "^")
	if !anchored || !ended || strings.ContainsAny(name, "/*^$|:?=&") {
		return nil, skippedLine, nil
	}
	e, bad := parseEntry(name)
	if bad != nil {
		return nil, entryLine, bad
	}
	e.below = !e.prefix.IsValid()
	return []entry{e}, entryLine, nil
}

// parseHosts reads a line of a hosts file that sends names nowhere.
func parseHosts(fields []string) ([]entry, lineKind, *mistake) {
	addr, err := netip.ParseAddr(fields[0])
	if err != nil {
		return nil, entryLine, mistaken("one entry a line", "%s is followed by another word", quote(fields[0]))
	}
	var out []entry
	for _, name := range fields[1:] {
		if standard(name) {
			continue
		}
		e, bad := parseEntry(name)
		if bad == nil && e.below {
			bad = mistaken("in a hosts file, write the name without its dot", "%s begins with a dot", quote(name))
		}
		if bad != nil {
			return nil, entryLine, bad
		}
		if e.prefix.IsValid() && e.prefix.Addr().IsUnspecified() {
			continue
		}
		out = append(out, e)
	}
	if addr = plain(addr); len(out) > 0 && !addr.IsLoopback() && !addr.IsUnspecified() {
		return nil, entryLine, mistaken("write 0.0.0.0 for the address, or the name alone",
			"%s is an address that the names would be found at", quote(fields[0]))
	}
	return out, entryLine, nil
}

// standard reports whether name is one that every hosts file has, and that
// nobody means to list.
func standard(name string) bool {
	switch name = strings.ToLower(name); name {
	case "localhost", "localhost.localdomain", "local", "broadcasthost":
		return true
	}
	return strings.HasPrefix(name, "ip6-")
}
