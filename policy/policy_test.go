package policy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEachMistakeIsReportedWithKeyLineAndHint(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown section", "[forwrad]\n", `line 1: forwrad: unknown key "forwrad" (did you mean "forward"?)`},
		{"unknown key in a rule", "[[acl.rule]]\naction = \"allow\"\n[[acl.rule]]\nname = \"b\"\nactoin = \"deny\"\n", `line 5: acl.rule[1].actoin: unknown key "actoin" (did you mean "action"?)`},
		{"a key that is no misspelling", "[log]\nxyzzy = 1\n", `known here: access, format`},
		{"a number for a text", "name = 5\n", "line 1: name: the value is of the wrong type (this is a string in quotes)"},
		{"a text for a list", "[forward]\nlisten = \"x\"\n", "line 2: forward.listen: the value is of the wrong type (this is a list in brackets; each entry is a string in quotes)"},
		{"a table for an array of tables", "[acl]\n[acl.rule]\nname = \"x\"\n", "acl.rule: the value is of the wrong type (this is an array of tables, as in [[acl.rule]])"},
		{"a value for a table", "acl = 1\n", "line 1: acl: the value is of the wrong type (this is a table)"},
		{"a value for a map", "[upstream]\nhosts = 5\n", "line 2: upstream.hosts: the value is of the wrong type"},
		{"a value for a table of tables", "[acl]\nlists = 5\n", "line 2: acl.lists: the value is of the wrong type"},
		{"a value in a table of tables", "[acl]\nlists = { a = 5 }\n", "line 2: acl.lists: the value is of the wrong type"},
		{"a value in an array of tables", "[acl]\nrule = [5]\n", "line 2: acl.rule: the value is of the wrong type"},
		{"a mistake in an inline table", "[acl]\nlists = { a = { domians = [] } }\n", `line 2: acl.lists.a.domians: unknown key "domians" (did you mean "domains"?)`},
		{"no TOML at all", "name = \n", "line 1: this is not TOML"},
		{"a key twice", "name = \"a\"\nname = \"b\"\n", "line 2: this is not TOML"},
		{"a pseudonym that Via cannot hold", "name = \"my proxy\"\n", `line 1: name: "my proxy" cannot stand in a Via field`},
		{"one address for two", "[forward]\nlisten = [\"127.0.0.1:3130\"]\n", "line 2: forward.listen[0]: \"127.0.0.1:3130\" is listened on already"},
		{"a listener without a port", "[forward]\nlisten = [\"127.0.0.1\"]\n", "line 2: forward.listen[0]: \"127.0.0.1\" has no port"},
		{"a pool that does not exist", "[[reverse.site]]\nhosts = [\"*\"]\npool = \"app\"\n", `line 3: reverse.site[0].pool: there is no pool called "app"`},
		{"a switched-off limit", "[limits]\nheader_timeout = \"0s\"\n", "line 2: limits.header_timeout: a limit of zero would let a client hold a connection for ever"},
		{"an object that no memory holds", "[cache]\nmemory = \"8MiB\"\n", "cache.max_object: "},
		{"a list that is not there", "[acl.lists.a]\nfiles = [\"gone.txt\"]\n", "line 2: acl.lists.a.files[0]: list file can not be opened"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(write(t, t.TempDir(), "policy.toml", tt.text), "")
			var bad *Error
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestAValueThatCannotBeReadIsReportedOnce(t *testing.T) {
	_, err := Load(write(t, t.TempDir(), "policy.toml", "[cache]\nmemory = 1\n[forward]\nlisten = 1\n"), "")
	var bad *Error
	if !errors.As(err, &bad) || len(bad.Problems) != 2 {
		t.Errorf("got %v, want two problems", err)
	}
}

func TestPathsAreSeenFromThePolicyFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "list.txt", "a.test\n")
	file := write(t, dir, "policy.toml", "[acl.lists.a]\nfiles = [\"list.txt\"]\n[log]\naccess = \"access.log\"\n")
	p, err := Load(file, "")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "list.txt"); len(p.Lists) != 1 || p.Lists[0] != want {
		t.Errorf("lists %q, want %q", p.Lists, want)
	}
	if want := filepath.Join(dir, "access.log"); p.Config.Log.Access != want {
		t.Errorf("log %q, want %q", p.Config.Log.Access, want)
	}
}

func TestTheDigestCoversTheListsAndStaysTheSameOtherwise(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.txt", "a.test\n")
	write(t, dir, "b.txt", "b.test\n")
	file := write(t, dir, "policy.toml", "[acl.lists.b]\nfiles = [\"b.txt\"]\n[acl.lists.a]\nfiles = [\"a.txt\"]\n")
	digest := func() string {
		p, err := Load(file, "")
		if err != nil {
			t.Fatal(err)
		}
		return p.Digest
	}
	first := digest()
	for range 20 {
		if d := digest(); d != first {
			t.Fatal("two loads of the same files give two digests")
		}
	}
	write(t, dir, "b.txt", "c.test\n")
	if digest() == first {
		t.Error("another list gives the same digest")
	}
}

// A writer that empties the file first, as an editor or a shell's redirection
// does, must never have the empty or the half-written policy applied.
func TestAReloadNeverReadsAFileThatIsBeingWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := write(t, t.TempDir(), "policy.toml", "name = \"old\"\n")
		p, err := Load(file, "")
		if err != nil {
			t.Fatal(err)
		}
		w, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		result := make(chan *Policy)
		go func() {
			next, _ := p.Reload("")
			result <- next
		}()
		for _, piece := range strings.SplitAfter("name = \"new\"\n[forward]\nlisten = [\"127.0.0.1:0\"]\n[acl]\n", "\n") {
			time.Sleep(atRest * 2 / 3) // the writer's own pace; the bubble's clock waits for nobody
			if _, err := w.WriteString(piece); err != nil {
				t.Fatal(err)
			}
		}
		if next := <-result; next == nil || next.Config.Name != "new" || next.Config.Forward.Listen[0] != "127.0.0.1:0" {
			t.Errorf("a part of the file was taken for the whole: %+v", next)
		}
	})
}

func TestAFileOfCommentsAloneIsNoPolicy(t *testing.T) {
	for _, text := range []string{"", "\n \n", "# name = \"x\"\n"} {
		if _, err := Load(write(t, t.TempDir(), "policy.toml", text), ""); err == nil {
			t.Errorf("%q loads", text)
		}
	}
}

func TestAnEmptyPolicyDeniesEverything(t *testing.T) {
	p, err := Load("", "")
	if err != nil {
		t.Fatal(err)
	}
	if d := p.ACL.Default().String(); d != "deny" || len(p.ACL.Rules()) != 1 {
		t.Errorf("default %s with %d rules", d, len(p.ACL.Rules()))
	}
}

func FuzzLinesAndDecodeNeverPanic(f *testing.F) {
	f.Add("[a]\nb = [\n1, # x\n]\n[[c.d]]\ne = \"\"\"x\n[y]\n\"\"\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		indexLines(text)
		c := DefaultConfig()
		decode(text, &c)
	})
}
