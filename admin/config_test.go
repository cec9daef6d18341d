package admin

import (
	"strings"
	"testing"
)

func TestTheAdminPortStaysOnLoopbackWhileItHasNoAuthentication(t *testing.T) {
	for listen, want := range map[string]string{
		"":                       "",
		"127.0.0.1:3130":         "",
		"127.8.9.1:0":            "",
		"[::1]:3130":             "",
		"[::ffff:127.0.0.1]:1":   "",
		":3130":                  "reached by others",
		"0.0.0.0:3130":           "reached by others",
		"[::]:3130":              "reached by others",
		"10.0.0.1:3130":          "reached by others",
		"[::ffff:10.0.0.1]:3130": "reached by others",
		"localhost:3130":         "IP address",
		"127.0.0.1":              "not address:port",
		"127.0.0.1:":             "no number",
		"127.0.0.1:http":         "no number",
		"127.0.0.1:65536":        "no number",
		"127.0.0.1:+80":          "no number",
	} {
		p := Config{Listen: listen}.Validate()
		switch {
		case want == "" && len(p) != 0:
			t.Errorf("%q: %v", listen, p)
		case want != "" && (len(p) != 1 || !strings.Contains(p[0].Message, want) || p[0].Key != "admin.listen" || p[0].Hint == ""):
			t.Errorf("%q: %v, want one problem of admin.listen with a hint and %q", listen, p, want)
		}
	}
}

func TestTheDefaultIsValid(t *testing.T) {
	if p := DefaultConfig().Validate(); len(p) != 0 {
		t.Error(p)
	}
}
