package main

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/corazawaf/coraza-coreruleset/v4/tests"
	"github.com/goccy/go-yaml"
)

var (
	crsAll    = flag.Bool("crs.all", false, "play all regression tests of the Core Rule Set, not each twentieth")
	crsUpdate = flag.Bool("crs.update", false, "write what does not pass to testdata/crs.txt")
)

const (
	crsFailing = "testdata/crs.txt"
	// crsSetup is what the tests presume beyond the paranoia level, as the comments
	// of the rule set's own test set-up say.
	crsSetup = `SecAction "id:900,phase:1,nolog,pass,t:none,\
setvar:tx.crs_validate_utf8_encoding=1,setvar:tx.arg_name_length=100,setvar:tx.arg_length=400,\
setvar:tx.total_arg_length=64000,setvar:tx.max_num_args=255,setvar:tx.max_file_size=64100,setvar:tx.combined_file_sizes=65535,\
setvar:'tx.restricted_headers_basic=/content-encoding/ /proxy/ /lock-token/ /content-range/ /if/ /x-http-method-override/ /x-http-method/ /x-method-override/ /x-middleware-subrequest/ /expect/'"
`
)

// crsFile is one file of the regression tests, in the format of go-ftw.
type crsFile struct {
	RuleID int `yaml:"rule_id"`
	Tests  []struct {
		ID     int `yaml:"test_id"`
		Stages []struct {
			Input  crsInput  `yaml:"input"`
			Output crsOutput `yaml:"output"`
		} `yaml:"stages"`
	} `yaml:"tests"`
}

type crsInput struct {
	Method, URI, Data *string
	Version           *string
	Headers           yaml.MapSlice
	Encoded           string `yaml:"encoded_request"`
	Complete          *bool  `yaml:"autocomplete_headers"`
}

type crsOutput struct {
	Status      int
	ExpectError bool `yaml:"expect_error"`
	Log         struct {
		Expect   []int  `yaml:"expect_ids"`
		Unwanted []int  `yaml:"no_expect_ids"`
		Match    string `yaml:"match_regex"`
		NoMatch  string `yaml:"no_match_regex"`
	}
}

// crsCase is one request and what should come of it.
type crsCase struct {
	name string // "942100-1", and "-2" for a second stage's
	raw  string
	want crsOutput
	from string // an address of its own, by which the log tells it
	got  crsRecord
	code string // the status that came; "" for none
}

type crsRecord struct {
	From  string `json:"client"`
	Verb  string `json:"waf"`
	Rules []int  `json:"waf_rules"`
	Score int    `json:"waf_score"`
}

