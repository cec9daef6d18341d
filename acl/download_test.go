package acl

import (
	"io"
	"testing"
	"time"

	"fwdproxy/internal/unit"
)

// copies opens what was downloaded; everything else was not.
func copies(f files) func(string) (io.ReadCloser, error) {
	return func(url string) (io.ReadCloser, error) {
		if _, ok := f[url]; !ok {
			return nil, ErrNotDownloaded
		}
		return f.open(url)
	}
}

func TestAListThatWasNotDownloadedCountsAgainstEveryRequest(t *testing.T) {
	for _, action := range []string{"allow", "deny"} {
		for name, r := range map[string]RuleConfig{
			"to": {To: []string{"list:l"}}, "not_to": {NotTo: []string{"list:l"}}, "from": {From: []string{"list:l"}}, "not_from": {NotFrom: []string{"list:l"}},
		} {
			r.Action = action
			c := Config{Default: map[string]string{"allow": "deny", "deny": "allow"}[action], DownloadDir: "d", Rules: []RuleConfig{r},
				Lists: map[string]ListConfig{"l": {Addresses: []string{"192.0.2.1"}, Download: []string{"http://a.test/l", "http://a.test/m"}}}}
			e, problems := Compile(c, copies(files{"http://a.test/m": "b.test\n"}))
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			if v := e.Decide(at(ask("10.0.0.1", "c.test"), "198.51.100.1")); v.Action != Deny {
				t.Errorf("%s, %s: %+v", action, name, v)
			}
			if d := e.Downloads(); len(d) != 2 || !d[0].Missing || d[1].Missing || d[0].Refresh != 24*time.Hour || len(e.Warnings()) == 0 {
				t.Errorf("%+v, %v", d, e.Warnings())
			}
		}
	}
}

func TestADownloadIsReadAsAFileWithItsMalformedLinesLeftOut(t *testing.T) {
	c := Config{Default: "allow", DownloadDir: "d", Lists: map[string]ListConfig{"l": {Download: []string{"https://a.test/l"}, Refresh: unit.Duration(time.Hour)}}}
	e, problems := Compile(c, copies(files{"https://a.test/l": "a.test\n0.0.0.0 b.test\n||c.test^\nhttp://d.test/x\nd.test:81/y\nnot a line\n||e.test^$popup\n"}))
	if len(problems) > 0 || e.Lists()[0] != (ListInfo{"l", 3, 0, 1, 3}) || e.Downloads()[0].Refresh != time.Hour {
		t.Fatalf("%v, %+v, %+v", problems, e.Lists(), e.Downloads())
	}
	same(t, lines(e.Warnings()), `acl.lists.l.download[0]: https://a.test/l: 2 lines are left out, the first is line 5: "d.test:81" has a port`+"\n")
}

func TestDownloadsNeedAURLAndAFolder(t *testing.T) {
	l := ListConfig{Download: []string{"", "ftp://a.test/", "lists/a.txt", "http://u:p@a.test/", "http://a.test/#x", "https://a.test/l"}, Refresh: -1}
	_, problems := Compile(Config{Lists: map[string]ListConfig{"l": l}}, copies(nil))
	golden(t, "downloads.golden", lines(problems))
}
