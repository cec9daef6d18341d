package waf

import (
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/experimental"
	"github.com/corazawaf/coraza/v3/types"

	"fwdproxy/internal/problem"
)

// Firewall is one compiled rule set. It is immutable.
type Firewall struct {
	waf   coraza.WAF
	limit int  // of the body that is looked at
	pass  bool // larger bodies pass, even where the site blocks
	ids   []int
	tags  map[string]bool
}

// Set is the compiled rule sets of one policy, one for each distinct setting.
// It is immutable; nil is that of a policy without sites that use one.
type Set struct {
	sites  map[string]*Firewall // by the site's name
	byText map[string]*Firewall
}

// For returns the rule set of the site called name, which Compile was told of.
func (s *Set) For(name string) *Firewall { return s.sites[name] }

// Compile makes the rule sets for the sites with these names, of a table that
// Validate found right; rules is the content of its file. It takes over from
// was, which may be nil, what is the same there.
func Compile(c Config, rules string, sites []string, was *Set) (*Set, problem.List) {
	if len(sites) == 0 {
		return nil, nil
	}
	var problems problem.List
	s := &Set{sites: map[string]*Firewall{}, byText: map[string]*Firewall{}}
	for _, name := range sites {
		text := c.before() + c.excluding(name) + "\x00" + rules + "\x00" + c.after()
		f := s.byText[text]
		if f == nil && was != nil {
			f = was.byText[text]
		}
		if f == nil {
			var err error
			if f, err = compile(c, c.excluding(name), rules); err != nil {
				problems.Add("reverse.waf.rules_file", "Coraza's documentation describes SecLang; the file cannot include others", "%s", explainError(err))
				return nil, problems
			}
		}
		s.byText[text], s.sites[name] = f, f
	}
	problems = append(problems, c.unknown(s.sites[sites[0]])...)
	if len(problems) > 0 {
		return nil, problems
	}
	return s, nil
}

func compile(c Config, excluding, rules string) (*Firewall, error) {
	f := &Firewall{limit: int(c.BodyLimit), pass: c.Larger == passLarger, tags: map[string]bool{}}
	config := coraza.NewWAFConfig().WithRootFS(coreruleset.FS).
		WithDirectives(c.before() + excluding)
	if strings.TrimSpace(rules) != "" {
		config = config.WithDirectives(rules)
	}
	config = config.WithDirectives("Include @owasp_crs/REQUEST-*.conf").WithDirectives(c.after())
	var err error
	f.waf, err = coraza.NewWAF(experimental.WAFConfigWithRuleObserver(config, func(r types.RuleMetadata) {
		f.ids = append(f.ids, r.ID())
		for _, t := range r.Tags() {
			f.tags[t] = true
		}
	}))
	if err != nil {
		return nil, err
	}
	slices.Sort(f.ids)
	if closer, ok := f.waf.(io.Closer); ok {
		// What rule sets share is kept for as long as one of them is open; requests in
		// flight hold theirs.
		runtime.AddCleanup(f, func(c io.Closer) { _ = c.Close() }, closer)
	}
	return f, nil
}

// unknown finds exclusions of what no rule of f has.
func (c Config) unknown(f *Firewall) problem.List {
	var p problem.List
	for i, e := range c.Excludes {
		key := "reverse.waf.exclude[" + strconv.Itoa(i) + "]"
		for j, r := range e.Rules {
			if at, _ := slices.BinarySearch(f.ids, r.First); at == len(f.ids) || f.ids[at] > r.Last {
				p.Add(key+".rules["+strconv.Itoa(j)+"]", "the access log names rules in waf_rules", "there is no rule %v", r)
			}
		}
		for j, t := range e.Tags {
			if f.tags[t] {
				continue
			}
			hint := `write for example "attack-sqli"`
			known := make([]string, 0, len(f.tags))
			for k := range f.tags {
				known = append(known, k)
			}
			slices.Sort(known)
			if near := problem.Nearest(t, known); near != "" {
				hint = "did you mean " + strconv.Quote(near) + "?"
			}
			p.Add(key+".tags["+strconv.Itoa(j)+"]", hint, "no rule has the tag %q", t)
		}
	}
	return p
}

// explainError shortens what Coraza says about a file.
func explainError(err error) string {
	s := strings.TrimPrefix(err.Error(), "invalid WAF config from string: ")
	return strings.Join(strings.Fields(s), " ")
}
