package main

import (
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"fwdproxy/cache"
	"fwdproxy/cache/store"
	"fwdproxy/internal/hop"
	"fwdproxy/policy"
)

func TestEveryExampleLoads(t *testing.T) {
	files, err := filepath.Glob("../../examples/*.toml")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, ".test.toml") {
			continue // cases, which TestScripts/test runs
		}
		// An example brings no authority: its key would be everybody's.
		if _, err := policy.LoadWithoutCA(file, ""); err != nil {
			t.Error(err)
		}
	}
}

// mirror is a next hop that answers every request alike.
type mirror struct {
	header http.Header
	asked  int
}

func (m *mirror) RoundTrip(req *http.Request) (*http.Response, error) {
	m.asked++
	hop.From(req.Context()).Used(netip.MustParseAddrPort("192.0.2.1:80"), "")
	return &http.Response{StatusCode: 200, Header: m.header.Clone(), Body: io.NopCloser(strings.NewReader("x")), ContentLength: 1}, nil
}

func TestThePackageMirrorKeepsPackagesAndAsksForLists(t *testing.T) {
	p, err := policy.Load("../../examples/package-mirror.toml", "")
	if err != nil {
		t.Fatal(err)
	}
	memory, err := store.NewMemory(store.MinMemory)
	if err != nil {
		t.Fatal(err)
	}
	m := &mirror{header: http.Header{"Cache-Control": {"max-age=0"}, "Etag": {`"a"`}}}
	c := cache.New(memory).Transport(p.Config.Cache, "fwdproxy", m)
	get := func(target string) string {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		ctx := hop.With(t.Context(), &hop.Hop{Permit: func(netip.AddrPort) error { return nil }})
		res, err := c.RoundTrip((&http.Request{Method: "GET", URL: u, Host: u.Host, Header: http.Header{"Cache-Control": {"max-age=0"}}}).WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatal(err)
		}
		return res.Header.Get("Cache-Status")
	}
	for _, step := range []struct {
		url string
		hit bool
	}{
		{"http://deb.debian.org/debian/pool/main/c/curl/curl_8.deb", false},
		{"http://de.ftp.debian.org/debian/pool/main/c/curl/curl_8.deb", true},
		{"http://deb.debian.org/debian/pool/main/c/curl/curl_9.deb", false},
		{"http://security.debian.org/debian/pool/main/c/curl/curl_8.deb", false},
		{"http://deb.debian.org/debian/dists/sid/InRelease", false},
		{"http://deb.debian.org/debian/dists/sid/InRelease", false},
		{"http://deb.debian.org/debian/dists/sid/by-hash/SHA256/0a", false},
		{"http://ftp.debian.org/debian/dists/sid/by-hash/SHA256/0a", true},
		{"http://registry.npmjs.org/a/-/a-1.0.0.tgz", false},
		{"http://registry.npmjs.org/a/-/a-1.0.0.tgz", true},
		{"http://registry.npmjs.org/a", false},
		{"http://registry.npmjs.org/a", false},
	} {
		if status := get(step.url); strings.Contains(status, "; hit;") != step.hit {
			t.Errorf("%s: %s", step.url, status)
		}
	}
	if len(p.Warnings) == 0 {
		t.Error("check does not say where the example breaks RFC 9111")
	}
}
