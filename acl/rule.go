package acl

import (
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"fwdproxy/internal/problem"
)

// Compile returns the engine for a policy. open opens a list file by the path
// that the policy writes. With any problem, a list file that can not be read
// or has a malformed line included, there is no engine.
func Compile(c Config, open func(path string) (io.ReadCloser, error)) (*Engine, problem.List) {
	k := compiler{config: c, readFiles: true, open: open}
	e := k.engine()
	if len(k.problems) > 0 {
		return nil, k.problems
	}
	return e, nil
}

// compiler turns a Config into an Engine and gathers what is wrong with it.
type compiler struct {
	config    Config
	readFiles bool
	open      func(path string) (io.ReadCloser, error)
	problems  problem.List
	lists     map[string]*set
	warnings  problem.List
	downloads []Download
}

func (k *compiler) engine() *Engine {
	e := &Engine{
		counts:       &Counter{},
		fallback:     k.action("acl.default", k.config.Default),
		allowPrivate: k.action("acl.private_destinations", k.config.PrivateDestinations) == Allow,
	}
	for i, s := range k.config.PrivateExceptions {
		if p, bad := parseAddress(s); !k.bad(index("acl.private_exceptions", i), bad) {
			e.exceptions.add(p.prefix)
		}
	}
	e.exceptions.seal()
	k.lists = make(map[string]*set, len(k.config.Lists))
	for _, name := range slices.Sorted(maps.Keys(k.config.Lists)) {
		e.lists = append(e.lists, k.list(name, k.config.Lists[name]))
	}
	for i, r := range k.config.Rules {
		e.rules = append(e.rules, k.rule(i, r))
		e.intercepts = e.intercepts || r.Action == wordIntercept
	}
	for _, l := range k.lists {
		e.listBytes += l.bytes()
	}
	k.checkNames()
	for i, l := range k.config.Limits {
		e.limits = append(e.limits, k.limit(i, l))
	}
	for i, c := range k.config.Modify {
		m := k.modifier(i, c)
		e.modifiers = append(e.modifiers, m)
		for _, c := range m.request {
			if c.set {
				e.keyed = append(e.keyed, c.name)
			}
		}
	}
	e.warnings, e.downloads = k.warnings, k.downloads
	return e
}

// action reads a setting that may be left out, which is to deny.
func (k *compiler) action(key, s string) Action {
	switch s {
	case "", Deny.String():
	case Allow.String():
		return Allow
	default:
		k.problems.Add(key, `write "allow" or "deny"`, "%s is not an action", quote(s))
	}
	return Deny
}

// bad records the mistake at key, and reports whether there is one.
func (k *compiler) bad(key string, m *mistake) bool {
	if m == nil {
		return false
	}
	k.problems.Add(key, m.hint, "%s", m.message)
	return true
}

// reference reads "list:NAME". It reports false for anything else; a list that
// does not exist is a problem, and nil.
func (k *compiler) reference(key, s string) (*set, bool) {
	name, ok := strings.CutPrefix(s, "list:")
	if !ok {
		return nil, false
	}
	if l := k.lists[name]; l != nil {
		return l, true
	}
	hint := "define [acl.lists." + tomlKey(name) + "]"
	if near := problem.Nearest(name, slices.Sorted(maps.Keys(k.lists))); near != "" {
		hint = "did you mean " + strconv.Quote("list:"+near) + "?"
	}
	k.problems.Add(key, hint, "there is no list %s", quote(name))
	return nil, true
}

// checkNames refuses what would leave in doubt which rule a verdict names.
func (k *compiler) checkNames() {
	first := make(map[string]int)
	for i, name := range k.config.names() {
		key := index("acl.rule", i)
		if k.config.Rules[i].Name != "" {
			key += ".name"
		}
		j, seen := first[name]
		switch {
		case name == defaultRule:
			k.problems.Add(key, "choose another name", "%q is what a verdict is called that no rule gave", name)
		case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
			k.problems.Add(key, "", "the name %s has a control character in it", quote(name))
		case seen:
			k.problems.Add(key, "give each rule a name of its own", "acl.rule[%d] is called %q as well", j, name)
		default:
			first[name] = i
		}
	}
}

func ruleName(r RuleConfig, i int) string {
	if r.Name != "" {
		return r.Name
	}
	return "rule " + strconv.Itoa(i+1)
}

func index(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }

// tomlKey quotes a name that is no bare key.
func tomlKey(s string) string {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return strconv.Quote(s)
		}
	}
	if s == "" {
		return `""`
	}
	return s
}
