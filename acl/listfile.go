package acl

import (
	"bufio"
	"bytes"
	"compress/gzip"
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
	lines     int           // read
	skipped   int           // that hold nothing a proxy could apply
	wrong     int           // of these, how many are malformed
	left      malformedLine // the first that was left out and is worth telling of; zero for none
	malformed []malformedLine
	more      int // malformed lines beyond those
	err       error
}

type malformedLine struct {
	line int
	mistake
}

// listForm is what the lines of a list file are.
type listForm uint8

const (
	anyLines        listForm = iota
	domainLines              // SquidGuard's domains: each with all below it
	urlLines                 // SquidGuard's urls: each with and without "www."
	expressionLines          // SquidGuard's expressions, which are counted alone
	feedLines                // anyLines, written by somebody else
)

// readList adds the entries of a list file to s. Lines may be comments ("#" or
// "!"), plain entries, lines of a hosts file ("0.0.0.0 name name", each name
// alone), or Adblock-style "||a.b^" (a.b and all below it); or the file is a
// response policy zone. Of the Adblock
// syntax, what depends on more than the host is skipped and counted; in
// SquidGuard's files and in downloads, which nobody here wrote, what is malformed.
//
// A file without a single byte is an error: it is what a download that failed
// leaves behind, and with it a list that denies would deny nothing. SquidGuard
// has such files.
func readList(r io.Reader, s *set, form listForm) listResult {
	text, err := unpacked(r)
	if err != nil {
		return listResult{err: err}
	}
	in := listReader{s: s, form: form}
	if head, _ := text.Peek(4096); (form == anyLines || form == feedLines) && isZone(string(head)) {
		in.zone = &zoneReader{}
	}
	lines := bufio.NewScanner(text)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for in.err == nil && lines.Scan() {
		in.lines++
		in.line(lines.Bytes())
	}
	if in.err == nil {
		in.err = lines.Err()
	}
	switch {
	case errors.Is(in.err, bufio.ErrTooLong):
		in.err = errors.New("the line is longer than a megabyte")
	case in.err == nil && in.lines == 0 && (form == anyLines || form == feedLines):
		in.err = errors.New(`the file is empty; write "# empty" into a list that is meant to be`)
	}
	return in.listResult
}

// listReader reads one list file.
type listReader struct {
	listResult
	s       *set
	form    listForm
	adblock bool        // the file says that it is in that syntax
	zone    *zoneReader // the file is a zone
}

func (in *listReader) line(b []byte) {
	if in.zone != nil {
		in.zoneLine(string(b))
		return
	}
	if in.form == anyLines || in.form == feedLines || in.form == domainLines {
		if name, below := commonLine(b); name != nil {
			if !in.s.domains.add(string(name), below || in.form == domainLines) {
				in.err = errTooLarge
			}
			return
		}
	}
	line := string(b)
	if in.lines == 1 {
		line = strings.TrimPrefix(line, "\ufeff")
	}
	if (in.form == anyLines || in.form == feedLines) && strings.HasPrefix(line, "[Adblock") {
		in.adblock = true
		return
	}
	entries, kind, bad := in.form.parse(line)
	switch {
	case kind == skippedLine, bad != nil && in.adblock:
		in.skipped++
	case bad != nil && in.form != anyLines:
		in.wrong++
		if in.skipped++; in.left.line == 0 {
			in.left = malformedLine{in.lines, *bad}
		}
	case bad != nil && len(in.malformed) < maxMalformed:
		in.malformed = append(in.malformed, malformedLine{in.lines, *bad})
	case bad != nil:
		in.more++
	}
	for _, e := range entries {
		if !in.s.add(e) {
			in.err = errTooLarge
		}
	}
}

// zoneLine leaves out what no list can say, as in files that others wrote.
func (in *listReader) zoneLine(line string) {
	e, ok, bad := in.zone.line(line)
	if bad != nil {
		in.wrong++
		if in.skipped++; in.left.line == 0 {
			in.left = malformedLine{in.lines, *bad}
		}
	}
	if ok && !in.s.add(e) {
		in.err = errTooLarge
	}
}

// parse reads a line of the form.
func (f listForm) parse(line string) ([]entry, lineKind, *mistake) {
	if f == anyLines || f == feedLines {
		return parseLine(line)
	}
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return nil, commentLine, nil
	}
	switch f {
	case domainLines:
		e, bad := parseEntry(line)
		if bad != nil {
			return nil, entryLine, bad
		}
		e.below = !e.prefix.IsValid()
		return []entry{e}, entryLine, nil
	case urlLines:
		e, bad := parseURL(line)
		if bad != nil {
			return nil, entryLine, bad
		}
		out := []entry{e}
		if bare, ok := strings.CutPrefix(e.name, "www."); ok && strings.Contains(bare, ".") {
			e.name = bare
			out = append(out, e)
		} else if _, err := netip.ParseAddr(e.name); e.name != "" && err != nil && len(e.name) < 250 {
			e.name = "www." + e.name
			out = append(out, e)
		}
		return out, entryLine, nil
	}
	return nil, skippedLine, nil
}

// maxUnpacked bounds what a compressed list file may become.
const maxUnpacked = 4 << 30

// unpacked returns what r reads, unpacked where it is in gzip's form.
func unpacked(r io.Reader) (*bufio.Reader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	if head, _ := in.Peek(2); string(head) != "\x1f\x8b" {
		return in, nil
	}
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	return bufio.NewReaderSize(&bounded{z, maxUnpacked}, 64<<10), nil
}

// bounded is a reader that fails where more is left.
type bounded struct {
	io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("the file unpacks to more than 4 GiB")
	}
	n, err := b.Reader.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
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
		if u, wrong := parseURL(line); wrong == nil && (u.path != "" || strings.Contains(line, "://")) && !looksLikeMask(u) {
			e, bad = u, nil
		}
	}
	if bad != nil {
		return nil, entryLine, bad
	}
	return []entry{e}, entryLine, nil
}

// looksLikeMask reports whether somebody may have meant a prefix or a netmask.
func looksLikeMask(e entry) bool {
	_, err := netip.ParseAddr(e.name)
	return err == nil && strings.Trim(e.path, "/0123456789.:") == ""
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
