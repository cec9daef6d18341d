package acl

import (
	"strings"
	"testing"
)

func get(host, url string) Request {
	r := ask("10.0.0.1", host)
	r.Scheme = "http"
	r.Path, r.Query, _ = strings.Cut(url, "?")
	return r
}

func urlsOf(t testing.TB, texts ...string) *urlSet {
	t.Helper()
	s := &set{}
	s.urls.unseen = doubt
	for _, text := range texts {
		e, bad := parseURL(text)
		if bad != nil {
			t.Fatalf("%s: %s", text, bad.message)
		}
		s.add(e)
	}
	s.seal()
	return &s.urls
}

func TestAURLHoldsForItsPathAndWhatGoesOnBehindIt(t *testing.T) {
	s := urlsOf(t, "a.test/x", "A.test/d/", "a.test/%7Ejoe/Docs", "a.test/p?id=3", "b.test/q?a+b", "http://c.test:80/y#z", "192.0.2.1/x", "[2001:db8::1]/x", "d.test/?m", "e.test/a%2fb")
	for url, want := range map[string]truth{
		"a.test/x": yes, "a.test/x/": yes, "a.test/x/y": yes, "a.test/x?q": yes, "a.test/x;p": yes, "a.test/x&p": yes,
		"a.test/xy": no, "a.test/": no, "a.test/y/x": no, "x.a.test/x": no, "b.test/x": no,
		"a.test/d": no, "a.test/d/": yes, "a.test/d/e": yes, "a.test/de": no,
		"a.test/~joe/Docs": yes, "a.test/%7ejoe/Docs/x": yes, "a.test/%7Ejoe/docs": doubt, "a.test/X": doubt,
		"a.test/p": no, "a.test/p?id=3": yes, "a.test/p?id=3&b": yes, "a.test/p?id=33": no, "a.test/p?b&id=3": no, "a.test/p?i%64=3": yes,
		"b.test/q?a+b": yes, "b.test/q?a%20b": yes, "c.test/y": yes, "d.test/?m": yes, "d.test/": no,
		// What one server reads as the entry's path and another does not.
		"a.test/y/../x": doubt, "a.test/x/../y": doubt, "a.test//x": doubt, "a.test/./x": doubt, "a.test/x%2fy": doubt, "a.test/%78": yes, "a.test/%2578": doubt,
		`a.test/x\y`: doubt, "a.test/%2525252578": doubt, "a.test/y%2f..%2fx": doubt, "e.test/a/b": yes,
	} {
		host, path, _ := strings.Cut(url, "/")
		r := get(host, "/"+path)
		if got := s.match(&r); got != want {
			t.Errorf("%s: %v, want %v", url, got, want)
		}
	}
	for _, host := range []string{"192.0.2.1", "2001:db8::1"} {
		if r := get(host, "/x"); s.match(&r) != yes {
			t.Errorf("%s: no match", host)
		}
	}
}

