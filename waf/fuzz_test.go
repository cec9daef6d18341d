package waf

import "testing"

// FuzzExclusion holds that no exclusion can be more than one: what Validate
// takes makes one rule, whatever stands in it.
func FuzzExclusion(f *testing.F) {
	f.Add("/editor", "attack-sqli", "json.text", "GET", "application/json")
	f.Add("/a%20b/$&()*+=:@!", "OWASP_CRS/ATTACK", "cookie:a[b]", "M-SEARCH", "application/vnd.api+json")
	f.Add(`/x" "id:1,phase:1,ctl:ruleEngine=Off`, "a,ctl:ruleEngine=Off", "a;b,ctl:ruleEngine=Off", "A'", "a/b'")
	f.Add("/(", "-", "$*", "GET%{x}", "a/b|c")
	base := DefaultConfig()
	plain, problems := Compile(base, "", []string{"a"}, nil)
	if len(problems) > 0 {
		f.Fatal(problems)
	}
	f.Fuzz(func(t *testing.T, path, tag, parameter, method, kind string) {
		c := base
		c.Methods, c.ContentTypes = append(base.Methods[:1:1], method), append(base.ContentTypes[:1:1], kind)
		c.Excludes = []ExcludeConfig{{Path: path, Tags: []string{tag}, Parameters: []string{parameter}}}
		if len(c.Validate([]string{"a"})) > 0 {
			t.Skip()
		}
		got, err := compile(c, c.excluding("a"), "")
		if err != nil {
			t.Fatal(err)
		}
		if want := len(plain.For("a").ids) + 1; len(got.ids) != want {
			t.Errorf("%d rules, want %d", len(got.ids), want)
		}
	})
}
