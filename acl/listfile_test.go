package acl

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// read returns what is in the set after reading a list file, and what else came of it.
func read(text string) (string, listResult) {
	s := &set{}
	out := readList(strings.NewReader(text), s, anyLines)
	s.seal()
	var got []string
	for at, name := range s.domains.all {
		for _, mark := range []byte{itself, below} {
			if s.domains.entry(at)[0]&mark != 0 {
				got = append(got, entry{name: string(name), below: mark == below}.String())
			}
		}
	}
	for _, p := range s.addresses.prefixes {
		got = append(got, entry{prefix: p}.String())
	}
	for _, at := range s.urls.at {
		text := string(s.urls.entry(at))
		host, path, _ := strings.Cut(text, "/")
		got = append(got, entry{name: host, path: "/" + path}.String())
	}
	slices.Sort(got)
	return strings.Join(got, " "), out
}

func TestListFilesComeInManyForms(t *testing.T) {
	for name, tt := range map[string]struct {
		text, want string
		skipped    int
	}{
		"plain":                       {"a.test\n.b.test\n10.0.0.1\n2001:db8::/32\n", ".b.test 10.0.0.1 2001:db8::/32 a.test", 0},
		"no newline at the end":       {"a.test\nb.test", "a.test b.test", 0},
		"CRLF":                        {"a.test\r\n\r\n# c\r\n0.0.0.0 b.test\r\n||c.test^\r\n", ".c.test a.test b.test", 0},
		"comments":                    {"# a\n! b\n  # c\n\na.test # why\nb.test\t#why\n#c.test\n||d.test^ # why\n0.0.0.0 e.test # f.test\n", ".d.test a.test b.test e.test", 0},
		"byte-order mark":             {"\ufeffa.test\n", "a.test", 0},
		"byte-order mark, comment":    {"\ufeff# list\na.test\n", "a.test", 0},
		"spaces around":               {"  a.test \n\tb.test\t\n", "a.test b.test", 0},
		"canonical form":              {"A.Test.\nbücher.example\n||Ünder.test^\n", ".xn--nder-zra.test a.test xn--bcher-kva.example", 0},
		"hosts file, each name alone": {"0.0.0.0 a.test\n127.0.0.1\tb.test  c.test # x\n::1 d.test\n:: e.test\n127.0.1.1 f.test\n", "a.test b.test c.test d.test e.test f.test", 0},
		"hosts file, standard names": {"127.0.0.1 localhost\n127.0.0.1 localhost.localdomain\n127.0.0.1 local\n255.255.255.255 broadcasthost\n::1 LOCALHOST\n" +
			"::1 ip6-localhost ip6-loopback\nfe80::1%lo0 localhost\nfe00::0 ip6-localnet\nff02::1 ip6-allnodes\n0.0.0.0 0.0.0.0\n0.0.0.0 a.test\n", "a.test", 0},
		"hosts file, an address": {"0.0.0.0 192.0.2.1\n", "192.0.2.1", 0},
		"Adblock":                {"||a.test^\n||192.0.2.1^\n", ".a.test 192.0.2.1", 0},
		"Adblock, skipped": {"||a.test^$third-party\n||b.test^$important\n||c.test/ads^\n||d.test\n||e*.test^\n||f.test^path\n@@||g.test^\n/ads/*\n|https://h.test|\n" +
			"i.test##.banner\n##.ad\nj.test,k.test#@#.x\nl.test#?#div\nm.test#$#body\n||n.test:8080^\n||o.test^\n", ".o.test", 14},
		"Adblock with its header": {"[Adblock Plus 2.0]\n! Title: x\n||a.test^\n&ad_box_\n-banner-ad.\n.com/ads/\n", "-banner-ad .a.test", 2},
		"URLs":                    {"a.test/x\nhttp://B.test/%61/../c?q#f\nhttps://c.test/\n192.0.2.1/x\n[2001:db8::1]/x\n", "192.0.2.1/x [2001:db8::1]/x a.test/x b.test/c?q c.test", 0},
		"empty on purpose":        {"# empty\n", "", 0},
	} {
		got, out := read(tt.text)
		if got != tt.want || out.skipped != tt.skipped || out.err != nil || len(out.malformed) > 0 {
			t.Errorf("%s: %q, %+v; want %q and %d skipped", name, got, out, tt.want, tt.skipped)
		}
	}
}

