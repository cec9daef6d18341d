package acl

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"fwdproxy/internal/header"
)

// change is what a table does to one field.
type change struct {
	name  string // canonical
	value string
	set   bool // else it is removed
}

// changes compiles what the table at key does to the fields of one side.
func (k *compiler) changes(key, side string, set map[string]string, removed []string, refused func(change) string) (out []change) {
	add := func(at string, c change) {
		c.name = canonical(c.name)
		why, done := refused(c), "removed"
		if c.set {
			done = "set"
		}
		switch {
		case !header.IsToken(c.name):
			k.problems.Add(at, `write a name as "X-Tenant"`, "%s is not the name of a field", quote(c.name))
		case why != "":
			k.problems.Add(at, why, "%s cannot be %s in a %s", c.name, done, side)
		case slices.ContainsFunc(out, func(o change) bool { return sameField(o.name, c.name) }):
			k.problems.Add(at, "say once what becomes of it", "the table modifies %s in the %s twice", c.name, side)
		default:
			out = append(out, c)
		}
	}
	for _, name := range sortedNames(set) {
		at := key + ".set_" + side + "." + tomlKey(name)
		if hint := badValue(set[name]); hint != "" {
			k.problems.Add(at, hint, "%s is not a value that a field can have", quote(set[name]))
			continue
		}
		add(at, change{name: name, value: set[name], set: true})
	}
	for j, name := range removed {
		add(index(key+".remove_"+side, j), change{name: name})
	}
	return slices.SortedFunc(slices.Values(out), func(a, b change) int { return cmp.Compare(a.name, b.name) })
}

func sortedNames(fields map[string]string) []string { return slices.Sorted(maps.Keys(fields)) }

// badValue returns a hint where s is no field value (RFC 9110, Section 5.5).
func badValue(s string) string {
	switch {
	case s == "":
		return "remove the field where it shall not be there"
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return "write one line, without control characters"
	case header.Trim(s) != s:
		return "write it without space around it"
	}
	return ""
}

const (
	hintConnection = "it is about one connection, which is the proxy's own"
	hintFraming    = "it says where the message ends, or in what form its body is"
	hintSelective  = "it says which part or form of the response is asked for, which is the client's to say"
	hintProxy      = "the proxy says it itself"
	hintCredential = "credentials are no table's to give, since a table applies where it is in doubt"
	hintStored     = "the client's own cache goes by it"
)

// refused returns why neither side's field of that plain name can be modified; "" where it can.
func refused(name string) string {
	switch {
	case header.IsHopByHop(name), strings.HasPrefix(name, "Proxy-"), strings.HasPrefix(name, "Sec-Websocket-"), name == "Expect":
		return hintConnection
	case name == "Content-Length", name == "Content-Encoding", name == "Content-Range":
		return hintFraming
	case name == "Via", name == "Cache-Status", strings.HasPrefix(name, "Fwdproxy-"):
		return hintProxy
	}
	return ""
}

func refusedRequest(c change) string {
	name := plainName(c.name)
	switch why := refused(name); {
	case why != "":
		return why
	case name == "Host":
		return `where a request goes is decided by its target; [upstream.hosts] says which address a name has`
	case strings.HasPrefix(name, "Content-"):
		return hintFraming
	case strings.HasPrefix(name, "If-"), name == "Range", name == "Max-Forwards":
		return hintSelective
	case c.set:
		return refusedSet(name)
	}
	return ""
}

func refusedResponse(c change) string {
	if why := refused(plainName(c.name)); why != "" {
		return why
	}
	switch plainName(c.name) {
	case "Date", "Age", "Vary", "Etag", "Last-Modified", "Accept-Ranges":
		return hintStored
	}
	return ""
}

// refusedSet returns why a request's field cannot be set that can be removed.
func refusedSet(name string) string {
	switch {
	case name == "Authorization", name == "Cookie":
		return hintCredential
	case name == "Accept-Encoding":
		return hintSelective
	case strings.HasPrefix(name, "X-Forwarded"), saidInReverse[name]:
		return hintProxy
	}
	return ""
}

// saidInReverse are fields that sites let nobody but the proxy say.
var saidInReverse = map[string]bool{"Forwarded": true, "X-Real-Ip": true, "X-Original-Url": true, "X-Original-Host": true,
	"X-Rewrite-Url": true, "X-Url-Scheme": true, "Front-End-Https": true}

// plainName is the canonical name of the field that servers may take name for
// that cannot tell "_" from "-" in one.
func plainName(name string) string { return canonical(strings.ReplaceAll(name, "_", "-")) }

// sameField compares names as servers do that cannot tell "_" from "-" in one,
// as by CGI's rules.
func sameField(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if fold(a[i]) != fold(b[i]) {
			return false
		}
	}
	return true
}

func fold(c byte) byte {
	switch {
	case c == '_':
		return '-'
	case 'A' <= c && c <= 'Z':
		return c | 0x20
	}
	return c
}

func apply(changes []change, h map[string][]string) {
	remove(changes, h)
	for _, c := range changes {
		if c.set {
			h[c.name] = []string{c.value}
		}
	}
}

func remove(changes []change, h map[string][]string) {
	if len(changes) == 0 {
		return
	}
	for name := range h {
		if slices.ContainsFunc(changes, func(c change) bool { return sameField(c.name, name) }) {
			delete(h, name)
		}
	}
}

// describe returns a text that is the same for the same changes alone.
func describe(changes []change) string {
	var b strings.Builder
	for _, c := range changes {
		if c.set {
			b.WriteString("set " + c.name + ": " + c.value + "\n")
		} else {
			b.WriteString("remove " + c.name + "\n")
		}
	}
	return b.String()
}

// appendSent appends what h has of the fields that any table sets.
func (e *Engine) appendSent(b *strings.Builder, h map[string][]string) {
	var names []string
	for name := range h {
		if slices.ContainsFunc(e.keyed, func(k string) bool { return sameField(k, name) }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, line := range h[name] {
			b.WriteString("sent " + name + ": " + line + "\n")
		}
	}
}