func TestDoubtAboutAURLCountsAgainstTheRequest(t *testing.T) {
	tunnel := func(host string) Request {
		r := ask("10.0.0.1", host)
		r.Method, r.Port = "CONNECT", 443
		return r
	}
	for name, tt := range map[string]struct {
		list    ListConfig
		to, not []string
		action  string
		request Request
		want    Action
	}{
		"a listed URL is denied":                             {to: []string{"list:l"}, action: "deny", request: get("a.test", "/x"), want: Deny},
		"another of its host is not":                         {to: []string{"list:l"}, action: "deny", request: get("a.test", "/y"), want: Allow},
		"another letter case is denied":                      {to: []string{"list:l"}, action: "deny", request: get("a.test", "/X"), want: Deny},
		"a listed URL is allowed":                            {to: []string{"list:l"}, action: "allow", request: get("a.test", "/x"), want: Allow},
		"another letter case is not allowed":                 {to: []string{"list:l"}, action: "allow", request: get("a.test", "/X"), want: Deny},
		"nor is a way round":                                 {to: []string{"list:l"}, action: "allow", request: get("a.test", "/x/..%2fy"), want: Deny},
		"a tunnel to the host is denied":                     {to: []string{"list:l"}, action: "deny", request: tunnel("a.test"), want: Deny},
		"and is not allowed":                                 {to: []string{"list:l"}, action: "allow", request: tunnel("a.test"), want: Deny},
		"a tunnel elsewhere is none of it":                   {to: []string{"list:l"}, action: "deny", request: tunnel("b.test"), want: Allow},
		"ignored in tunnels":                                 {list: ListConfig{URLsInTunnels: "ignore"}, to: []string{"list:l"}, action: "deny", request: tunnel("a.test"), want: Allow},
		"ignored in tunnels, never allowed":                  {list: ListConfig{URLsInTunnels: "ignore"}, to: []string{"list:l"}, action: "allow", request: tunnel("a.test"), want: Deny},
		"the opposite of doubt is doubt, and does not allow": {not: []string{"list:l"}, action: "allow", request: tunnel("a.test"), want: Deny},
		"and denies":                                         {not: []string{"list:l"}, action: "deny", request: get("a.test", "/X"), want: Deny},
		"a domain of the list needs no URL":                  {list: ListConfig{Domains: []string{"a.test"}}, to: []string{"list:l"}, action: "allow", request: tunnel("a.test"), want: Allow},
	} {
		list := tt.list
		list.URLs = []string{"a.test/x"}
		other := map[string]string{"allow": "deny", "deny": "allow"}
		e := compile(t, Config{Default: other[tt.action], Lists: map[string]ListConfig{"l": list},
			Rules: []RuleConfig{{Name: "r", To: tt.to, NotTo: tt.not, Action: tt.action}}}, nil)
		if v := e.Decide(tt.request); v.Action != tt.want {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestAVerdictSaysThatTheURLIsListed(t *testing.T) {
	e := compile(t, Config{Default: "allow", Lists: map[string]ListConfig{"l": {URLs: []string{"a.test/x"}}},
		Rules: []RuleConfig{{Name: "r", To: []string{"list:l"}, Action: "deny"}}}, nil)
	if v := e.Decide(get("a.test", "/x")); v.Reason != "the URL is in list:l" {
		t.Errorf("%+v", v)
	}
}

func TestListedURLsAreRefusedThatMeanSomethingElse(t *testing.T) {
	c := Config{Lists: map[string]ListConfig{"l": {URLs: []string{"a.test", "a.test/", "a.test:8080/x", "u:p@a.test/x", "ftp://a.test/x", "a test/x", "*.a.test/x", "/x", "", "a.test/%25252525", ".a.test/x"}, URLsInTunnels: "deny"}}}
	_, problems := Compile(c, nil)
	golden(t, "urls.golden", lines(problems))
}

func TestLookupsDoNotAllocate(t *testing.T) {
	e := compile(t, Config{Default: "allow", Lists: map[string]ListConfig{"l": {Domains: []string{".b.test"}, Addresses: []string{"192.0.2.0/24"},
		URLs: []string{"a.test/x/y", "a.test/x?q"}}}, Rules: []RuleConfig{{Name: "r", To: []string{"list:l"}, Action: "deny"}}}, nil)
	for _, r := range []Request{get("a.test", "/x/z?q=1"), get("a.test", "/x/y"), get("c.b.test", "/"), get("c.test", "/"), at(get("c.test", "/"), "192.0.2.1")} {
		if n := testing.AllocsPerRun(100, func() { e.Decide(r) }); n != 0 {
			t.Errorf("%s%s: %v allocations", r.Host, r.Path, n)
		}
	}
}

func TestDirectoriesAreReadAsSquidGuardHasThem(t *testing.T) {
	c := Config{Default: "allow", Lists: map[string]ListConfig{"l": {Dirs: []string{"bl/adult"}}},
		Rules: []RuleConfig{{Name: "r", To: []string{"list:l"}, Action: "deny"}}}
	e := compile(t, c, files{"bl/adult/domains": "A.test\n192.0.2.1\nnot a name\nb..test\n\n# c\n", "bl/adult/urls": "b.test/x\nwww.c.test/y\nd.test\nd.test:81/x\n",
		"bl/adult/expressions": "# e\n(sex|drugs)\nrock\n"})
	for url, want := range map[string]Action{"a.test/": Deny, "x.a.test/": Deny, "192.0.2.1/": Deny, "b.test/x": Deny, "www.b.test/x": Deny, "x.b.test/x": Allow,
		"www.c.test/y": Deny, "c.test/y": Deny, "c.test/": Allow, "d.test/": Deny, "www.d.test/": Deny, "sex.test/": Allow} {
		host, path, _ := strings.Cut(url, "/")
		if v := e.Decide(at(get(host, "/"+path), "198.51.100.1")); v.Action != want {
			t.Errorf("%s: %+v", url, v)
		}
	}
	if got := e.Lists()[0]; got != (ListInfo{"l", 3, 1, 4, 5}) {
		t.Errorf("%+v", got)
	}
	golden(t, "dirs.golden", lines(e.Warnings()))
}

func TestADirectoryWithoutListsIsAnError(t *testing.T) {
	for _, f := range []files{nil, {"d/expressions": "x\n"}} {
		_, problems := Compile(Config{Lists: map[string]ListConfig{"l": {Dirs: []string{"d"}}}}, f.open)
		same(t, lines(problems), `acl.lists.l.dirs[0]: d: there is neither a file "domains" nor a file "urls" (name the folder of one category, as in "blacklists/adult")`+"\n")
	}
}

func TestAListWithoutEntriesIsAWarning(t *testing.T) {
	e := compile(t, Config{Lists: map[string]ListConfig{"a": {Files: []string{"f"}}, "b": {Dirs: []string{"d"}}, "c": {Domains: []string{"a.test"}, Files: []string{"f"}}}},
		files{"f": "# empty\n", "d/domains": "", "d/urls": ""})
	same(t, lines(e.Warnings()), "acl.lists.a: the list has no entry (a rule that denies what is in it denies nothing)\n"+
		"acl.lists.b: the list has no entry (a rule that denies what is in it denies nothing)\n")
}

func TestACompressedListFileIsUnpacked(t *testing.T) {
	e := compile(t, Config{Lists: map[string]ListConfig{"a": {Files: []string{"f.gz"}}}}, files{"f.gz": gzipped(t, "a.test\nb.test\n")})
	if got := e.Lists()[0].Domains; got != 2 {
		t.Errorf("%d domains", got)
	}
	cut := gzipped(t, strings.Repeat("a.test\n", 1000))
	_, problems := Compile(Config{Lists: map[string]ListConfig{"a": {Files: []string{"f.gz"}}}}, files{"f.gz": cut[:len(cut)-6]}.open)
	if len(problems) != 1 {
		t.Errorf("a file that is cut off: %v", problems)
	}
}

func FuzzListedURL(f *testing.F) {
	for _, s := range []string{"a.test/x", "http://a.test/%2e%2e/x?y#z", "192.0.2.1/24", "[::1]/", "a.test?x", `a.test/\x`, "a.test/%25252f", "a.test/ä", "a.test/a/..;/b"} {
		f.Add(s, "/x")
	}
	f.Fuzz(func(t *testing.T, text, path string) {
		e, bad := parseURL(text)
		if bad != nil || e.path == "" || !strings.HasPrefix(path, "/") {
			return
		}
		again, bad := parseURL(e.String())
		if bad == nil && again.name != e.name {
			t.Fatalf("%q has the host %q, and then %q", text, e.name, again.name)
		}
		s := &set{}
		s.urls.unseen = doubt
		if !s.add(e) {
			t.Fatal("full")
		}
		s.seal()
		if !s.covers(e) {
			t.Fatalf("%q: the set lacks %q", text, e)
		}
		// Whatever is sent, a match for sure is one in the plain form.
		r := get(e.name, path)
		if plain, ok := plainPath(r.Path); s.urls.match(&r) == yes && (!ok || !strings.HasPrefix(strings.TrimSuffix(plain+"?"+r.Query, "?"), e.path[:min(len(e.path), len(plain))])) {
			t.Fatalf("%q holds for %q", e, path)
		}
	})
}
