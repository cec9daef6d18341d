package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"golang.org/x/crypto/bcrypt"
)

func passwd(in io.Reader, args ...string) (out, messages string, err error) {
	cmd := rootCommand()
	var stdout, stderr bytes.Buffer
	cmd.SetArgs(append([]string{"passwd"}, args...))
	cmd.SetIn(in)
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	err = cmd.Execute()
	return stdout.String(), stderr.String(), err
}

func TestPasswdReplacesTheFileAtOnceForItsOwnerAlone(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "users"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("# people\nbob:x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("users", link); err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if out, _, err := passwd(strings.NewReader(" s3cret \r\nmore"), link, "ann"); err != nil || out != "" {
		t.Fatal(out, err)
	}
	text, err := os.ReadFile(file)
	rest, ok := strings.CutPrefix(string(text), "# people\nbob:x\nann:")
	if err != nil || !ok || bcrypt.CompareHashAndPassword([]byte(strings.TrimSpace(rest)), []byte(" s3cret ")) != nil {
		t.Errorf("%q, %v", text, err)
	}
	if before, _ := io.ReadAll(open); string(before) != "# people\nbob:x" {
		t.Error("who reads the old file gets something else")
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Error("the link is gone")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".passwd-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPasswdChangesNothingWhenSomethingIsWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("bob:x\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		in   io.Reader
		args []string
	}{
		"no password":          {strings.NewReader(""), []string{file, "ann"}},
		"an empty line":        {strings.NewReader("\nsecret\n"), []string{file, "ann"}},
		"too long a password":  {strings.NewReader(strings.Repeat("x", 73)), []string{file, "ann"}},
		"a colon in the name":  {strings.NewReader("secret"), []string{file, "a:b"}},
		"a broken pipe":        {iotest.ErrReader(io.ErrClosedPipe), []string{file, "ann"}},
		"no user":              {strings.NewReader("secret"), []string{file}},
		"a token and a user":   {nil, []string{"--token", "ci", file, "ann"}},
		"a token for no name":  {nil, []string{"--token", "two words", file}},
		"a folder for a file":  {strings.NewReader("secret"), []string{filepath.Dir(file), "ann"}},
		"a folder that is not": {strings.NewReader("secret"), []string{filepath.Join(file, "x"), "ann"}},
	} {
		if out, _, err := passwd(c.in, c.args...); err == nil || out != "" {
			t.Errorf("%s: no error, %q", name, out)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "bob:x\n" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestATokenIsShownOnceAndItsLineToo(t *testing.T) {
	out, messages, err := passwd(nil, "--token", "ci")
	if err != nil || !strings.HasPrefix(out, "fwdp_") || strings.Count(out, "\n") != 1 || !strings.Contains(messages, "\nci ") {
		t.Errorf("%q, %q, %v", out, messages, err)
	}
	if strings.Contains(messages, strings.TrimSpace(out)) {
		t.Error("the token is shown twice")
	}
}

func TestPasswdByRootLeavesTheFileToItsOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, 65534, 65533); err != nil {
		t.Fatal(err)
	}
	if _, _, err := passwd(strings.NewReader("secret"), file, "ann"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 65534 || owner.Gid != 65533 {
		t.Errorf("it belongs to %d:%d", owner.Uid, owner.Gid)
	}
}