func crsCases(t *testing.T) (cases []*crsCase) {
	t.Helper()
	err := fs.WalkDir(tests.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".yaml" {
			return err
		}
		text, err := fs.ReadFile(tests.FS, name)
		if err != nil {
			return err
		}
		var f crsFile
		if err := yaml.Unmarshal(text, &f); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, test := range f.Tests {
			for i, stage := range test.Stages {
				c := &crsCase{name: fmt.Sprintf("%d-%d", f.RuleID, test.ID), want: stage.Output}
				if i > 0 {
					c.name += "-" + strconv.Itoa(i+1)
				}
				if c.raw, err = stage.Input.request(); err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
				cases = append(cases, c)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

// crsRepeat is the one template in the tests' data.
var crsRepeat = regexp.MustCompile(`\{\{ *"([^"]*)" *\| *repeat *([0-9]+) *\}\}`)

func or(s *string, missing string) string {
	if s == nil {
		return missing
	}
	return *s
}

// request is what goes over the wire, by the rules of go-ftw for leaving
// things out.
func (in crsInput) request() (string, error) {
	if in.Encoded != "" {
		raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(in.Encoded), ""))
		return string(raw), err
	}
	method := or(in.Method, "GET")
	data := crsRepeat.ReplaceAllStringFunc(or(in.Data, ""), func(s string) string {
		m := crsRepeat.FindStringSubmatch(s)
		n, _ := strconv.Atoi(m[2])
		return strings.Repeat(m[1], n)
	})
	complete := in.Complete == nil || *in.Complete
	var head strings.Builder
	fmt.Fprintf(&head, "%s %s %s\r\n", method, or(in.URI, "/"), or(in.Version, "HTTP/1.1"))
	fields := map[string]string{}
	for _, f := range in.Headers {
		fields[strings.ToLower(fmt.Sprint(f.Key))] = fmt.Sprint(f.Value)
		fmt.Fprintf(&head, "%v: %v\r\n", f.Key, f.Value)
	}
	add := func(name, value string) {
		if _, there := fields[strings.ToLower(name)]; !there {
			fields[strings.ToLower(name)] = value
			fmt.Fprintf(&head, "%s: %s\r\n", name, value)
		}
	}
	if data != "" && complete {
		add("Content-Type", "application/x-www-form-urlencoded")
		if plain, err := url.QueryUnescape(data); fields["content-type"] == "application/x-www-form-urlencoded" && err == nil && plain == data {
			data = escapeForm(data)
		}
	}
	if strings.HasPrefix(fields["content-type"], "multipart/form-data;") {
		data = strings.ReplaceAll(data, "\n", "\r\n")
	}
	if complete {
		add("Connection", "close")
		if data != "" || slices.Contains([]string{"POST", "PUT", "PATCH", "DELETE"}, method) {
			add("Content-Length", strconv.Itoa(len(data)))
		}
	}
	return head.String() + "\r\n" + data, nil
}

func escapeForm(data string) string {
	pairs := strings.Split(data, "&")
	for i, p := range pairs {
		name, value, valued := strings.Cut(p, "=")
		pairs[i] = url.QueryEscape(name)
		if valued {
			pairs[i] += "=" + url.QueryEscape(value)
		}
	}
	return strings.Join(pairs, "&")
}

// play sends the request as it is.
func (c *crsCase) play(addr string) error {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.from)}}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, c.raw) // it may be refused before all of it is there
	_ = conn.(*net.TCPConn).CloseWrite()
	reply, _ := io.ReadAll(conn) // which is reset then
	for code := range strings.FieldsSeq(statuses(string(reply[:min(len(reply), 4096)]))) {
		if c.code = code; code != "100" {
			break
		}
	}
	return nil
}

// refused reports whether the request never came to the rules.
func (c *crsCase) refused() bool {
	return c.code == "" || c.got.Verb == "" && c.code != "200" && c.code != "403" && c.code != "413"
}

// failure says what is wrong with what came of the case, "" for nothing. A
// request that the framing refuses is stopped before the rules: right where the
// case expects that rules match, or 400, and wrong where it expects that they do
// not.
func (c *crsCase) failure() string {
	log, refused := c.want.Log, c.refused()
	switch {
	case refused && (len(log.Expect) > 0 || c.want.Status == 400 || c.want.ExpectError || log.Match != ""):
		return ""
	case refused:
		return "refused by the framing with " + c.code
	}
	had := func(id int) bool { return slices.Contains(c.got.Rules, id) || id == 949110 && c.got.Verb == "block" }
	for _, id := range log.Expect {
		if !had(id) {
			return fmt.Sprintf("rule %d did not match", id)
		}
	}
	for _, id := range log.Unwanted {
		if had(id) {
			return fmt.Sprintf("rule %d matched", id)
		}
	}
	if c.want.Status == 400 {
		return "answered " + c.code + " instead of 400"
	}
	return ""
}

