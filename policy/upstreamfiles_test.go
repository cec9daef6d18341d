package policy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheFilesOfUpstreamAreAPartOfThePolicy(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("policy.toml", `[[upstream.parent]]
url = "http://127.0.0.1:1"
user = "x"
password_file = "secret"
`)
	_, err := Load(file, "")
	var problems *Error
	if !errors.As(err, &problems) || len(problems.Problems) != 1 || problems.Problems[0].Key != "upstream.parent[0].password_file" || problems.Problems[0].Line != 4 {
		t.Fatalf("a missing file: %v", err)
	}
	secret := write("secret", "one")
	first, err := Load(file, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(first.Files(), " "); got != file+" "+secret {
		t.Errorf("its files are %s", got)
	}
	same, err := Load(file, "")
	if err != nil || same.Digest != first.Digest || same.UpstreamFiles != first.UpstreamFiles {
		t.Errorf("it differs from itself: %v", err)
	}
	write("secret", "two")
	second, err := Load(file, "")
	if err != nil || second.Digest == first.Digest || second.UpstreamFiles == first.UpstreamFiles {
		t.Errorf("a changed password is no change: %v", err)
	}
}
