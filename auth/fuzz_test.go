package auth

import (
	"strings"
	"testing"
)

// FuzzCredentials: what is accepted has one reading, which sends back the same.
func FuzzCredentials(f *testing.F) {
	for _, s := range []string{basic("ann", "secret"), basic("a", ":b:"), "Bearer " + robot, "basic  x", "Bearer =", "Basic YW5uOnNlY3JldB=="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, field string) {
		got, ok := parseCredentials([]string{field})
		switch {
		case !ok:
			if got.user != "" {
				t.Errorf("%q is refused, and yet is %q", field, got.user)
			}
		case got.bearer:
			if got.user != "" || got.secret == "" || strings.ContainsAny(got.secret, " \t\r\n,") {
				t.Errorf("%q: %+v", field, got)
			}
		case got.user == "" || strings.Contains(got.user, ":") || !isText(got.user+got.secret):
			t.Errorf("%q: %+v", field, got)
		default:
			again, ok := parseCredentials([]string{basic(got.user, got.secret)})
			if !ok || again != got {
				t.Errorf("%q: %+v, and sent again %+v", field, got, again)
			}
		}
	})
}

// FuzzHtpasswd: whoever is read can be verified, and no more lines are read
// than there are.
func FuzzHtpasswd(f *testing.F) {
	f.Add("ann:" + hash("x") + "\n#c\n\nbob:$apr1$x\n")
	f.Add("ann:$2y$99$" + strings.Repeat(".", 53))
	f.Fuzz(func(t *testing.T, text string) {
		d, problems := Load(Config{Htpasswd: "f"}, files{"f": text}.open)
		if (d == nil) != (len(problems) > 0) {
			t.Fatalf("%q: %v", text, problems)
		}
		if d == nil {
			return
		}
		if len(d.passwords) > strings.Count(text, "\n")+1 {
			t.Errorf("%q: %d users", text, len(d.passwords))
		}
		for name, h := range d.passwords {
			if checkName(name) != nil || checkHash(string(h)) != nil {
				t.Errorf("%q: %q has %q", text, name, h)
			}
		}
	})
}

// FuzzTokensAndGroups: what is read names somebody, and is what another reading
// of the same says.
func FuzzTokensAndGroups(f *testing.F) {
	f.Add("robot "+robotHash+"\n", "all: robot\nnone:\n")
	f.Add("x y z", "a:b:c")
	f.Fuzz(func(t *testing.T, tokens, groups string) {
		c := Config{Tokens: "t", Groups: "g"}
		d, problems := Load(c, files{"t": tokens, "g": groups}.open)
		if d == nil {
			if len(problems) == 0 {
				t.Error("refused without a word")
			}
			return
		}
		for _, name := range d.tokens {
			if checkName(name) != nil || !d.Knows(name) {
				t.Errorf("%q", name)
			}
		}
		for user, in := range d.groups {
			for _, g := range in {
				if checkName(user) != nil || checkName(g) != nil || !d.HasGroup(g) {
					t.Errorf("%q is in %q", user, g)
				}
			}
		}
		if again, _ := Load(c, files{"t": tokens, "g": groups}.open); again.Digest() != d.Digest() {
			t.Error("the digest differs from itself")
		}
	})
}
