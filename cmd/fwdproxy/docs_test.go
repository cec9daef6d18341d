package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fwdproxy"
	"fwdproxy/policy"
)

// codeBlocks returns the blocks of a language in a Markdown page.
func codeBlocks(t *testing.T, page, language string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllSubmatch(text, -1) {
		blocks = append(blocks, string(m[1]))
	}
	return blocks
}

func TestThePoliciesInTheREADMELoad(t *testing.T) {
	blocks := codeBlocks(t, "../../README.md", "toml")
	if len(blocks) < 2 {
		t.Fatalf("the README has %d policies", len(blocks))
	}
	for i, text := range blocks {
		file := filepath.Join(t.TempDir(), "policy.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := policy.Load(file, ""); err != nil {
			t.Errorf("policy %d of the README: %v", i+1, err)
		} else if len(p.Warnings) > 0 {
			t.Errorf("policy %d of the README: %v", i+1, p.Warnings)
		}
	}
}

func TestTheDefaultPolicyLoadsAndAllowsThisMachineAlone(t *testing.T) {
	p, err := policy.Load("", fwdproxy.DefaultPolicy)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Warnings) > 0 {
		t.Error(p.Warnings)
	}
	for from, want := range map[string]string{"127.0.0.1": "allow", "::1": "allow", "192.0.2.1": "deny", "10.0.0.1": "deny"} {
		ex, err := explainOffline(p, modeForward, map[string][]string{"url": {"host.test:443"}, "method": {"CONNECT"}, "from": {from}})
		if err != nil || ex.Verdict != want {
			t.Errorf("from %s: %s, %v; want %s", from, ex.Verdict, err, want)
		}
	}
}

func TestTheREADMEBeginsWithCommandsThatExist(t *testing.T) {
	commands := codeBlocks(t, "../../README.md", "sh")[0]
	if !strings.Contains(commands, "go run ./cmd/fwdproxy ") || !strings.Contains(commands, "make test ") {
		t.Errorf("the README's first commands are:\n%s", commands)
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^test:`).Match(makefile) {
		t.Error("the Makefile has no test target")
	}
}

func TestTheREADMEListsEveryCommand(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `fwdproxy \\[?(\\w+)").FindAllSubmatch(readme, -1) {
		listed[string(m[1])] = true
	}
	for _, c := range rootCommand().Commands() {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if !listed[c.Name()] {
			t.Errorf("the README does not list fwdproxy %s", c.Name())
		}
		delete(listed, c.Name())
	}
	for name := range listed {
		t.Errorf("the README lists fwdproxy %s, which does not exist", name)
	}
}
