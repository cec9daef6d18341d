package acl

import (
	"fmt"
	"reflect"
	"slices"
)

// Difference says, for people, what changes for requests when next takes the
// place of e: rules added, removed, moved and changed, limits, modifiers, and lists that have
// other sizes.
func (e *Engine) Difference(next *Engine) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	was, is := positions(e.rules), positions(next.rules)
	var order []int // where the rules that stay stood before, in their new order
	for _, u := range next.rules {
		i, known := was[u.name]
		switch {
		case !known:
			say("rule %q added", u.name)
			continue
		case !reflect.DeepEqual(e.rules[i].config, u.config):
			say("rule %q changed", u.name)
		}
		order = append(order, i)
	}
	for _, u := range e.rules {
		if _, stays := is[u.name]; !stays {
			say("rule %q removed", u.name)
		}
	}
	for _, i := range moved(order) {
		say("rule %q moved from place %d to %d", e.rules[i].name, i+1, is[e.rules[i].name]+1)
	}
	if e.fallback != next.fallback {
		say("default %s, was %s", next.fallback, e.fallback)
	}
	out = append(out, tableDifference("limit", e.limitTables(), next.limitTables())...)
	out = append(out, tableDifference("modify", e.modifyTables(), next.modifyTables())...)
	return append(out, e.listDifference(next)...)
}

func positions(rules []rule) map[string]int {
	out := make(map[string]int, len(rules))
	for i := range rules {
		out[rules[i].name] = i
	}
	return out
}

// moved returns the fewest numbers without which the rest ascends.
func moved(order []int) []int {
	length, before := make([]int, len(order)), make([]int, len(order))
	end := -1
	for i := range order {
		length[i], before[i] = 1, -1
		for j := range i {
			if order[j] < order[i] && length[j]+1 > length[i] {
				length[i], before[i] = length[j]+1, j
			}
		}
		if end < 0 || length[i] > length[end] {
			end = i
		}
	}
	stays := map[int]bool{}
	for ; end >= 0; end = before[end] {
		stays[end] = true
	}
	var out []int
	for i, n := range order {
		if !stays[i] {
			out = append(out, n)
		}
	}
	return out
}

func (e *Engine) listDifference(next *Engine) []string {
	var out []string
	find := func(lists []ListInfo, name string) (ListInfo, bool) {
		i := slices.IndexFunc(lists, func(l ListInfo) bool { return l.Name == name })
		if i < 0 {
			return ListInfo{}, false
		}
		return lists[i], true
	}
	for _, l := range next.lists {
		old, known := find(e.lists, l.Name)
		switch {
		case !known:
			out = append(out, fmt.Sprintf("list %q added, %s", l.Name, l.size()))
		case old != l:
			out = append(out, fmt.Sprintf("list %q has %s, had %s", l.Name, l.size(), old.size()))
		}
	}
	for _, l := range e.lists {
		if _, stays := find(next.lists, l.Name); !stays {
			out = append(out, fmt.Sprintf("list %q removed", l.Name))
		}
	}
	return out
}

func (l ListInfo) size() string {
	if l.URLs == 0 {
		return fmt.Sprintf("%d domains and %d addresses", l.Domains, l.Addresses)
	}
	return fmt.Sprintf("%d domains, %d addresses and %d URLs", l.Domains, l.Addresses, l.URLs)
}

// table is one that stands beside the rules.
type table struct {
	name   string
	config any
}

func (e *Engine) limitTables() (out []table) {
	for i := range e.limits {
		out = append(out, table{e.limits[i].spec.Name, e.limits[i].config})
	}
	return out
}

func (e *Engine) modifyTables() (out []table) {
	for i := range e.modifiers {
		out = append(out, table{e.modifiers[i].config.Name, e.modifiers[i].config})
	}
	return out
}

// tableDifference says which tables of a kind are added, removed and changed.
func tableDifference(kind string, was, is []table) (out []string) {
	named := func(tables []table, name string) int {
		return slices.IndexFunc(tables, func(t table) bool { return t.name == name })
	}
	for _, t := range is {
		switch i := named(was, t.name); {
		case i < 0:
			out = append(out, fmt.Sprintf("%s %q added", kind, t.name))
		case !reflect.DeepEqual(was[i].config, t.config):
			out = append(out, fmt.Sprintf("%s %q changed", kind, t.name))
		}
	}
	for _, t := range was {
		if named(is, t.name) < 0 {
			out = append(out, fmt.Sprintf("%s %q removed", kind, t.name))
		}
	}
	return out
}
