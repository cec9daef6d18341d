package main

import (
	"archive/zip"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"fwdproxy/internal/proxytest"
)

// issue makes a certificate of the kind for the name, and leaves the authority
// that it should be of in origin-ca.pem.
func issue(ts *testscript.TestScript, kind, name string) tls.Certificate {
	ca, err := proxytest.NewCA()
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(stageOf(ts).dir, "origin-ca.pem"), ca.PEM, 0o644))
	end := time.Now().Add(time.Hour)
	switch kind {
	case "expired":
		end = time.Now().Add(-time.Hour)
	case "wrong-name":
		name = "another.test"
	case "self-signed":
		ca, err = proxytest.NewCA() // which nobody trusts
		ts.Check(err)
	case "good":
	default:
		ts.Fatalf("%q is no kind of certificate", kind)
	}
	cert, err := ca.Issue(end, name)
	ts.Check(err)
	return cert
}

func cmdTLSOrigin(ts *testscript.TestScript, _ bool, args []string) {
	s := stageOf(ts)
	if s.origin != nil {
		s.origin.Close()
	}
	o, err := proxytest.StartTLSOrigin(ts.ReadFile(args[1]), issue(ts, args[0], "secure.test"))
	ts.Check(err)
	s.origin = o
	ts.Setenv("ORIGIN", o.Addr)
	_, port, _ := net.SplitHostPort(o.Addr)
	ts.Setenv("OPORT", port)
}

func cmdGoModules(ts *testscript.TestScript, _ bool, args []string) {
	s := stageOf(ts)
	dir, hits := ts.MkAbs(args[0]), filepath.Join(s.dir, "hits")
	zipModules(ts, dir)
	var mu sync.Mutex
	files := http.FileServer(http.Dir(dir))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		f, err := os.OpenFile(hits, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			fmt.Fprintln(f, r.Method, r.URL.Path)
			err = f.Close()
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Cache-Control", "public, max-age=3600")
		files.ServeHTTP(w, r)
	})
	addr, stop, err := proxytest.Serve(handler, issue(ts, "good", "modules.test"))
	ts.Check(err)
	s.stop = stop
	ts.Setenv("ORIGIN", addr)
	_, port, _ := net.SplitHostPort(addr)
	ts.Setenv("OPORT", port)
	ts.Setenv("HITS", hits)
}

// zipModules puts an archive beside each .mod file below dir, with that file
// as all there is in the module.
func zipModules(ts *testscript.TestScript, dir string) {
	ts.Check(filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		base, is := strings.CutSuffix(path, ".mod")
		if err != nil || !is {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, base)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		w, err := z.Create(strings.Replace(filepath.ToSlash(rel), "/@v/", "@", 1) + "/go.mod")
		if err == nil {
			_, err = w.Write(text)
		}
		if err = errors.Join(err, z.Close()); err != nil {
			return err
		}
		return os.WriteFile(base+".zip", b.Bytes(), 0o644)
	}))
}