func TestAMalformedLineOfAListFileIsAProblemWithItsLine(t *testing.T) {
	bad := []string{"*.a.test", "ftp://b.test/x", "c.test:81/path", "d.test:443", "10.0.0.1/8", "e.test f.test", "192.168.1.5 nas.test",
		"0.0.0.0 g..test", "||h..test^", "*"}
	text := "ok.test\n" + strings.Join(bad, "\n") + "\nlist:x\nuser:y\n0.0.0.0 .z.test\nlast.test\n"
	c := Config{Lists: map[string]ListConfig{"l": {Files: []string{"f.txt"}}}}
	e, problems := Compile(c, files{"f.txt": text}.open)
	if e != nil {
		t.Error("there is an engine")
	}
	golden(t, "lines.golden", lines(problems))
}

func TestAnEmptyListFileIsAnErrorForItIsWhatAFailedDownloadLeaves(t *testing.T) {
	if out := readList(strings.NewReader(""), &set{}, anyLines); out.err == nil {
		t.Error("no error")
	}
}

func TestALineLongerThanAMegabyteIsAnError(t *testing.T) {
	c := Config{Lists: map[string]ListConfig{"l": {Files: []string{"f"}}}}
	_, problems := Compile(c, files{"f": "a.test\n" + strings.Repeat("x", maxLine+1) + "\nb.test\n"}.open)
	same(t, lines(problems), "acl.lists.l.files[0]: f:2: the line is longer than a megabyte\n")
}

func FuzzListLines(f *testing.F) {
	for _, s := range []string{"a.test", ".a # b", "0.0.0.0 a b", "||a.b^", "||a^$x", "@@||a^", "a##b", "!x", "#", "[Adblock", "1.2.3.4/5", "::1 x", "||.a^", "0.0.0.0 .a", "\x82"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		entries, kind, bad := parseLine(line)
		if name, below := commonLine([]byte(line)); name != nil && (len(entries) != 1 || entries[0] != entry{name: string(name), below: below}) {
			t.Fatalf("%q is %q, %v by the short way, and %v by the long one", line, name, below, entries)
		}
		if bad != nil && (len(entries) > 0 || kind != entryLine || bad.message == "") || kind != entryLine && len(entries) > 0 {
			t.Fatalf("%q: %v, %v, %v", line, entries, kind, bad)
		}
		s := &set{}
		for _, e := range entries {
			s.add(e)
		}
		s.seal()
		for _, e := range entries {
			again, _, bad := parseLine(e.String())
			if e.path == "" && (bad != nil || len(again) != 1 || again[0] != e) { // a path is shown decoded
				t.Fatalf("%q has %q, which is read as %v, %v", line, e, again, bad)
			}
			if !s.covers(e) {
				t.Fatalf("%q: the set lacks %q", line, e)
			}
		}
	})
}

func ExampleCompile_listFile() {
	c := Config{
		Default: "allow",
		Lists:   map[string]ListConfig{"ads": {Files: []string{"ads.txt"}}},
		Rules:   []RuleConfig{{Name: "no ads", To: []string{"list:ads"}, Action: "deny"}},
	}
	e, _ := Compile(c, files{"ads.txt": "||ads.test^\n"}.open)
	v := e.Decide(ask("10.0.0.1", "x.ads.test"))
	fmt.Println(v.Action, v.Rule, "-", v.Reason)
	// Output: deny no ads - the host name is in list:ads
}
