package policy

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"fwdproxy/internal/problem"
)

// decode reads the TOML text over what into holds and reports every unknown
// key and every value of a wrong type, where the library would stop at the
// first.
func decode(text string, into any) problem.List {
	var root map[string]toml.Primitive
	md, err := toml.Decode(text, &root)
	if err != nil {
		return problem.List{syntaxProblem(err)}
	}
	d := decoder{md: md}
	d.table("", root, reflect.ValueOf(into).Elem())
	return d.problems
}

func syntaxProblem(err error) problem.Problem {
	var pe toml.ParseError
	if errors.As(err, &pe) {
		return problem.Problem{Line: pe.Position.Line, Message: "this is not TOML: " + pe.Message, Hint: pe.Usage}
	}
	return problem.Problem{Message: err.Error()}
}

type decoder struct {
	md       toml.MetaData
	problems problem.List
}

func (d *decoder) table(prefix string, values map[string]toml.Primitive, into reflect.Value) {
	fields := map[string]int{}
	for i := range into.NumField() {
		if tag := into.Type().Field(i).Tag.Get("toml"); tag != "" {
			fields[tag] = i
		}
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		path := join(prefix, key)
		i, known := fields[key]
		if !known {
			d.problems.Add(path, suggest(key, slices.Sorted(maps.Keys(fields))), "unknown key %q", key)
			continue
		}
		d.value(path, values[key], into.Field(i))
	}
}

// value decodes one key: tables, arrays of tables and maps of tables one level
// down, everything else by the library.
func (d *decoder) value(path string, value toml.Primitive, into reflect.Value) {
	t := into.Type()
	switch {
	case isTable(t):
		var m map[string]toml.Primitive
		if d.leaf(path, value, &m, "a table") {
			d.table(path, m, into)
		}
	case t.Kind() == reflect.Slice && isTable(t.Elem()):
		var list []map[string]toml.Primitive
		if !d.leaf(path, value, &list, "an array of tables, as in [["+path+"]]") {
			return
		}
		out := reflect.MakeSlice(t, len(list), len(list))
		for i, m := range list {
			d.table(path+"["+strconv.Itoa(i)+"]", m, out.Index(i))
		}
		into.Set(out)
	case t.Kind() == reflect.Map && isTable(t.Elem()):
		var m map[string]map[string]toml.Primitive
		if !d.leaf(path, value, &m, "a table of tables") {
			return
		}
		out := reflect.MakeMap(t)
		for key, values := range m {
			item := reflect.New(t.Elem()).Elem()
			d.table(join(path, key), values, item)
			out.SetMapIndex(reflect.ValueOf(key), item)
		}
		into.Set(out)
	default:
		d.leaf(path, value, into.Addr().Interface(), describe(t))
	}
}

func (d *decoder) leaf(path string, value toml.Primitive, into any, want string) bool {
	err := d.md.PrimitiveDecode(value, into)
	if err == nil && !d.fits(value, reflect.TypeOf(into).Elem()) {
		err = errors.New("the value is of the wrong type")
	}
	if err == nil {
		return true
	}
	var pe toml.ParseError
	message, hint := err.Error(), ""
	if errors.As(err, &pe) {
		message = pe.Message
	}
	if strings.Contains(message, "type") {
		message, hint = "the value is of the wrong type", "this is "+want
	}
	d.problems.Add(path, hint, "%s", message)
	return false
}

// fits reports whether a map, or a slice of them, was given tables: the library
// passes over anything else without an error.
func (d *decoder) fits(value toml.Primitive, t reflect.Type) bool {
	var raw any
	if err := d.md.PrimitiveDecode(value, &raw); err != nil {
		return false
	}
	return tablesFor(raw, t)
}

func tablesFor(raw any, t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Map:
		m, ok := raw.(map[string]any)
		for _, v := range m {
			ok = ok && tablesFor(v, t.Elem())
		}
		return ok
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Map {
			return true
		}
		if _, ok := raw.([]map[string]any); ok {
			return true
		}
		list, ok := raw.([]any)
		for _, v := range list {
			ok = ok && tablesFor(v, t.Elem())
		}
		return ok
	}
	return true
}

// isTable reports whether the type is one of ours that a TOML table fills.
func isTable(t reflect.Type) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	p := reflect.PointerTo(t)
	return !p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) && !p.Implements(reflect.TypeFor[toml.Unmarshaler]())
}

// describe names what a key holds, as a person would write it.
func describe(t reflect.Type) string {
	switch {
	case t.Name() == "Duration":
		return "a duration in quotes, as in \"10m\""
	case t.Name() == "Size":
		return "a size in quotes, as in \"64MiB\""
	case t.Name() == "PeerConfig":
		return "\"host:port\" or a table {address = \"host:port\", ...}"
	case t.Name() == "PortRange":
		return "a port (443) or a range in quotes (\"8443-8449\")"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string in quotes"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Slice:
		return "a list in brackets; each entry is " + describe(t.Elem())
	case reflect.Map:
		return "a table; each value is " + describe(t.Elem())
	}
	return fmt.Sprintf("a %s", t.Kind())
}

func join(prefix, key string) string {
	if prefix == "" {
		return key
	}
	return prefix + "." + key
}

// suggest names the known key nearest to an unknown one, or all of them.
func suggest(key string, known []string) string {
	if near := problem.Nearest(key, known); near != "" {
		return "did you mean " + strconv.Quote(near) + "?"
	}
	return "known here: " + strings.Join(known, ", ")
}