func TestTheCoreRuleSetsRegressionTestsAtParanoiaLevel4(t *testing.T) {
	cases := crsCases(t)
	if len(cases) < 4000 {
		t.Fatalf("only %d cases", len(cases))
	}
	if !*crsAll {
		var some []*crsCase
		for i := 0; i < len(cases); i += 20 {
			some = append(some, cases[i])
		}
		cases = some
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "setup.conf"), []byte(crsSetup), 0o600); err != nil {
		t.Fatal(err)
	}
	w := startGuarded(t, dir, "block", `paranoia = 4
methods = ["GET", "HEAD", "POST", "OPTIONS"]
content_types = ["application/x-www-form-urlencoded", "multipart/form-data", "text/xml", "application/xml", "application/soap+xml", "application/json"]
rules_file = "setup.conf"
`)
	playCRS(t, w, cases)
	failed, refused, blocked, attacks := map[string]string{}, 0, 0, 0
	for _, c := range cases {
		if why := c.failure(); why != "" {
			failed[c.name] = why
		}
		if c.refused() {
			refused++
		}
		if len(c.want.Log.Expect) > 0 {
			attacks++
			if c.code != "200" {
				blocked++
			}
		}
	}
	t.Logf("%d of %d cases pass (%.2f %%); %d never came to the rules, since the framing refused them; of %d that should match a rule %d were blocked",
		len(cases)-len(failed), len(cases), 100*float64(len(cases)-len(failed))/float64(len(cases)), refused, attacks, blocked)
	compareCRS(t, cases, failed)
}

// playCRS plays the cases and gives each its log record.
func playCRS(t *testing.T, w *wire, cases []*crsCase) {
	t.Helper()
	queue := make(chan *crsCase)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for c := range queue {
				if err := c.play(w.addr); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i, c := range cases {
		c.from = fmt.Sprintf("127.9.%d.%d", i/200, i%200+1)
		queue <- c
	}
	close(queue)
	wg.Wait()
	byClient := map[string]crsRecord{}
	for line := range strings.Lines(w.logText(t, len(cases))) {
		var r crsRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if _, had := byClient[r.From]; !had { // what follows on the connection is no case
			byClient[r.From] = r
		}
	}
	for _, c := range cases {
		c.got = byClient[c.from]
	}
}

// compareCRS holds the failures against the list of the known ones.
func compareCRS(t *testing.T, cases []*crsCase, failed map[string]string) {
	t.Helper()
	if *crsUpdate {
		var b strings.Builder
		b.WriteString("# Regression tests of the Core Rule Set that do not pass, and what came instead.\n# docs/decisions/0018-web-application-firewall.md says why.\n")
		for _, name := range slices.Sorted(maps.Keys(failed)) {
			fmt.Fprintf(&b, "%s %s\n", name, failed[name])
		}
		if err := os.WriteFile(crsFailing, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(crsFailing)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, why, _ := strings.Cut(strings.TrimSpace(line), " ")
		known[name] = why
	}
	for _, c := range cases {
		if failed[c.name] != known[c.name] {
			t.Errorf("%s: %q, and %s has %q: it got %s and rules %v, score %d\n%.600s", c.name, failed[c.name], crsFailing, known[c.name], c.code, c.got.Rules, c.got.Score, c.raw)
		}
	}
}

// startGuarded runs the proxy with one site whose firewall is in the mode, before an origin that
// answers 200. dir is the policy's folder, table more of [reverse.waf].
func startGuarded(t testing.TB, dir, mode, table string) *wire {
	t.Helper()
	o := newByteOrigin(t, fine)
	file := filepath.Join(dir, "policy.toml")
	text := `
[reverse]
listen = ["127.0.0.1:0"]
[[reverse.site]]
name = "app"
hosts = ["*"]
pool = "app"
waf = "` + mode + `"
[reverse.waf]
` + table + `
[[pool]]
name = "app"
peers = ["` + o.addr + `"]
[acl]
default = "allow"
[limits]
half_close_timeout = "1m" # of clients that have sent all that they will
[admin]
listen = ""
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := loadPolicy(file)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{log: &syncBuffer{}, origin: o}
	s, err := start(modeReverse, p, nil, w.log, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.front.Close(); s.access.Close() })
	w.addr = s.doors.addrs()[0].String()
	return w
}
