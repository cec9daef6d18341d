package acl

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"fwdproxy/internal/target"
)

// maxURL is how long the path and query of an entry may be.
const maxURL = 2048

// urlSet is a table of hosts with a path each, and perhaps a query. An entry
// holds for its path and for what goes on behind it at one of "/?&;". Between
// add and match it must be sealed.
type urlSet struct {
	hosts   domainSet
	text    []byte   // entries one after the other: length (two bytes), then host and path
	at      []uint32 // where each begins; sealed: sorted by host and path, letter case aside
	longest int      // path
	deepest int      // boundaries in a path
	unseen  truth    // what a request is to the hosts whose URL cannot be seen: doubt, or no
}

// add reports false when the set is full.
func (s *urlSet) add(host, path string) bool {
	if len(s.text)+2+len(host)+len(path) > 1<<32-1 || !s.hosts.add(host, false) {
		return false
	}
	s.at = append(s.at, uint32(len(s.text)))
	s.text = binary.BigEndian.AppendUint16(s.text, uint16(len(host)+len(path)))
	s.text = append(append(s.text, host...), path...)
	s.longest = max(s.longest, len(path))
	deep := 0
	for i := 1; i <= len(path); i++ {
		if boundary(path, i) {
			deep++
		}
	}
	s.deepest = max(s.deepest, deep)
	return true
}

func (s *urlSet) entry(at uint32) []byte {
	n := binary.BigEndian.Uint16(s.text[at:])
	return s.text[at+2 : at+2+uint32(n)]
}

// seal sorts the table and drops what is there twice.
func (s *urlSet) seal() {
	s.hosts.seal()
	slices.SortFunc(s.at, func(a, b uint32) int {
		x, y := s.entry(a), s.entry(b)
		return cmp.Or(compareFolded(x, "", string(y)), bytes.Compare(x, y))
	})
	s.at = slices.Clip(slices.CompactFunc(s.at, func(a, b uint32) bool { return bytes.Equal(s.entry(a), s.entry(b)) }))
	s.text = slices.Clip(s.text)
}

// match says whether the request's URL is in the set. It is asked about the
// path and query as sent and in the form that another party may read them in;
// where that makes a difference, or letter case does, there is doubt.
func (s *urlSet) match(r *Request) truth {
	if len(s.at) == 0 {
		return no
	}
	if _, ok := s.hosts.find(r.Host, hash(r.Host)); !ok {
		return no
	}
	if r.hidden() {
		return s.unseen
	}
	path, ok1 := plainPath(r.Path)
	query, ok2 := plainQuery(r.Query)
	if !ok1 || !ok2 {
		return doubt
	}
	out := s.matchForm(r.Host, path, query)
	if sent, asked := unreserved(r.Path), strings.ReplaceAll(unreserved(r.Query), "+", " "); sent != path || asked != query {
		if s.matchForm(r.Host, sent, asked) != out {
			return doubt
		}
	}
	return out
}

func (s *urlSet) matchForm(host, path, query string) truth {
	var buf [512]byte
	text := append(buf[:0], path...)
	if query != "" {
		text = append(append(text, '?'), query...)
	}
	out, deep := no, 0
	for i := 1; i <= min(len(text), s.longest) && deep < s.deepest; i++ {
		if !boundary(text, i) {
			continue
		}
		deep++
		switch s.find(host, text[:i]) {
		case yes:
			return yes
		case doubt:
			out = doubt
		}
	}
	return out
}

// boundary reports whether an entry that ends before text[i] holds for text.
func boundary[T string | []byte](text T, i int) bool {
	return i == len(text) || text[i-1] == '/' || text[i] == '/' || text[i] == '?' || text[i] == '&' || text[i] == ';'
}

// find says whether exactly that path is in the set; in another letter case
// is doubt.
func (s *urlSet) find(host string, path []byte) truth {
	lo, hi := 0, len(s.at)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if compareFolded(s.entry(s.at[mid]), host, path) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	out := no
	for ; lo < len(s.at); lo++ {
		e := s.entry(s.at[lo])
		if compareFolded(e, host, path) != 0 {
			break
		}
		if bytes.Equal(e[len(host):], path) {
			return yes
		}
		out = doubt
	}
	return out
}

// compareFolded compares entry with host and path as one text, letter case
// aside.
func compareFolded[T string | []byte](entry []byte, host string, path T) int {
	for i, c := range entry {
		var d byte
		switch {
		case i < len(host):
			d = host[i]
		case i-len(host) < len(path):
			d = path[i-len(host)]
		default:
			return 1
		}
		if c, d = lower(c), lower(d); c != d {
			return cmp.Compare(c, d)
		}
	}
	return cmp.Compare(len(entry), len(host)+len(path))
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// unreserved decodes percent-encoding once, where that cannot change what the
// text means (RFC 3986, Section 2.2).
func unreserved(sent string) string {
	if !strings.Contains(sent, "%") {
		return sent
	}
	var out strings.Builder
	for i := 0; i < len(sent); i++ {
		if sent[i] == '%' && i+2 < len(sent) {
			if c := target.Decode(sent[i : i+3]); len(c) == 1 && !strings.Contains(`/\?#%&;=+`, c) {
				out.WriteString(c)
				i += 2
				continue
			}
		}
		out.WriteByte(sent[i])
	}
	return out.String()
}

// parseURL reads "host/path", perhaps with a scheme before it and a query
// behind it. Without a path it is the host.
func parseURL(s string) (entry, *mistake) {
	const hint = `write "a.b/path"`
	rest := s
	for _, scheme := range []string{"http://", "https://"} {
		if len(s) >= len(scheme) && strings.EqualFold(s[:len(scheme)], scheme) {
			rest = s[len(scheme):]
		}
	}
	rest, _, _ = strings.Cut(rest, "#")
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	t, err := target.FromAuthority(rest[:end], "http")
	path, query, hasQuery := strings.Cut(rest[end:], "?")
	plain, ok := plainPath(path)
	asked, ok2 := plainQuery(query)
	switch {
	case err != nil:
		return entry{}, mistaken(hint, "%s: %v", quote(s), err)
	case strings.ContainsAny(s, " \t\r\n"):
		return entry{}, mistaken("write %20 for a space", "%s has a space in it", quote(s))
	case t.Port != 80 && t.Port != 443:
		return entry{}, mistaken(`leave the port out, and put it under "ports" of the rule`, "%s has a port", quote(s))
	case !ok || !ok2 || len(plain)+1+len(asked) > maxURL:
		return entry{}, mistaken(hint, "%s is longer than an entry can be, or encoded too often to tell what it means", quote(s))
	}
	if plain == "" {
		plain = "/"
	}
	if hasQuery && asked != "" {
		plain += "?" + asked
	}
	if plain != "/" {
		return entry{name: t.Host, path: plain}, nil
	}
	return hostEntry(t), nil
}

func hostEntry(t target.Target) entry {
	if t.Addr.IsValid() {
		return single(t.Addr)
	}
	return entry{name: t.Host}
}
