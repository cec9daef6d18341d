package acl

import (
	"fmt"
	"maps"
	"net/netip"
	"net/textproto"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"fwdproxy/internal/header"
	"fwdproxy/internal/unit"
)

func (k *compiler) rule(i int, r RuleConfig) rule {
	key := index("acl.rule", i)
	u := rule{name: ruleName(r, i), shadow: r.Shadow, counts: &Counter{}, config: r, answer: k.answer(key, ruleName(r, i), r)}
	u.conditions = k.conditions(key, r)
	u.action = k.ruleAction(key, r)
	if u.connect = r.connects(); u.connect {
		u.conditions = append([]condition{{key: "action", kind: aboutMethod, words: []string{"CONNECT"}}}, u.conditions...)
	}
	k.warnURLs(key, u.name, r, &u)
	return u
}

// conditions compiles those of the table at key.
func (k *compiler) conditions(key string, r RuleConfig) (all []condition) {
	add := func(c ...condition) { all = append(all, c...) }
	for _, side := range []struct {
		prefix string
		r      RuleConfig
	}{{"", r}, {"not_", r.opposite()}} {
		at := func(name string) string { return key + "." + side.prefix + name }
		add(k.from(at("from"), side.r.From)...)
		add(k.to(at("to"), side.r.To, side.prefix != "")...)
		add(k.ports(at("ports"), side.r.Ports)...)
		add(k.methods(at("methods"), side.r.Methods)...)
		add(k.schemes(at("schemes"), side.r.Schemes)...)
		add(k.expression(at("path"), aboutPath, side.r.Path)...)
		add(k.expression(at("query"), aboutQuery, side.r.Query)...)
		add(k.header(at("header"), side.r.Header)...)
		add(k.expression(at("user_agent"), aboutUserAgent, side.r.UserAgent)...)
		add(k.when(at("when"), side.r.When)...)
		add(k.listen(at("listen"), side.r.Listen)...)
	}
	for j := range all {
		c := &all[j]
		c.key = strings.TrimPrefix(c.key, key+".")
		c.not = strings.HasPrefix(c.key, "not_")
	}
	slices.SortStableFunc(all, func(a, b condition) int { return int(a.kind) - int(b.kind) })
	return all
}

// Words of the key action beside "allow" and "deny", for rules that hold for
// CONNECT alone.
const (
	wordIntercept = "intercept"
	wordTunnel    = "tunnel"
)

// connects reports whether the rule is about opening tunnels and about nothing
// that is in them.
func (r RuleConfig) connects() bool { return r.Action == wordIntercept || r.Action == wordTunnel }

// ruleAction reads the action of a rule, which cannot be left out.
func (k *compiler) ruleAction(key string, r RuleConfig) Action {
	const hint = `write "allow", "deny", "intercept" or "tunnel"`
	if r.connects() {
		k.checkConnect(key, r)
	}
	switch r.Action {
	case Allow.String(), wordTunnel:
		return Allow
	case wordIntercept:
		return Intercept
	case Deny.String():
	case "":
		k.problems.Add(key+".action", hint, "the rule has no action")
	default:
		k.problems.Add(key+".action", hint, "%s is not an action", quote(r.Action))
	}
	return Deny
}

// checkConnect refuses conditions that no CONNECT can meet.
func (k *compiler) checkConnect(key string, r RuleConfig) {
	for _, c := range r.aboutInside() {
		k.problems.Add(key+"."+c, "delete it, and write a rule behind this one about the requests in the tunnel",
			"%q decides about a tunnel before anything in it is seen", r.Action)
	}
	if !holdsFor("CONNECT", r.Methods, r.NotMethods) || !holdsFor(Tunnel, r.Schemes, r.NotSchemes) {
		k.problems.Add(key+".action", `delete methods and schemes: the action holds for CONNECT alone`, "%q holds for CONNECT alone, which the rule leaves out", r.Action)
	}
}

// opposite returns the rule whose conditions are those that must not hold.
func (r RuleConfig) opposite() RuleConfig {
	return RuleConfig{From: r.NotFrom, To: r.NotTo, Ports: r.NotPorts, Methods: r.NotMethods, Schemes: r.NotSchemes, Path: r.NotPath,
		Query: r.NotQuery, Header: r.NotHeader, UserAgent: r.NotUserAgent, When: r.NotWhen, Listen: r.NotListen}
}

func (k *compiler) listen(key string, texts []string) []condition {
	c := condition{key: key, kind: aboutListen}
	for j, s := range texts {
		l, ok := parseListener(s)
		if !ok {
			k.problems.Add(index(key, j), `write a port as "3128", an address, or both as "192.0.2.1:3128"`, "%s is neither a port nor an address", quote(s))
			continue
		}
		c.listen = append(c.listen, l)
	}
	return unless(len(texts) == 0, c)
}

// unless returns c alone, or nothing where the policy leaves it out.
func unless(left bool, c condition) []condition {
	if left {
		return nil
	}
	return []condition{c}
}

func parseListener(s string) (listener, bool) {
	if n, err := strconv.ParseUint(s, 10, 16); err == nil {
		return listener{port: uint16(n)}, n > 0
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return listener{addr: plain(a)}, a.Zone() == "" && !a.IsUnspecified()
	}
	a, err := netip.ParseAddrPort(s)
	return listener{plain(a.Addr()), a.Port()}, err == nil && a.Port() > 0 && a.Addr().Zone() == "" && !a.Addr().IsUnspecified()
}

