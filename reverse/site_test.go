package reverse

import "testing"

func TestTheMostExactHostAndTheLongestPathWin(t *testing.T) {
	s := NewSites([]SiteConfig{
		{Hosts: []string{"*"}, Pool: "any"},
		{Hosts: []string{"*.site.test"}, Path: "/", Pool: "below"},
		{Hosts: []string{"*.deep.site.test"}, Pool: "deeper"},
		{Hosts: []string{"www.site.test"}, Path: "/api", Pool: "api"},
		{Hosts: []string{"WWW.Site.Test."}, Path: "/api/v2/", Pool: "v2"},
		{Hosts: []string{"xn--bcher-kva.test", "192.0.2.1"}, Pool: "exact"},
	})
	for _, tt := range []struct{ host, path, want string }{
		{"www.site.test", "/api", "api"},
		{"www.site.test", "/api/", "api"},
		{"www.site.test", "/api/v2", "api"},
		{"www.site.test", "/api/v2/x", "v2"},
		{"www.site.test", "/apix", "below"},
		{"www.site.test", "/", "below"},
		{"a.b.deep.site.test", "/", "deeper"},
		{"deep.site.test", "/", "below"},
		{"site.test", "/", "any"},
		{"192.0.2.1", "/x", "exact"},
		{"xn--bcher-kva.test", "/x", "exact"},
	} {
		site, ok := s.Find(tt.host, tt.path)
		if !ok || site.Pool != tt.want {
			t.Errorf("%s%s goes to %q, want %q", tt.host, tt.path, site.Pool, tt.want)
		}
	}
	if site, ok := NewSites([]SiteConfig{{Hosts: []string{"a.test"}, Pool: "a"}}).Find("b.test", "/"); ok {
		t.Errorf("a host without a site goes to %q", site.Pool)
	}
}

func TestAPathThatTwoServersCouldResolveDifferentlyIsSeen_RFC3986_5_2_4(t *testing.T) {
	for path, want := range map[string]bool{
		"/a/../b": true, "/..": true, "/./a": true, "/a/%2e%2E/b": true, "/a/..%2fb": true, "/a/..;x/b": true, `/a\..\b`: true,
		"/a/..b": false, "/a...b": false, "/": false, "/.well-known/x": false, "/a.b": false,
	} {
		if got := hasDotSegment(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

func TestSitesAreCheckedWithTheirKeys(t *testing.T) {
	c := Config{Sites: []SiteConfig{
		{Hosts: []string{"a.test", "http://b.test"}, Path: "x", Pool: "app"},
		{Pool: "nowhere"},
		{Hosts: []string{"a.test"}, Path: "x", Pool: ""},
	}}
	want := map[string]bool{
		"reverse.site[0].hosts[1]": true, "reverse.site[0].path": true, "reverse.site[1].hosts": true, "reverse.site[1].pool": true,
		"reverse.site[2]": true, "reverse.site[2].path": true, "reverse.site[2].pool": true,
	}
	for _, p := range c.Validate([]string{"app"}) {
		if !want[p.Key] {
			t.Errorf("unexpected: %s", p)
		}
		delete(want, p.Key)
	}
	for key := range want {
		t.Errorf("nothing is said of %s", key)
	}
}
