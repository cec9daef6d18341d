package cache

import (
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
			if !header.IsToken(name) {
				*unqualified = true
				return
			}
			names = append(names, name)
		}
	}
	*unqualified = *unqualified || len(names) == 0
	d.withheld = append(d.withheld, names...)
}
