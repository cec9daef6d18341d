package acl

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"testing"

	"fwdproxy/internal/problem"
)

// files opens list files from memory.
type files map[string]string

func (f files) open(path string) (io.ReadCloser, error) {
	text, ok := f[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return io.NopCloser(strings.NewReader(text)), nil
}

func compile(t testing.TB, c Config, f files) *Engine {
	t.Helper()
	e, problems := Compile(c, f.open)
	if len(problems) > 0 {
		t.Fatalf("Compile: %v", problems)
	}
	return e
}

// ask builds a request from the canonical text of a destination.
func ask(client, host string) Request {
	r := Request{Client: netip.MustParseAddr(client), Method: "GET", Host: host, Port: 80}
	r.HostAddr, _ = netip.ParseAddr(host)
	return r
}

func at(r Request, addr string) Request {
	r.Addr = netip.MustParseAddr(addr)
	return r
}

func lines(l problem.List) string {
	var b strings.Builder
	for _, p := range l {
		b.WriteString(p.String() + "\n")
	}
	return b.String()
}

// golden compares with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	want, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Error(err)
	}
	same(t, got, string(want))
}

func same(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func gzipped(t testing.TB, text string) string {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := io.WriteString(w, text)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
