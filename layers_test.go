package fwdproxy_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is this module's path, under which its packages are imported.
const module = "fwdproxy"

// layers is the order of the house, lowest first. A package may import those
// of the lines above its own, and no sibling of its line. "." is the root,
// which holds files to embed.
const layers = `
	. internal/fault internal/header internal/hop internal/pair internal/problem internal/proxyproto internal/quota internal/target internal/unit internal/xconnect
	acl auth intercept lists tunnel cache/store
	cache compress waf upstream accesslog
	internal/edge
	http1 http2 forward reverse admin
	policy
	cmd/fwdproxy
`

// siblings are the imports between leaves that are allowed all the same, one a
// line: "internal/a <- internal/b" lets a import b.
const siblings = `
	internal/pair <- internal/problem
`

// helpers hold what tests share. They may import leaves, and only test files
// import them.
const helpers = `
	internal/conform internal/proxytest
`

// importers names who alone may import a third-party module; a path that ends
// in .go is one file, which speaks for its _test.go as well, "tests" is every
// test file, and "all" is everybody.
const importers = `
	github.com/BurntSushi/toml              policy
	github.com/elazarl/goproxy              forward
	github.com/allegro/bigcache/v3          cache/store
	go.etcd.io/bbolt                        cache/store/disk_index.go
	github.com/pquerna/cachecontrol         cache/directives.go
	github.com/dunglas/httpsfv              cache/structured.go
	github.com/prometheus/client_golang     accesslog admin cmd/fwdproxy
	github.com/cenkalti/backoff/v5          upstream/retry.go
	github.com/sony/gobreaker/v2            upstream/pool.go
	github.com/spf13/cobra                  cmd/fwdproxy
	github.com/spf13/pflag                  cmd/fwdproxy
	github.com/fsnotify/fsnotify            policy
	github.com/rogpeppe/go-internal         tests
	github.com/dop251/goja                  tests
	golang.org/x/crypto                     auth cmd/fwdproxy/passwd.go
	golang.org/x/term                       cmd/fwdproxy/passwd.go
	github.com/andybalholm/brotli           compress
	github.com/klauspost/compress           compress
	github.com/corazawaf/coraza/v3           waf
	github.com/corazawaf/coraza-coreruleset/v4 waf cmd/fwdproxy/waf_crs_test.go
	github.com/goccy/go-yaml                tests
	golang.org/x/net                        all
	golang.org/x/sys                        cache/store/disk_million_linux_test.go
	golang.org/x/sync                       all
	golang.org/x/time                       all
`

// TestImportsFollowTheLayers holds every Go file of the module against the
// rules above.
func TestImportsFollowTheLayers(t *testing.T) {
	house := newHouse(layers, siblings, helpers, importers)
	files := goFiles(t)
	if len(files) < 20 {
		t.Fatalf("only %d Go files were found; the test reads the wrong folder", len(files))
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			continue
		}
		imports := make([]string, len(parsed.Imports))
		for i, spec := range parsed.Imports {
			imports[i], _ = strconv.Unquote(spec.Path.Value)
		}
		for _, complaint := range house.check(file, imports) {
			t.Error(complaint)
		}
	}
}

