package policy

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPathsAreSeenFromThePolicysFolder(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"ca.pem", "secret", "list.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("a.test\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := Load(write(t, dir, "policy.toml", `[acl.lists.l]
files = ["list.txt"]
[cache.disk]
dir = "cache"
[upstream]
ca_file = "ca.pem"
[[upstream.parent]]
url = "http://127.0.0.1:1"
user = "x"
password_file = "secret"
[log]
access = "access.log"
`), "")
	if err != nil {
		t.Fatal(err)
	}
	c := p.Config
	for got, want := range map[string]string{
		c.ACL.Lists["l"].Files[0]: "list.txt", c.Cache.Disk.Dir: "cache", c.Upstream.CAFile: "ca.pem",
		c.Upstream.Parents[0].PasswordFile: "secret", c.Log.Access: "access.log",
	} {
		if got != filepath.Join(dir, want) {
			t.Errorf("%s is taken for %s", want, got)
		}
	}
}
