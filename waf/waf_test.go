package waf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/problem"
)

// set compiles the rule sets of sites called a and b.
func set(t testing.TB, change func(*Config)) *Set {
	t.Helper()
	c := DefaultConfig()
	if change != nil {
		change(&c)
	}
	if problems := c.Validate([]string{"a", "b"}); len(problems) > 0 {
		t.Fatal(problems)
	}
	s, problems := Compile(c, "", []string{"a", "b"}, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return s
}

// look plays the rules of a site for a request.
func look(t testing.TB, f *Firewall, r *http.Request) Finding {
	t.Helper()
	found, _, err := f.Inspect(Request{Request: r, ID: "id", Body: r.Body, Block: true})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// ask is a browser's request; with a body it is a POST of the type.
func ask(target, kind, body string) *http.Request {
	r := httptest.NewRequest("GET", target, nil)
	if kind != "" {
		r = httptest.NewRequest("POST", target, strings.NewReader(body))
	}
	r.Header = browser().Header
	if kind != "" {
		r.Header.Set("Content-Type", kind)
		r.Header.Set("Content-Length", fmt.Sprint(len(body)))
	}
	return r
}

const (
	formType = "application/x-www-form-urlencoded"
	sqli     = "1' OR '1'='1' UNION SELECT password FROM users--"
)

var sqliQuery = strings.NewReplacer(" ", "+", "'", "%27", "=", "%3D").Replace(sqli)

func TestAnAttackIsFoundWhereverInTheRequestItIs(t *testing.T) {
	f := set(t, nil).For("a")
	head := func(name, value string) *http.Request {
		r := ask("/", "", "")
		r.Header.Set(name, value)
		return r
	}
	for name, c := range map[string]struct {
		r    *http.Request
		rule int
	}{
		"query":           {ask("/?id="+sqliQuery, "", ""), 942100},
		"form":            {ask("/", formType, "id="+sqliQuery), 942100},
		"JSON":            {ask("/", "application/json", `{"a":{"b":["`+sqli+`"]}}`), 942100},
		"JSON of a kind":  {ask("/", "application/problem+json", `{"a":"`+sqli+`"}`), 942100},
		"XML":             {ask("/", "text/xml", `<a><b>`+sqli+`</b></a>`), 942100},
		"cookie":          {head("Cookie", "id="+sqliQuery), 942100},
		"field":           {head("Referer", "http://x/<script>alert(1)</script>"), 941110},
		"path":            {ask("/..%2f..%2fetc/passwd", "", ""), 930100},
		"scanner":         {head("User-Agent", "sqlmap/1.8 (https://sqlmap.org)"), 913100},
		"shell":           {ask("/?a=%24%28cat+%2Fetc%2Fpasswd%29", "", ""), 932160},
		"method":          {httptest.NewRequest("TRACE", "/", nil), 911100},
		"name of a field": {ask("/?"+sqliQuery+"=1", "", ""), 942100},
	} {
		t.Run(name, func(t *testing.T) {
			got := look(t, f, c.r)
			if !got.Against || !slices.Contains(got.Rules, c.rule) || got.Score < 5 || got.Message == "" {
				t.Errorf("%+v, want rule %d", got, c.rule)
			}
		})
	}
}

func TestABodyThatCannotBeReadAsWhatItSaysItIsIsBlocked(t *testing.T) {
	f := set(t, nil).For("a")
	for name, r := range map[string]*http.Request{
		"JSON":             ask("/", "application/json", `{"a":`),
		"JSON of a kind":   ask("/", "application/vnd.api+json", `{"a":`),
		"multipart":        ask("/", "multipart/form-data; boundary=x", "--y\r\n\r\n"),
		"deep JSON":        ask("/", "application/json", strings.Repeat("[", 2000)+strings.Repeat("]", 2000)),
		"many parameters":  ask("/", formType, strings.Repeat("a=1&", 1100)),
		"many in the path": ask("/?"+strings.Repeat("a=1&", 1100), "", ""),
	} {
		if got := look(t, f, r); !got.Against || len(got.Rules) == 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestExclusionsHoldForTheirSitesAndPathsAndNothingElse(t *testing.T) {
	where := func(e ExcludeConfig) *Set { return set(t, func(c *Config) { c.Excludes = []ExcludeConfig{e} }) }
	attack := func(path string) *http.Request { return ask(path+"?text="+sqliQuery, "", "") }
	everything := []RuleRange{{920000, 949000 - 1}}
	for name, c := range map[string]struct {
		exclude ExcludeConfig
		site    string
		r       *http.Request
		against bool
	}{
		"a range":                   {ExcludeConfig{Rules: everything}, "a", attack("/"), false},
		"one rule of several":       {ExcludeConfig{Rules: []RuleRange{{942100, 942100}}}, "a", attack("/"), true},
		"a tag":                     {ExcludeConfig{Tags: []string{"attack-sqli"}}, "a", attack("/"), false},
		"another tag":               {ExcludeConfig{Tags: []string{"attack-xss"}}, "a", attack("/"), true},
		"the site":                  {ExcludeConfig{Sites: []string{"a"}, Rules: everything}, "a", attack("/"), false},
		"another site":              {ExcludeConfig{Sites: []string{"a"}, Rules: everything}, "b", attack("/"), true},
		"the path":                  {ExcludeConfig{Path: "/edit", Rules: everything}, "a", attack("/edit"), false},
		"below the path":            {ExcludeConfig{Path: "/edit", Rules: everything}, "a", attack("/edit/1"), false},
		"beside the path":           {ExcludeConfig{Path: "/edit", Rules: everything}, "a", attack("/editor"), true},
		"the path in the query":     {ExcludeConfig{Path: "/edit", Rules: everything}, "a", ask("/x?/edit/&text="+sqliQuery, "", ""), true},
		"a dot is a dot":            {ExcludeConfig{Path: "/a.b", Rules: everything}, "a", attack("/aXb"), true},
		"a path with a slash":       {ExcludeConfig{Path: "/edit/", Rules: everything}, "a", attack("/edit/1"), false},
		"the parameter":             {ExcludeConfig{Parameters: []string{"text"}}, "a", attack("/"), false},
		"the parameter in a form":   {ExcludeConfig{Parameters: []string{"text"}}, "a", ask("/", formType, "text="+sqliQuery), false},
		"another parameter":         {ExcludeConfig{Parameters: []string{"other"}}, "a", attack("/"), true},
		"for the rules alone":       {ExcludeConfig{Parameters: []string{"text"}, Tags: []string{"attack-sqli"}}, "a", attack("/"), false},
		"for other rules":           {ExcludeConfig{Parameters: []string{"text"}, Rules: []RuleRange{{941100, 941100}}}, "a", attack("/"), true},
		"a member of a JSON body":   {ExcludeConfig{Parameters: []string{"json.a.text"}}, "a", ask("/", "application/json", `{"a":{"text":"`+sqli+`"}}`), false},
		"another member":            {ExcludeConfig{Parameters: []string{"json.a.text"}}, "a", ask("/", "application/json", `{"b":{"text":"`+sqli+`"}}`), true},
		"a cookie":                  {ExcludeConfig{Parameters: []string{"cookie:prefs"}}, "a", withCookie("prefs=" + sqliQuery), false},
		"another cookie":            {ExcludeConfig{Parameters: []string{"cookie:prefs"}}, "a", withCookie("other=" + sqliQuery), true},
		"the body":                  {ExcludeConfig{SkipBody: true}, "a", ask("/", formType, "text="+sqliQuery), false},
		"the body, and not the URL": {ExcludeConfig{SkipBody: true}, "a", ask("/?text="+sqliQuery, formType, "a=b"), true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := look(t, where(c.exclude).For(c.site), c.r); got.Against != c.against {
				t.Errorf("%+v", got)
			}
		})
	}
}

func withCookie(value string) *http.Request {
	r := ask("/", "", "")
	r.Header.Set("Cookie", value)
	return r
}

func TestABodyIsReadAsFarAsItIsLookedAtAndNoFurther(t *testing.T) {
	const limit = 1 << 10
	refusing := set(t, func(c *Config) { c.BodyLimit = limit }).For("a")
	passing := set(t, func(c *Config) { c.BodyLimit, c.Larger = limit, passLarger }).For("a")
	for name, c := range map[string]struct {
		f        *Firewall
		size     int
		chunked  bool
		block    bool
		read     int
		tooLarge bool
	}{
		"none":                          {refusing, 0, false, true, 0, false},
		"a short one":                   {refusing, 100, false, true, 100, false},
		"one of the limit":              {refusing, limit, false, true, limit, false},
		"one byte more":                 {refusing, limit + 1, false, true, 0, true},
		"one byte more in chunks":       {refusing, limit + 1, true, true, limit + 1, true},
		"a large one in chunks":         {refusing, 1 << 20, true, true, limit + 1, true},
		"a large one that may pass":     {passing, 1 << 20, false, true, limit + 1, false},
		"a large one that is only seen": {refusing, 1 << 20, true, false, limit + 1, false},
		"a short one in chunks":         {refusing, 100, true, true, 100, false},
		"the limit in chunks":           {refusing, limit, true, true, limit, false},
	} {
		t.Run(name, func(t *testing.T) {
			whole := []byte(("text=" + strings.Repeat("word+", c.size/5+1))[:c.size])
			body := bytes.NewReader(whole)
			r := ask("/", formType, "")
			r.ContentLength = int64(c.size)
			r.Header.Set("Content-Length", fmt.Sprint(c.size))
			if c.chunked {
				r.ContentLength, r.TransferEncoding = -1, []string{"chunked"}
				r.Header.Del("Content-Length")
			}
			_, head, err := c.f.Inspect(Request{Request: r, ID: "id", Body: body, Block: c.block})
			var f *fault.Error
			if errors.As(err, &f) != c.tooLarge || f != nil && f.Status != http.StatusRequestEntityTooLarge || err != nil && f == nil {
				t.Fatalf("%v", err)
			}
			if read := c.size - body.Len(); read != c.read {
				t.Errorf("%d bytes were read, want %d", read, c.read)
			}
			if err == nil && !bytes.Equal(head, whole[:c.read]) {
				t.Errorf("the head is not what was read: %d bytes", len(head))
			}
		})
	}
}

func TestABodyThatFailsIsAnErrorAndNeverAPass(t *testing.T) {
	f := set(t, nil).For("a")
	broken := errors.New("the client left")
	r := ask("/", formType, "x")
	r.ContentLength = 100
	_, _, err := f.Inspect(Request{Request: r, ID: "id", Body: io.MultiReader(strings.NewReader("a=b"), failing{broken})})
	if !errors.Is(err, broken) {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// upload is a form with a file.
func upload(name, content string) (kind, body string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	_ = w.WriteField("title", "a holiday")
	part, _ := w.CreateFormFile("photo", name)
	_, _ = part.Write([]byte(content))
	_ = w.Close()
	return w.FormDataContentType(), b.String()
}

// Coraza writes each file of a form to the disk and removes it when the
// transaction is closed, so that what is left there was not.
func TestEveryTransactionIsClosed(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	s := set(t, func(c *Config) { c.BodyLimit = 4 << 10 })
	kind, body := upload("a.jpg", "\xff\xd8\xff\xe0"+strings.Repeat("\x00\x01", 500))
	attacking, attack := upload("../../a.php", "<?php system($_GET['a']);")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				look(t, s.For("a"), ask("/", kind, body))
				look(t, s.For("a"), ask("/", attacking, attack))
				r := ask("/", kind, body[:len(body)/2])
				_, _, _ = s.For("b").Inspect(Request{Request: r, ID: "id", Body: r.Body})
				r = ask("/", kind, body+strings.Repeat("x", 8<<10))
				_, _, _ = s.For("a").Inspect(Request{Request: r, ID: "id", Body: r.Body})
			}
		})
	}
	wg.Wait()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%d files are left in %s: %v", len(left), dir, err)
	}
}