// goFiles returns the module's Go files by slash-separated path; other modules
// inside it and testdata are left out, as the go command does.
func goFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if d.IsDir() {
			base := d.Name()
			_, nested := os.Stat(filepath.Join(name, "go.mod"))
			if nested == nil || base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(name, ".go") {
			files = append(files, filepath.ToSlash(name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// house is the rules, read.
type house struct {
	level     map[string]int
	siblings  map[string]bool // "from <- to"
	helpers   []string
	importers map[string][]string
}

func newHouse(layers, siblings, helpers, importers string) *house {
	h := &house{level: map[string]int{}, siblings: map[string]bool{}, helpers: strings.Fields(helpers), importers: map[string][]string{}}
	for i, line := range strings.Split(strings.TrimSpace(layers), "\n") {
		for pkg := range strings.FieldsSeq(line) {
			h.level[pkg] = i
		}
	}
	for line := range strings.SplitSeq(siblings, "\n") {
		h.siblings[strings.TrimSpace(line)] = true
	}
	for line := range strings.SplitSeq(importers, "\n") {
		if f := strings.Fields(line); len(f) > 1 {
			h.importers[f[0]] = f[1:]
		}
	}
	return h
}

// check returns what is wrong with the imports of one file.
func (h *house) check(file string, imports []string) []string {
	pkg := path.Dir(file)
	if _, known := h.level[pkg]; !known && !slices.Contains(h.helpers, pkg) {
		return []string{fmt.Sprintf("%s: package %s is in no layer; give it a place in the layers of layers_test.go, or put the code into a package that has one", file, pkg)}
	}
	var complaints []string
	for _, imported := range imports {
		complaint := ""
		if imported == module {
			complaint = h.checkOwn(file, ".")
		} else if to, ok := strings.CutPrefix(imported, module+"/"); ok {
			complaint = h.checkOwn(file, to)
		} else if first, _, _ := strings.Cut(imported, "/"); strings.Contains(first, ".") {
			complaint = h.checkModule(file, imported)
		}
		if complaint != "" {
			complaints = append(complaints, file+": "+complaint)
		}
	}
	return complaints
}

// checkOwn judges the import of this module's package to.
func (h *house) checkOwn(file, to string) string {
	pkg, test := path.Dir(file), isTest(file)
	from := h.level[pkg] // a helper's is 0: it stands among the leaves
	level, known := h.level[to]
	switch {
	case pkg == to:
		return "" // a test from outside
	case pkg == "." && test:
		return "" // the root's tests are about the whole
	case slices.Contains(h.helpers, to) && test:
		return ""
	case slices.Contains(h.helpers, to):
		return fmt.Sprintf("%s is for tests alone", to)
	case !known:
		return fmt.Sprintf("package %s is in no layer; give it a place in the layers of layers_test.go", to)
	case slices.Contains(h.helpers, pkg) && level == 0:
		return ""
	case level < from || h.siblings[pkg+" <- "+to]:
		return ""
	case level == from:
		return fmt.Sprintf("%s and %s are siblings and must not import each other; let the caller hand over a func, or move what both need below them", pkg, to)
	}
	return fmt.Sprintf("%s is below %s and must not import it", pkg, to)
}

// checkModule judges the import of a third-party package.
func (h *house) checkModule(file, imported string) string {
	for mod, who := range h.importers {
		if imported != mod && !strings.HasPrefix(imported, mod+"/") {
			continue
		}
		allowed := slices.ContainsFunc(who, func(w string) bool {
			return w == "all" || w == "tests" && isTest(file) || w == path.Dir(file) ||
				w == file || w == strings.TrimSuffix(file, "_test.go")+".go"
		})
		if !allowed {
			return fmt.Sprintf("%s may be imported by %s alone", mod, strings.Join(who, ", "))
		}
		return ""
	}
	return fmt.Sprintf("%s belongs to no module in the importers of layers_test.go; say there who may import it", imported)
}

func isTest(file string) bool { return strings.HasSuffix(file, "_test.go") }

func TestTheLayersAreEnforced(t *testing.T) {
	h := newHouse(`
		. internal/low internal/leaf
		left right
		door
	`, `
		internal/leaf <- internal/low
	`, `internal/help`, `
		example.com/one      left
		example.com/file     right/only.go
		example.com/script   tests
		example.org          all
	`)
	for _, c := range []struct {
		file, imported string
		want           string // part of the complaint; "" when it is allowed
	}{
		{"left/a.go", "fmt", ""},
		{"left/a.go", "net/http", ""},
		{"left/a.go", "fwdproxy/internal/leaf", ""},
		{"door/a.go", "fwdproxy/left", ""},
		{"door/a.go", "fwdproxy", ""},
		{"left/a.go", "fwdproxy/right", "siblings"},
		{"left/a_test.go", "fwdproxy/right", "siblings"},
		{"left/a_test.go", "fwdproxy/left", ""},
		{"left/a.go", "fwdproxy/door", "left is below door"},
		{"left/a_test.go", "fwdproxy/door", "left is below door"},
		{"internal/leaf/a.go", "fwdproxy/internal/low", ""},
		{"internal/low/a.go", "fwdproxy/internal/leaf", "siblings"},
		{"internal/low/a.go", "fwdproxy/left", "below"},
		{"embed.go", "fwdproxy/left", "below"},
		{"embed.go", "fwdproxy/internal/low", "siblings"},
		{"whole_test.go", "fwdproxy/door", ""},
		{"new/a.go", "fmt", "new is in no layer"},
		{"left/sub/a.go", "fmt", "left/sub is in no layer"},
		{"door/a.go", "fwdproxy/new", "new is in no layer"},
		{"door/a.go", "fwdproxy/internal/help", "for tests alone"},
		{"door/a_test.go", "fwdproxy/internal/help", ""},
		{"internal/help/a.go", "fwdproxy/internal/low", ""},
		{"internal/help/a.go", "fwdproxy/left", "below"},
		{"left/a.go", "example.com/one", ""},
		{"left/a_test.go", "example.com/one/sub", ""},
		{"door/a.go", "example.com/one/sub", "example.com/one may be imported by left alone"},
		{"door/a_test.go", "example.com/one", "may be imported by left alone"},
		{"left/a.go", "example.com/onerous", "no module in the importers"},
		{"right/only.go", "example.com/file", ""},
		{"right/only_test.go", "example.com/file", ""},
		{"right/other.go", "example.com/file", "right/only.go alone"},
		{"right/other_test.go", "example.com/file", "right/only.go alone"},
		{"left/a.go", "example.com/script", "by tests alone"},
		{"left/a_test.go", "example.com/script", ""},
		{"left/a.go", "example.org/x/y", ""},
		{"left/a.go", "example.net/unknown", "no module in the importers"},
	} {
		got := strings.Join(h.check(c.file, []string{c.imported}), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s imports %s: %q, want %q", c.file, c.imported, got, c.want)
		}
	}
}
