package cache

import (
	"slices"

	"github.com/dunglas/httpsfv"

	"fwdproxy/internal/header"
)

// parseTargeted reads a targeted field (RFC 9213, Section 2.1). It is false
// when the field is empty or no dictionary, and then counts for nothing
// (Section 2.1); names are lower-case by its grammar, and the last of two
// counts. A directive whose value is of the wrong type permits nothing.
func parseTargeted(lines []string) (responseDirectives, bool) {
	d := noResponseDirectives()
	dict, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil || len(dict.Names()) == 0 {
		return d, false
	}
	for _, name := range dict.Names() {
		member, _ := dict.Get(name)
		var value any
		if item, ok := member.(httpsfv.Item); ok {
			value = item.Value
		}
		d.addTargeted(name, value)
	}
	return d, true
}

func (d *responseDirectives) addTargeted(name string, value any) {
	number := func(s *seconds) {
		if n, ok := value.(int64); ok && n >= 0 {
			*s = min(seconds(n), maxAge)
		} else {
			*s = 0
		}
	}
	switch name {
	case "max-age":
		number(&d.maxAge)
	case "s-maxage":
		number(&d.sMaxAge)
	case "stale-if-error":
		number(&d.staleIfError)
	case "stale-while-revalidate":
		number(&d.staleRevalidate)
	case "no-cache":
		d.qualifyTargeted(&d.noCache, value)
	case "private":
		d.qualifyTargeted(&d.private, value)
	case "public":
		d.public = value == true
	case "must-understand":
		d.mustUnderstand = value == true
	case "must-revalidate":
		d.mustRevalidate = value == true
		d.proxyRevalidate = d.proxyRevalidate || value != true
	default:
		d.restrict(name)
	}
}

// qualifyTargeted limits the directive to the fields that a string lists.
func (d *responseDirectives) qualifyTargeted(unqualified *bool, value any) {
	var names []string
	if list, ok := value.(string); ok {
		for name := range header.Elements(list) {
			if !mayWithhold(name) {
				*unqualified = true
				return
			}
			names = append(names, name)
		}
	}
	*unqualified = *unqualified || len(names) == 0
	d.withheld = append(d.withheld, names...)
}

// parseVariance reads a No-Vary-Search (draft-ietf-httpbis-no-vary-search,
// Section 4). It is false for a field that makes no difference: an absent, an
// empty and a malformed one, and one that names more than maxVaryNames.
func parseVariance(lines []string) (variance, bool) {
	var v variance
	if len(lines) == 0 {
		return v, false
	}
	dict, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return v, false
	}
	get := func(name string) (value any, list []string, ok bool) {
		switch m, _ := dict.Get(name); m := m.(type) {
		case nil:
			return nil, nil, true
		case httpsfv.Item:
			return m.Value, nil, true
		case httpsfv.InnerList:
			list = []string{}
			for _, item := range m.Items {
				s, isString := item.Value.(string)
				if !isString {
					return nil, nil, false
				}
				list = append(list, formDecode(s))
			}
			return nil, list, len(list) <= maxVaryNames
		}
		return nil, nil, false
	}
	order, names, ok1 := get("key-order")
	params, drop, ok2 := get("params")
	none, keep, ok3 := get("except")
	ignoreOrder, isBool1 := order.(bool)
	all, isBool2 := params.(bool)
	switch {
	case !ok1 || !ok2 || !ok3, names != nil, order != nil && !isBool1, params != nil && !isBool2, none != nil, keep != nil && !all:
		return v, false
	}
	v = variance{ignoreOrder: ignoreOrder, all: all, names: drop}
	if all {
		v.names = keep
	}
	slices.Sort(v.names)
	v.names = slices.Compact(v.names)
	return v, v.ignoreOrder || v.all || len(v.names) > 0
}

// stringList reads a List of Strings (RFC 9651, Section 3.1); parameters are
// ignored (RFC 9875, Section 2). A member of another type makes it malformed.
func stringList(lines []string) ([]string, bool) {
	list, err := httpsfv.UnmarshalList(lines)
	if err != nil {
		return nil, false
	}
	members := make([]string, 0, len(list))
	for _, m := range list {
		item, _ := m.(httpsfv.Item)
		s, ok := item.Value.(string)
		if !ok {
			return nil, false
		}
		members = append(members, s)
	}
	return members, true
}
