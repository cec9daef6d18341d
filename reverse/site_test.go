package reverse

import (
	"net/http"
	"testing"
	"time"

	"fwdproxy/internal/unit"
)

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
		if site := s.Find(Asked{Host: tt.host, Path: tt.path}); site == nil || site.Pool != tt.want {
			t.Errorf("%s%s goes to %+v, want %q", tt.host, tt.path, site, tt.want)
		}
	}
	if site := NewSites([]SiteConfig{{Hosts: []string{"a.test"}, Pool: "a"}}).Find(Asked{Host: "b.test", Path: "/"}); site != nil {
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

func TestTheFirstSiteWhoseConditionsHoldHasTheRequest(t *testing.T) {
	s := NewSites([]SiteConfig{
		{Name: "beta", Hosts: []string{"a.test"}, Header: map[string]string{"x-beta": "^yes$"}, Pool: "beta"},
		{Name: "writes", Hosts: []string{"a.test"}, Methods: []string{"POST", "PUT"}, Pool: "writes"},
		{Name: "plain", Hosts: []string{"a.test"}, Schemes: []string{"http"}, PathRegex: `^/login`, Redirect: "https://{host}{uri}"},
		{Name: "api", Hosts: []string{"a.test"}, Path: "/api", PathRegex: `^/api/v[0-9]+/`, Pool: "api"},
		{Name: "rest", Hosts: []string{"a.test"}, Pool: "rest"},
	})
	for _, tt := range []struct {
		scheme, method, path, beta, want string
	}{
		{"http", "GET", "/", "yes", "beta"},
		{"http", "POST", "/", "yes", "beta"},
		{"http", "GET", "/", "yes!", "rest"},
		{"http", "PUT", "/", "", "writes"},
		{"http", "GET", "/login?x", "", "plain"},
		{"https", "GET", "/login", "", "rest"},
		{"https", "GET", "/api/v2/x", "", "api"},
		{"https", "GET", "/api/vx/x", "", "rest"},
		// The longest path comes first, whatever else holds.
		{"https", "POST", "/api/v2/x", "yes", "api"},
	} {
		h := http.Header{}
		if tt.beta != "" {
			h["X-Beta"] = []string{"no", tt.beta}
		}
		site := s.Find(Asked{Scheme: tt.scheme, Host: "a.test", Path: tt.path, Method: tt.method, Header: h})
		if site == nil || site.Name != tt.want {
			t.Errorf("%+v: got %+v", tt, site)
		}
	}
}

func TestSitesAreCheckedWithTheirKeys(t *testing.T) {
	second := unit.Duration(time.Second)
	c := DefaultConfig()
	c.Sites = []SiteConfig{
		0:  {Hosts: []string{"a.test", "http://b.test"}, Path: "x", Pool: "app"},
		1:  {Pool: "nowhere"},
		2:  {Hosts: []string{"a.test"}, Path: "x", Pool: ""},
		3:  {Name: "a b", Hosts: []string{"c.test"}, Pool: "app", PathRegex: "(", Methods: []string{"get"}, Schemes: []string{"ftp"}, Header: map[string]string{"Host": "x", "X-A": "["}},
		4:  {Hosts: []string{"d.test"}, Pool: "app", Methods: []string{"GET"}},
		5:  {Hosts: []string{"e.test"}, Pool: "app", StripPrefix: true, Rewrite: "x"},
		6:  {Hosts: []string{"f.test"}, Redirect: "https://{uri}", RedirectStatus: 300, Rewrite: "/x", PathRegex: "x"},
		7:  {Hosts: []string{"g.test"}, Respond: &RespondConfig{Status: 100, Type: "a\nb"}, Pool: "app"},
		8:  {Name: "s", Hosts: []string{"h.test"}, Pool: "app", Split: []SplitConfig{{"app", 60}, {"two", 50}, {"three", 0}, {"two", 1}}, SplitBy: "luck"},
		9:  {Name: "s", Hosts: []string{"i.test"}, Pool: "app", Mirror: &MirrorConfig{"nowhere", 101}, Fault: &FaultConfig{Percent: -1, Delay: 100 * second, Status: 200}},
		10: {Hosts: []string{"j.test"}, Pool: "app", Fault: &FaultConfig{Percent: 1}},
		11: {Hosts: []string{"j.test"}, Pool: "app", Schemes: []string{"http"}},
		12: {Hosts: []string{"k.test"}, Pool: "app", WAF: "on"},
		13: {Hosts: []string{"l.test"}, Redirect: "https://{host}{uri}", WAF: "block"},
	}
	want := map[string]bool{}
	for _, key := range []string{
		"0].hosts[1]", "0].path", "1].hosts", "1].pool", "2]", "2].path", "2].pool",
		"3].name", "3].path_regex", "3].methods[0]", "3].schemes[0]", "3].header.Host", "3].header.X-A", "4].name",
		"5].rewrite", "6].redirect", "6].redirect_status", "6].rewrite", "7].pool", "7].respond.status", "7].respond.type",
		"8].split[0].pool", "8].split[2].pool", "8].split[2].percent", "8].split[3].pool", "8].split", "8].split_by",
		"9].name", "9].mirror.pool", "9].mirror.percent", "9].fault.percent", "9].fault.delay", "9].fault.status",
		"10].fault", "11]", "12].waf", "13].waf",
	} {
		want["reverse.site["+key] = true
	}
	seen := map[string]bool{}
	for _, p := range c.Validate([]string{"app", "two"}) {
		if !want[p.Key] {
			t.Errorf("unexpected: %s", p)
		}
		seen[p.Key] = true
	}
	for key := range want {
		if !seen[key] {
			t.Errorf("nothing is said of %s", key)
		}
	}
	c.Sites = []SiteConfig{
		{Name: "canary", Hosts: []string{"a.test"}, Pool: "app", Split: []SplitConfig{{"two", 0.5}}, SplitBy: "cookie", Mirror: &MirrorConfig{"two", 100}, Fault: &FaultConfig{Percent: 1, Delay: second}},
		{Hosts: []string{"b.test"}, Schemes: []string{"http"}, Redirect: "https://{host}{uri}", RedirectStatus: 308},
		{Hosts: []string{"b.test"}, Respond: &RespondConfig{Status: 503}},
	}
	if p := c.Validate([]string{"app", "two"}); len(p) > 0 {
		t.Errorf("of what is right: %v", p)
	}
}
