package accesslog

import (
	"strings"
	"testing"
)

func TestALogThatWasSurelyNotMeantIsAProblem(t *testing.T) {
	for _, c := range []struct {
		config    Config
		key, want string
	}{
		{DefaultConfig(), "", ""},
		{Config{"stderr", "squid"}, "", ""},
		{Config{"none", "combined"}, "", ""},
		{Config{"/var/log/fwdproxy/access.log", "json"}, "", ""},
		{Config{"", "json"}, "log.access", "no place"},
		{Config{" ", "json"}, "log.access", "no place"},
		{Config{"Stdout", "json"}, "log.access", "would be a file"},
		{Config{"logs/", "json"}, "log.access", "is a folder"},
		{Config{"stdout", ""}, "log.format", "no format"},
		{Config{"stdout", "JSON"}, "log.format", "no format"},
	} {
		p := c.config.Validate()
		switch {
		case c.want == "" && len(p) != 0:
			t.Errorf("%+v: %v", c.config, p)
		case c.want != "" && (len(p) != 1 || p[0].Key != c.key || p[0].Hint == "" || !strings.Contains(p[0].Message, c.want)):
			t.Errorf("%+v: %v, want one problem of %s with a hint and %q", c.config, p, c.key, c.want)
		}
	}
}
