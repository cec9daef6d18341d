package policy

import (
	"bytes"
	"encoding"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/policy.md anew")

const (
	docFile      = "../docs/policy.md"
	completeTOML = "../examples/complete.toml"
)

// The reference is generated from the code that reads the policy, so that it
// cannot say anything else.
func TestThePolicyReferenceHasEveryKeyAsTheCodeReadsIt(t *testing.T) {
	want := reference(t)
	if *update {
		if err := os.WriteFile(docFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is out of date; run: go test ./policy -run Reference -update", docFile)
	}
}

func TestTheCompleteExampleLoadsAndSetsEveryKey(t *testing.T) {
	text, err := os.ReadFile(completeTOML)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(completeTOML, ""); err != nil {
		t.Fatal(err)
	}
	lines := indexLines(string(text))
	for _, k := range documentedKeys(t) {
		path := strings.ReplaceAll(k.path, "NAME", "social")
		set := k.kind == ""
		for i := range 4 { // any of the first tables of an array
			_, here := lines[strings.ReplaceAll(path, "[]", "["+strconv.Itoa(i)+"]")]
			set = set || here
		}
		if !set {
			t.Errorf("%s does not set %s", completeTOML, path)
		}
	}
}

type documented struct {
	path, kind, def, text string // kind is "" for a table
}

func reference(t *testing.T) []byte {
	var b bytes.Buffer
	b.WriteString(`# policy.toml, key by key

This page is generated from the code; ` + "`fwdproxy check FILE`" + ` holds a file against the same code and
reports every problem at once. A key that is not here is an error, never ignored. Paths of files are seen from the
directory of the policy file. Durations are written "90s", "10m", "24h" or "7d", sizes "64KiB", "256MiB" or "10GiB".

A saved file or SIGHUP applies a changed policy at once and whole; a file with a problem changes nothing. Requests in
flight keep the policy that they began with; tunnels that are open are decided again (on_reload in [forward.tunnel]).
cache.memory, admin.listen and limits.connections take effect at the next start.

A file that sets every key: [examples/complete.toml](../examples/complete.toml).
`)
	for _, k := range documentedKeys(t) {
		if k.kind == "" {
			fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n", heading(k.path), k.text)
			continue
		}
		name := k.path[strings.LastIndexByte(k.path, '.')+1:]
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, k.kind, k.def, strings.ReplaceAll(k.text, "|", `\|`))
	}
	return b.Bytes()
}

func heading(path string) string {
	switch {
	case path == "":
		return "Top level"
	case strings.HasSuffix(path, "[]"):
		return "`[[" + strings.TrimSuffix(path, "[]") + "]]`"
	}
	return "`[" + path + "]`"
}

func documentedKeys(t *testing.T) []documented {
	comments := map[string]string{}
	for _, dir := range []string{".", "../forward", "../reverse", "../tunnel", "../intercept", "../acl", "../auth", "../cache", "../compress", "../waf", "../upstream", "../internal/edge", "../internal/pair", "../accesslog", "../admin"} {
		fieldComments(t, dir, comments)
	}
	var out []documented
	var walk func(path, about string, v reflect.Value)
	walk = func(path, about string, v reflect.Value) {
		out = append(out, documented{path: path, text: about})
		type table struct {
			path, text string
			v          reflect.Value
		}
		var tables []table
		for i := range v.NumField() {
			f := v.Type().Field(i)
			key := f.Tag.Get("toml")
			if key == "" {
				t.Errorf("%s.%s has no toml tag", v.Type(), f.Name)
				continue
			}
			text := comments[v.Type().String()+"."+f.Name]
			if text == "" {
				t.Errorf("%s.%s has no comment for the reference", v.Type(), f.Name)
			}
			text = strings.TrimPrefix(strings.TrimPrefix(text, f.Name+" is "), f.Name+" ")
			full := join(path, key)
			switch {
			case isTable(f.Type):
				tables = append(tables, table{full, text, v.Field(i)})
			case f.Type.Kind() == reflect.Pointer && isTable(f.Type.Elem()):
				tables = append(tables, table{full, text, reflect.New(f.Type.Elem()).Elem()})
			case f.Type.Kind() == reflect.Slice && isTable(f.Type.Elem()):
				tables = append(tables, table{full + "[]", text, reflect.New(f.Type.Elem()).Elem()})
			case f.Type.Kind() == reflect.Map && isTable(f.Type.Elem()):
				tables = append(tables, table{full + ".NAME", text, reflect.New(f.Type.Elem()).Elem()})
			default:
				out = append(out, documented{full, describe(f.Type), inTOML(v.Field(i)), text})
			}
		}
		for _, sub := range tables {
			walk(sub.path, sub.text, sub.v)
		}
	}
	walk("", "Each section below is one concern; this is what stands outside of them.", reflect.ValueOf(DefaultConfig()))
	return out
}

// inTOML writes a default as the file would.
func inTOML(v reflect.Value) string {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err == nil {
			return "`" + strconv.Quote(string(text)) + "`"
		}
	}
	switch v.Kind() {
	case reflect.String:
		return "`" + strconv.Quote(v.String()) + "`"
	case reflect.Slice:
		if v.Len() == 0 {
			return "`[]`"
		}
		var items []string
		for i := range v.Len() {
			items = append(items, strings.Trim(inTOML(v.Index(i)), "`"))
		}
		return "`[" + strings.Join(items, ", ") + "]`"
	case reflect.Map:
		return "`{}`"
	case reflect.Struct:
		return fmt.Sprint(v.Interface())
	}
	return "`" + fmt.Sprint(v.Interface()) + "`"
}

// fieldComments gathers the comments of struct fields as "pkg.Type.Field".
func fieldComments(t *testing.T, dir string, into map[string]string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, dir+"/"+e.Name(), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			st, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			for _, f := range st.Fields.List {
				text := strings.Join(strings.Fields(f.Doc.Text()), " ")
				if text == "" {
					text = strings.Join(strings.Fields(f.Comment.Text()), " ")
				}
				for _, name := range f.Names {
					into[file.Name.Name+"."+spec.Name.Name+"."+name.Name] = text
				}
			}
			return true
		})
	}
}

func TestKeysAreFoundOnTheirLines(t *testing.T) {
	text := `name = "x"
[forward]
listen = [
  "a", # ]
  "b = 1",
]
[forward.tunnel]
ports = [443]
[[acl.rule]]
name = "one"
to = ["x"]
[[acl.rule]]
name = """
to = ["not a key"]
"""
to = ["y"]
[acl.lists."my list"]
domains = []
[[reverse.site]]
hosts = ["*"]
`
	ix := indexLines(text)
	want := map[string]int{
		"name": 1, "forward": 2, "forward.listen": 3, "forward.listen[1]": 3, "forward.tunnel.ports": 8,
		"acl.rule[0]": 9, "acl.rule[0].name": 10, "acl.rule[0].to[0]": 11, "acl.rule[1].name": 13, "acl.rule[1].to": 16,
		"acl.lists.my list.domains": 18, "reverse.site[0].hosts": 20, "acl.rule[1].ports": 12, "nowhere.at.all": 0,
	}
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if got := ix.find(path); got != want[path] {
			t.Errorf("%s: line %d, want %d", path, got, want[path])
		}
	}
}
