package reverse

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
)

func TestAPoolIsAskedForWhatTheSiteMakesOfThePath(t *testing.T) {
	strip := newSite(SiteConfig{Path: "/api", StripPrefix: true, Pool: "app"})
	root := newSite(SiteConfig{StripPrefix: true, Pool: "app"})
	slash := newSite(SiteConfig{Path: "/api/", StripPrefix: true, Pool: "app"})
	groups := newSite(SiteConfig{PathRegex: `^/old/(.*)$`, Rewrite: "/new/$1", Pool: "app"})
	named := newSite(SiteConfig{PathRegex: `/(?P<id>[0-9]+)x`, Rewrite: "/item/${id}", Pool: "app"})
	joins := newSite(SiteConfig{PathRegex: `^/d(.*)$`, Rewrite: "/.$1", Pool: "app"})
	for _, tt := range []struct {
		site              *Site
		path, query, want string
	}{
		{newSite(SiteConfig{Pool: "app"}), "/a%2fb", "q", ""},
		{strip, "/api", "", "/"},
		{strip, "/api/", "", "/"},
		{strip, "/api/x%20y", "a=b", "/x%20y?a=b"},
		{strip, "/api//evil.test/x", "", "/evil.test/x"},
		{slash, "/api/x", "", "/x"},
		{root, "/x", "", "/x"},
		{groups, "/old/a/b", "q=1", "/new/a/b?q=1"},
		{groups, "/old/", "", "/new/"},
		{named, "/a/17x", "", "/item/17"},
		{joins, "/d./etc", "", "error"}, // "/../etc"
		{joins, "/d/x", "", "error"},    // "/./x"
		{joins, "/dx", "", "/.x"},
		{newSite(SiteConfig{PathRegex: `^(.*)$`, Rewrite: "/%2$1", Pool: "app"}), "/x", "", "error"},
	} {
		got, err := tt.site.peerPath(&Asked{Path: tt.path, Query: tt.query})
		if err != nil {
			got = "error"
		}
		if got != tt.want {
			t.Errorf("%s of %+v: got %q, want %q", tt.path, tt.site.SiteConfig, got, tt.want)
		}
	}
}

func TestARedirectGoesNowhereButWhereThePolicySays(t *testing.T) {
	a := &Asked{Host: "a.test", Path: "//evil.test/@x", Query: "u=https://evil.test"}
	for text, want := range map[string]string{
		"https://{host}{uri}":                "https://a.test//evil.test/@x?u=https://evil.test",
		"https://www.test/":                  "https://www.test/",
		"https://www.test/old{path}?{query}": "https://www.test/old//evil.test/@x?u=https://evil.test",
		"http://www.{host}:8080/x":           "http://www.a.test:8080/x",
		"https://www.test{uri}":              "https://www.test//evil.test/@x?u=https://evil.test",
	} {
		r, err := parseRedirect(text)
		if err != nil || r.location(a) != want {
			t.Errorf("%s: got %q, %v, want %q", text, r.location(a), err, want)
		}
	}
	r, _ := parseRedirect("https://{host}{uri}")
	if got := r.location(&Asked{Host: "2001:db8::1", Path: "/"}); got != "https://[2001:db8::1]/" {
		t.Errorf("an IPv6 address: %s", got)
	}
	for _, text := range []string{
		"", "/x", "{uri}", "https://", "https://{uri}", "https://{path}", "https://{query}", "https://a{query}", "ftp://a/", "https://a.test/{what}", "https://a.test/{uri",
		"https://me@a.test/", "https://a.test/ x", "https://a.test\\x", "javascript:alert(1)", "https://a.test/\r\nX: y", "https://{host}}/",
	} {
		if _, err := parseRedirect(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// Whatever the path, the host of a redirect is the policy's, and what a pool is
// asked for stays below the root.
func FuzzWhatSitesMakeOfAPath(f *testing.F) {
	for _, s := range []string{"/", "//evil.test", "/a/../b", "/%2e%2e/x", "/@x", "/a?b#c", `/\evil.test`} {
		f.Add(s, "q=1", "https://{host}{uri}")
	}
	rewriting := newSite(SiteConfig{PathRegex: `^/(.)(.*)$`, Rewrite: "/$2$1", Pool: "app"})
	f.Fuzz(func(t *testing.T, path, query, text string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || !strings.HasPrefix(path, "/") {
			return
		}
		a := &Asked{Host: "a.test", Path: u.EscapedPath(), Query: regexp.MustCompile(`[^a-z0-9=&]`).ReplaceAllString(query, "")}
		if hasDotSegment(a.Path) {
			return
		}
		if r, err := parseRedirect(text); err == nil {
			to, err := url.Parse(r.location(a))
			policy, perr := url.Parse(strings.NewReplacer("{host}", "a.test", "{uri}", "/", "{path}", "/", "{query}", "").Replace(text))
			if err == nil && perr == nil && (to.Host != policy.Host || to.Scheme != policy.Scheme) {
				t.Errorf("%q with %q goes to %s", text, path, to)
			}
		}
		if rewriting.pathRE.MatchString(a.Path) {
			if got, err := rewriting.peerPath(a); err == nil && (!strings.HasPrefix(got, "/") || hasDotSegment(strings.SplitN(got, "?", 2)[0])) {
				t.Errorf("%q becomes %q", path, got)
			}
		}
	})
}
