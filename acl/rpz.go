package acl

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"fwdproxy/internal/target"
)

// zoneReader reads a response policy zone (RPZ), one line at a time. Of what
// such a zone can say, "do not answer" (CNAME . and *., rpz-drop, addresses that lead
// nowhere) makes a name or an address an entry, and rpz-passthru an exception.
// All else (other answers, triggers by client or name server) no list can hold.
type zoneReader struct {
	origin, apex string // with a trailing dot; "" for not known
	owner        string
	depth        int // of open parentheses
	fields       []string
	indented     bool
}

// isZone reports whether a file that begins so is a zone.
func isZone(head string) bool {
	for line := range strings.SplitSeq(head, "\n") {
		line, _, _ = strings.Cut(line, ";")
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
			continue
		case strings.EqualFold(fields[0], "$TTL"), strings.EqualFold(fields[0], "$ORIGIN"):
			return true
		}
		i := slices.IndexFunc(fields, func(f string) bool { return strings.EqualFold(f, "SOA") })
		return i > 0 && !isAddress(fields[0]) && !slices.ContainsFunc(fields[1:i], func(f string) bool { return !isTTLOrClass(f) })
	}
	return false
}

// line returns the entry on a line, whether there is one, and what is wrong
// with a line that means something else.
func (z *zoneReader) line(line string) (e entry, ok bool, bad *mistake) {
	if z.depth == 0 {
		z.fields, z.indented = z.fields[:0], strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")
	}
	if !z.split(line) {
		return entry{}, false, mistaken("", "it is no line of a zone file")
	}
	if z.depth > 0 || len(z.fields) == 0 {
		return entry{}, false, nil
	}
	f := z.fields
	switch strings.ToUpper(f[0]) {
	case "$ORIGIN":
		if len(f) != 2 {
			return entry{}, false, mistaken("", "$ORIGIN has no name")
		}
		z.origin = z.absolute(f[1])
		return entry{}, false, nil
	case "$TTL":
		return entry{}, false, nil
	case "$INCLUDE", "$GENERATE":
		return entry{}, false, mistaken("", "%s is not followed", f[0])
	}
	if !z.indented {
		z.owner, f = z.absolute(f[0]), f[1:]
	}
	for len(f) > 0 && isTTLOrClass(f[0]) {
		f = f[1:]
	}
	if len(f) < 2 || z.owner == "" {
		return entry{}, false, mistaken("", "it is no line of a zone file")
	}
	return z.record(strings.ToUpper(f[0]), f[1:])
}

// split adds the fields of the line; false where a quote is left open or a
// parenthesis closes that none opened.
func (z *zoneReader) split(line string) bool {
	var field strings.Builder
	quoted, started := false, false
	end := func() {
		if started {
			z.fields = append(z.fields, field.String())
			field.Reset()
			started = false
		}
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			quoted, started = !quoted, true
		case quoted:
			field.WriteByte(c)
		case c == ';':
			end()
			return true
		case c == '(':
			end()
			z.depth++
		case c == ')':
			end()
			if z.depth--; z.depth < 0 {
				z.depth = 0
				return false
			}
		case c == ' ' || c == '\t' || c == '\r':
			end()
		default:
			field.WriteByte(c)
			started = true
		}
	}
	end()
	return !quoted
}

func isTTLOrClass(s string) bool {
	if strings.EqualFold(s, "IN") {
		return true
	}
	return s[0] >= '0' && s[0] <= '9' && strings.Trim(strings.ToLower(s), "0123456789wdhms") == ""
}

func (z *zoneReader) absolute(name string) string {
	switch {
	case name == "@":
		return z.origin
	case strings.HasSuffix(name, "."):
		return name
	}
	return name + "." + z.origin
}

func (z *zoneReader) record(kind string, data []string) (entry, bool, *mistake) {
	switch kind {
	case "SOA":
		z.apex = z.owner
		return entry{}, false, nil
	case "NS", "RRSIG", "DNSKEY", "NSEC", "NSEC3", "NSEC3PARAM", "DS":
		return entry{}, false, nil
	}
	name := strings.TrimSuffix(z.owner, ".")
	if apex := strings.TrimSuffix(z.apex, "."); apex != "" {
		if strings.EqualFold(name, apex) {
			return entry{}, false, nil
		}
		if cut := len(name) - len(apex) - 1; cut > 0 && strings.EqualFold(name[cut:], "."+apex) {
			name = name[:cut]
		}
	}
	e, bad := trigger(strings.ToLower(name))
	if bad != nil {
		return entry{}, false, bad
	}
	switch answer := strings.ToLower(data[0]); {
	case kind == "CNAME" && (answer == "." || answer == "*." || answer == "rpz-drop."), (kind == "A" || kind == "AAAA") && leadsNowhere(answer):
		return e, true, nil
	case kind == "CNAME" && answer == "rpz-passthru." && !e.prefix.IsValid():
		e.except = true
		return e, true, nil
	case kind == "CNAME":
		return entry{}, false, mistaken("", "the answer %s is more than a list can say", quote(data[0]))
	}
	return entry{}, false, mistaken("", "an answer of type %s is more than a list can say", quote(kind))
}

func leadsNowhere(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && (a.IsUnspecified() || a.IsLoopback())
}

// trigger reads what a record of the zone is about.
func trigger(name string) (entry, *mistake) {
	last := name[strings.LastIndexByte(name, '.')+1:]
	if strings.HasPrefix(last, "rpz-") {
		if p, ok := zonePrefix(strings.TrimSuffix(name, "."+last)); ok && last == "rpz-ip" {
			return entry{prefix: p}, nil
		}
		return entry{}, mistaken("", "%s is more than a list can say", quote(name))
	}
	bare, under := strings.CutPrefix(name, "*.")
	host, addr, err := target.ParseHost(bare)
	if err != nil || addr.IsValid() {
		return entry{}, mistaken("", "%s is not a host name", quote(name))
	}
	return entry{name: host, under: under}, nil
}

// zonePrefix reads "24.0.2.0.192" and "32.zz.db8.2001", an address turned
// round behind its prefix length, "zz" for "::".
func zonePrefix(s string) (netip.Prefix, bool) {
	labels := strings.Split(s, ".")
	bits, err := strconv.Atoi(labels[0])
	if err != nil || len(labels) < 2 {
		return netip.Prefix{}, false
	}
	parts := labels[1:]
	slices.Reverse(parts)
	text := strings.Join(parts, ".")
	if len(parts) != 4 || slices.Contains(parts, "zz") {
		text = strings.Join(parts, ":")
		if i := slices.Index(parts, "zz"); i >= 0 {
			text = strings.Join(parts[:i], ":") + "::" + strings.Join(parts[i+1:], ":")
		}
	}
	a, err := netip.ParseAddr(text)
	if err != nil || bits < 0 || bits > a.BitLen() || a.Is4In6() {
		return netip.Prefix{}, false
	}
	p := netip.PrefixFrom(a, bits)
	return p, p.Masked() == p
}