func (k *compiler) methods(key string, texts []string) []condition {
	for j, m := range texts {
		if !isMethod(m) {
			k.problems.Add(index(key, j), `write it in upper case, as "GET"`, "%s is not a method", quote(m))
		}
	}
	return unless(len(texts) == 0, condition{key: key, kind: aboutMethod, words: slices.Clone(texts)})
}

func (k *compiler) schemes(key string, texts []string) []condition {
	for j, s := range texts {
		if s != "http" && s != "https" && s != Tunnel {
			k.problems.Add(index(key, j), `the schemes are "http", "https" and "tunnel"`, "%s is not a scheme", quote(s))
		}
	}
	return unless(len(texts) == 0, condition{key: key, kind: aboutScheme, words: slices.Clone(texts)})
}

func (k *compiler) ports(key string, ranges []unit.PortRange) []condition {
	for j, p := range ranges {
		if p.First == 0 || p.First > p.Last {
			k.problems.Add(index(key, j), `write a number, or a range as "8443-8449"`, "%s is not a port or a range of ports", p)
		}
	}
	return unless(len(ranges) == 0, condition{key: key, kind: aboutPort, ports: slices.Clone(ranges)})
}

func (k *compiler) when(key, text string) []condition {
	if text == "" {
		return nil
	}
	s, bad := parseSchedule(text)
	k.bad(key, bad)
	return []condition{{key: key, kind: aboutTime, when: s}}
}

func (k *compiler) expression(key string, kind kind, text string) []condition {
	return unless(text == "", condition{key: key, kind: kind, field: "User-Agent", re: k.regexp(key, text)})
}

func (k *compiler) regexp(key, text string) *regexp.Regexp {
	re, err := regexp.Compile(text)
	if err != nil {
		hint := "RE2 has neither look-around nor back-references; see https://github.com/google/re2/wiki/Syntax"
		k.problems.Add(key, hint, "%s is not an RE2 expression: %s", quote(text), strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return re
}

func (k *compiler) header(key string, fields map[string]string) []condition {
	var out []condition
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		at := key + "." + tomlKey(name)
		switch canonical := textproto.CanonicalMIMEHeaderKey(name); {
		case !header.IsToken(name):
			k.problems.Add(at, `write a name as "X-Tenant"`, "%s is not the name of a field", quote(name))
		case canonical == "Host":
			k.problems.Add(at, `put the host under "to"`, "Host is not looked at: where a request goes is decided by its target")
		default:
			out = append(out, condition{key: at, kind: aboutHeader, field: canonical, re: k.regexp(at, fields[name])})
		}
	}
	return out
}

func (k *compiler) from(key string, texts []string) []condition {
	c, inline := condition{key: key, kind: aboutFrom}, &set{}
	for j, s := range texts {
		at := index(key, j)
		if list, ok := k.reference(at, s); ok {
			if list != nil && k.complete(s) && !list.missing && list.domains.count+len(list.urls.at) > 0 && list.addresses.len() == 0 {
				k.problems.Add(at, addressHint, "%s has no addresses, and a client is known by its address", quote(s))
			}
			if list != nil {
				c.from = append(c.from, list)
			}
			continue
		}
		if kind, name, ok := Identity(s); ok {
			k.identity(at, s, name)
			if kind == User {
				c.users = append(c.users, name)
			} else {
				c.groups = append(c.groups, name)
			}
			continue
		}
		if s == "*" {
			k.problems.Add(at, fmt.Sprintf("leave %q out: a condition that is left out always holds", key[strings.LastIndexByte(key, '.')+1:]), `"*" is not an address`)
			continue
		}
		if e, bad := parseAddress(s); !k.bad(at, bad) {
			inline.add(e)
		}
	}
	inline.seal()
	c.from = append(c.from, inline)
	return unless(len(texts) == 0, c)
}

// complete reports whether all that the list "list:NAME" holds is known.
func (k *compiler) complete(s string) bool {
	l := k.config.Lists[strings.TrimPrefix(s, "list:")]
	return k.readFiles || len(l.Files)+len(l.Dirs)+len(l.Download) == 0
}

func (k *compiler) to(key string, texts []string, not bool) []condition {
	c, inline, anywhere := condition{key: key, kind: aboutTo}, &set{}, len(texts) == 0
	for j, s := range texts {
		at := index(key, j)
		if list, ok := k.reference(at, s); ok {
			if list != nil {
				c.to = append(c.to, destinations{list, "the host name is in " + s, "the destination's address is in " + s, "the URL is in " + s})
			}
			continue
		}
		if s == "*" {
			anywhere = true
			if not {
				k.problems.Add(at, "delete the rule, or name what it is not about", `with "*" there is no destination left for the rule`)
			}
			continue
		}
		if e, bad := parseEntry(s); !k.bad(at, bad) {
			inline.add(e)
		}
	}
	inline.seal()
	c.to = append(c.to, destinations{inline, `the host name is in the rule's "to"`, `the destination's address is in the rule's "to"`, ""})
	return unless(anywhere, c)
}

// isMethod reports whether s is a token (RFC 9110, Section 5.6.2) without
// lower-case letters.
func isMethod(s string) bool { return header.IsToken(s) && strings.ToUpper(s) == s }
