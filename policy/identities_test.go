package policy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// aHash is of "x", at the lowest cost.
const aHash = "$2a$04$abcdefghijklmnopqrstuuq/3VoQ4OGQVoAWsm/0HZzCSVpXIRWdq"

const who = `[forward.auth]
htpasswd = "users"
groups = "groups"
[[acl.rule]]
from = ["group:sales", "user:ann"]
action = "allow"
`

// place is a folder with a policy.
type place struct {
	t   *testing.T
	dir string
}

func (p place) write(name, text string) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

func (p place) problems() string {
	p.t.Helper()
	_, err := Load(filepath.Join(p.dir, "policy.toml"), "")
	var bad *Error
	if !errors.As(err, &bad) {
		p.t.Fatalf("no problems, but %v", err)
	}
	return strings.ReplaceAll(bad.Error(), p.dir+"/", "")
}

func TestTheFilesOfWhoMayLogInAreAPartOfThePolicy(t *testing.T) {
	p := place{t, t.TempDir()}
	file := p.write("policy.toml", who)
	users, groups := p.write("users", "ann:"+aHash+"\n"), p.write("groups", "sales: ann\n")
	first, err := Load(file, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(first.Files(), " "); got != strings.Join([]string{file, users, groups}, " ") {
		t.Errorf("its files are %s", got)
	}
	if len(first.Warnings) > 0 || !first.Auth.Knows("ann") {
		t.Errorf("%v", first.Warnings)
	}
	if same, err := Load(file, ""); err != nil || same.Digest != first.Digest {
		t.Errorf("it differs from itself: %v", err)
	}
	p.write("groups", "sales: ann\nidle:\n")
	second, err := Load(file, "")
	if err != nil || second.Digest == first.Digest {
		t.Errorf("a changed group is no change: %v", err)
	}

	// Whoever takes a user away must get that applied, whatever rules say.
	p.write("users", "bob:"+aHash+"\n")
	third, err := Load(file, "")
	if err != nil {
		t.Fatal(err)
	}
	want := `line 3: forward.auth.groups: "ann" is in a group, and in no other file of [forward.auth] (add the user, or take the name out of the group)
line 5: acl.rule[0].from[1]: there is no user "ann" in the files of [forward.auth] (add the user, or take the name out of the rule)`
	var got []string
	for _, w := range third.Warnings {
		got = append(got, w.String())
	}
	if strings.Join(got, "\n") != want {
		t.Errorf("warnings:\n%s\nwant:\n%s", strings.Join(got, "\n"), want)
	}
}

func TestWhatIsWrongWithThoseFilesIsReportedAtOnce(t *testing.T) {
	p := place{t, t.TempDir()}
	p.write("policy.toml", who)
	same := func(want string) {
		t.Helper()
		if got := p.problems(); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	}
	same(`policy.toml: line 2: forward.auth.htpasswd: the file can not be opened: open users: no such file or directory (make it readable for fwdproxy)
policy.toml: line 3: forward.auth.groups: the file can not be opened: open groups: no such file or directory (make it readable for fwdproxy)`)
	p.write("users", "ann:secret\n")
	p.write("groups", "sale: ann\nodd\n")
	same(`policy.toml: line 2: forward.auth.htpasswd: users:1: what follows the colon is no bcrypt hash (write the line anew with "fwdproxy passwd FILE NAME" or "htpasswd -B")
policy.toml: line 3: forward.auth.groups: groups:2: there is no colon behind the group's name (write "sales: ann bob")`)
	p.write("users", "ann:"+aHash+"\n")
	p.write("groups", "sale: ann\n")
	same(`policy.toml: line 5: acl.rule[0].from[0]: there is no group "sales" (did you mean "group:sale"?)`)
	p.write("groups", "others: ann\n")
	same(`policy.toml: line 5: acl.rule[0].from[0]: there is no group "sales" (write the group into the file of forward.auth.groups, be it empty as "sales:")`)
	p.write("policy.toml", strings.ReplaceAll(who, "htpasswd", "#"))
	same(`policy.toml: line 3: forward.auth.groups: nobody can say who they are, and so nobody is in a group (set "htpasswd", "tokens" or forward.tls.client_ca as well)
policy.toml: line 5: acl.rule[0].from[0]: nobody can say who they are without [forward.auth] or client certificates (set forward.auth.htpasswd, forward.auth.tokens or forward.tls.client_ca)
policy.toml: line 5: acl.rule[0].from[1]: nobody can say who they are without [forward.auth] or client certificates (set forward.auth.htpasswd, forward.auth.tokens or forward.tls.client_ca)`)
}