func TestWhatIsTheSameIsCompiledOnce(t *testing.T) {
	c := DefaultConfig()
	c.Excludes = []ExcludeConfig{{Sites: []string{"b"}, Rules: []RuleRange{{942100, 942100}}}}
	first, problems := Compile(c, "", []string{"a", "b", "c"}, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if first.For("a") != first.For("c") || first.For("a") == first.For("b") {
		t.Error("sites share a rule set by something else than what it holds")
	}
	same, _ := Compile(c, "", []string{"b", "d"}, first)
	if same.For("b") != first.For("b") || same.For("d") != first.For("a") {
		t.Error("a reload compiles again what did not change")
	}
	c.Paranoia = 2
	other, _ := Compile(c, "", []string{"a"}, first)
	if other.For("a") == first.For("a") {
		t.Error("a reload keeps what changed")
	}
	if none, problems := Compile(c, "SecNonsense", nil, first); none != nil || len(problems) > 0 {
		t.Error("without a site there is something compiled")
	}
}

func TestAFileOfRulesComesBeforeAndCannotUndoWhatHolds(t *testing.T) {
	const own = `
SecRuleEngine Off
SecRequestBodyAccess Off
SecRequestBodyLimit 10
SecRule ARGS:coupon "@streq evil" "id:1,phase:2,deny,status:418,log,msg:'a coupon'"
SecRule ARGS:quiet "@streq evil" "id:2,phase:2,deny,nolog"
SecAction "id:3,phase:1,pass,nolog,setvar:'tx.allowed_methods=BREW'"
`
	s, problems := Compile(DefaultConfig(), own, []string{"a"}, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for name, c := range map[string]struct {
		r    *http.Request
		rule int
	}{
		"a rule of one's own":        {ask("/", formType, "coupon=evil"), 1},
		"one without a message":      {ask("/?quiet=evil", "", ""), 2},
		"a setting of one's own":     {ask("/", "", ""), 911100},
		"the rule set is on as ever": {ask("/?id="+sqliQuery, "", ""), 942100},
	} {
		if got := look(t, s.For("a"), c.r); !got.Against || !slices.Contains(got.Rules, c.rule) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestWhatIsWrongIsSaidWithItsKey(t *testing.T) {
	for name, c := range map[string]struct {
		change    func(*Config)
		rules     string
		key, want string
	}{
		"paranoia":   {func(c *Config) { c.Paranoia = 5 }, "", "paranoia", "write 1, 2, 3 or 4"},
		"threshold":  {func(c *Config) { c.Threshold = 0 }, "", "threshold", "write 5"},
		"limit":      {func(c *Config) { c.BodyLimit = 2 << 20 }, "", "body_limit", "1MiB"},
		"larger":     {func(c *Config) { c.Larger = "drop" }, "", "larger", `"refuse" or "pass"`},
		"method":     {func(c *Config) { c.Methods = []string{"GET", "po st"} }, "", "methods[1]", "GET"},
		"type":       {func(c *Config) { c.ContentTypes = []string{"*/*"} }, "", "content_types[0]", "application/json"},
		"nothing":    {exclude(ExcludeConfig{Path: "/a"}), "", "exclude[0]", "rules, tags, parameters"},
		"site":       {exclude(ExcludeConfig{Sites: []string{"aa"}, SkipBody: true}), "", "exclude[0].sites[0]", `did you mean "a"`},
		"path":       {exclude(ExcludeConfig{Path: "edit", SkipBody: true}), "", "exclude[0].path", "/editor"},
		"quotes":     {exclude(ExcludeConfig{Path: `/a"`, SkipBody: true}), "", "exclude[0].path", "/editor"},
		"parameter":  {exclude(ExcludeConfig{Parameters: []string{"a,b"}}), "", "exclude[0].parameters[0]", "comment"},
		"kind":       {exclude(ExcludeConfig{Parameters: []string{"arg:b"}}), "", "exclude[0].parameters[0]", "cookie or header"},
		"rule":       {exclude(ExcludeConfig{Rules: []RuleRange{{942100, 942100}, {1, 9}}}), "", "exclude[0].rules[1]", "no rule 1-9"},
		"tag":        {exclude(ExcludeConfig{Tags: []string{"attack-sql"}}), "", "exclude[0].tags[0]", `did you mean "attack-sqli"?`},
		"no tag":     {exclude(ExcludeConfig{Tags: []string{"a'b"}}), "", "exclude[0].tags[0]", "attack-sqli"},
		"directive":  {nil, "SecNonsense On", "rules_file", "unknown directive"},
		"same id":    {nil, `SecAction "id:7,phase:1,pass"` + "\n" + `SecAction "id:7,phase:1,pass"`, "rules_file", "7"},
		"other file": {nil, "Include /etc/passwd", "rules_file", "passwd"},
	} {
		t.Run(name, func(t *testing.T) {
			config := DefaultConfig()
			if c.change != nil {
				c.change(&config)
			}
			problems := config.Validate([]string{"a", "b"})
			if len(problems) == 0 {
				_, problems = Compile(config, c.rules, []string{"a"}, nil)
			}
			at := slices.IndexFunc(problems, func(p problem.Problem) bool { return p.Key == "reverse.waf."+c.key })
			if at < 0 || !strings.Contains(problems[at].String(), c.want) {
				t.Errorf("%v, want %q at %s", problems, c.want, c.key)
			}
		})
	}
}

func exclude(e ExcludeConfig) func(*Config) {
	return func(c *Config) { c.Excludes = []ExcludeConfig{e} }
}

func TestRulesAreReadAsNumbersAndRanges(t *testing.T) {
	for _, c := range []struct {
		in   any
		want string // "" for an error
	}{
		{int64(942100), "942100"}, {"942100", "942100"}, {"942100-942199", "942100-942199"}, {" 1 - 2 ", "1-2"},
		{int64(-1), ""}, {"2-1", ""}, {"x", ""}, {"1-", ""}, {"99999999999", ""}, {1.5, ""},
	} {
		var r RuleRange
		err := r.UnmarshalTOML(c.in)
		if (err == nil) != (c.want != "") || err == nil && r.String() != c.want {
			t.Errorf("%v: %v, %v", c.in, r, err)
		}
	}
}
