// Package waf looks at requests for sites as a web application firewall: the
// OWASP Core Rule Set, embedded, played by Coraza.
//
// It says what it found and reads no more of a body than it is told to hold; it
// refuses nothing by itself, writes nothing, and never looks at answers. It is
// the only importer of Coraza.
package waf

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"fwdproxy/internal/header"
	"fwdproxy/internal/problem"
	"fwdproxy/internal/unit"
)

// What a site has done with requests that the rules are against.
const (
	Off    = "off"
	Detect = "detect" // only logs
	Block  = "block"
)

// Modes are the values of a site's waf.
var Modes = []string{Off, Detect, Block}

// What becomes of a body that is larger than what is looked at, where the site
// blocks.
const (
	refuseLarger = "refuse"
	passLarger   = "pass"
)

// Config is the table [reverse.waf]; it holds for sites with waf = "detect" or
// "block".
type Config struct {
	// Paranoia is which rules are used: 1 for those that ordinary requests do not
	// meet, up to 4 for all.
	Paranoia int `toml:"paranoia"`
	// Threshold is the anomaly score from which a request is blocked. Rules that match
	// add 5 when critical, 4, 3 or 2; with 5 one critical rule is enough.
	Threshold int `toml:"threshold"`
	// BodyLimit is how much of a request's body is looked at, and held in memory until
	// that is done, at most "1MiB". Looking takes a core about 10 µs for a byte of text, up to five times that where it is all attack.
	BodyLimit unit.Size `toml:"body_limit"`
	// Larger is what becomes of a larger body where the site blocks: "refuse" answers
	// 413; "pass" looks at the first part alone. Where the site only detects it passes.
	Larger string `toml:"larger"`
	// Methods are the request methods that rule 911100 takes for ordinary.
	Methods []string `toml:"methods"`
	// ContentTypes are the media types of request bodies that rule 920420 takes for ordinary.
	ContentTypes []string `toml:"content_types"`
	// RulesFile is a file with rules and settings of your own in SecLang, which come
	// before the Core Rule Set's. It cannot include other files.
	RulesFile string `toml:"rules_file"`
	// Excludes say where rules are wrong about what a site is sent.
	Excludes []ExcludeConfig `toml:"exclude"`
}

// ExcludeConfig is one [[reverse.waf.exclude]]: for some requests, rules that are
// not used, or parts of the request that they do not look at.
type ExcludeConfig struct {
	// Sites are the names of sites that it is for; all when left out.
	Sites []string `toml:"sites"`
	// Path is the prefix of the path, by whole segments and as it was sent, that it is for; all when left out.
	Path string `toml:"path"`
	// Rules are numbers of rules (942100) and ranges ("942100-942199").
	Rules []RuleRange `toml:"rules"`
	// Tags are tags of rules, as "attack-sqli" or "language-php".
	Tags []string `toml:"tags"`
	// Parameters are names of what the rules do not look at: a parameter of the query
	// or a form ("comment"), a member of a JSON body ("json.text"), a cookie
	// ("cookie:session"), a field ("header:X-Query"). Without rules and tags no rule does.
	Parameters []string `toml:"parameters"`
	// SkipBody leaves the body unread, so that it streams and may have any length.
	SkipBody bool `toml:"skip_body"`
}

// DefaultConfig is the Core Rule Set's own, with the methods of today's APIs.
func DefaultConfig() Config {
	return Config{
		Paranoia:  1,
		Threshold: 5,
		BodyLimit: 128 << 10,
		Larger:    refuseLarger,
		Methods:   []string{"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"},
		ContentTypes: []string{"application/x-www-form-urlencoded", "multipart/form-data", "application/json", "text/xml", "application/xml", "application/soap+xml",
			"application/reports+json", "application/csp-report"},
	}
}

const maxBodyLimit = 1 << 20

// Validate reports every problem of the table that shows without the rule set;
// sites are the names of all sites.
func (c Config) Validate(sites []string) problem.List {
	var p problem.List
	add := func(key, hint, format string, args ...any) { p.Add("reverse.waf."+key, hint, format, args...) }
	if c.Paranoia < 1 || c.Paranoia > 4 {
		add("paranoia", "write 1, 2, 3 or 4", "%d is not a paranoia level", c.Paranoia)
	}
	if c.Threshold < 1 || c.Threshold > 10000 {
		add("threshold", "write 5, or more to let more through", "%d cannot be the score from which a request is blocked", c.Threshold)
	}
	if c.BodyLimit < 1<<10 || c.BodyLimit > maxBodyLimit {
		add("body_limit", `write a size from "1KiB" to "1MiB"`, "%v of a body cannot be looked at", c.BodyLimit)
	}
	if c.Larger != refuseLarger && c.Larger != passLarger {
		add("larger", `write "refuse" or "pass"`, "%q is not what can become of a larger body", c.Larger)
	}
	for i, m := range c.Methods {
		if !header.IsToken(m) || strings.ToUpper(m) != m || strings.ContainsAny(m, "'%|") {
			add("methods["+strconv.Itoa(i)+"]", `write for example "GET"`, "%q is not a method in upper case", m)
		}
	}
	for i, t := range c.ContentTypes {
		kind, sub, ok := strings.Cut(t, "/")
		if !ok || !header.IsToken(kind) || !header.IsToken(sub) || strings.ToLower(t) != t || strings.ContainsAny(t, "'%|*") {
			add("content_types["+strconv.Itoa(i)+"]", `write for example "application/json", in lower case and without parameters`, "%q is not a media type", t)
		}
	}
	for i, e := range c.Excludes {
		e.validate("exclude["+strconv.Itoa(i)+"]", sites, add)
	}
	return p
}

func (e ExcludeConfig) validate(key string, sites []string, add func(key, hint, format string, args ...any)) {
	if len(e.Rules)+len(e.Tags)+len(e.Parameters) == 0 && !e.SkipBody {
		add(key, "write rules, tags, parameters or skip_body", "it excludes nothing")
	}
	for i, name := range e.Sites {
		if name == "" || !slices.Contains(sites, name) {
			hint := "give the [[reverse.site]] that is meant a name"
			if near := problem.Nearest(name, sites); near != "" {
				hint = "did you mean " + strconv.Quote(near) + "?"
			}
			add(key+".sites["+strconv.Itoa(i)+"]", hint, "there is no site called %q", name)
		}
	}
	if e.Path != "" && (e.Path[0] != '/' || strings.Trim(e.Path, plainPath) != "") {
		add(key+".path", `write for example "/editor"`, "%q is not a path as it is sent", e.Path)
	}
	for i, tag := range e.Tags {
		if tag == "" || strings.Trim(tag, alphanumeric+"-_./") != "" {
			add(key+".tags["+strconv.Itoa(i)+"]", `write for example "attack-sqli"`, "%q is not a tag", tag)
		}
	}
	for i, name := range e.Parameters {
		if _, err := parseParameter(name); err != nil {
			add(key+".parameters["+strconv.Itoa(i)+"]", `write for example "comment", "json.text", "cookie:session" or "header:X-Query"`, "%q: %v", name, err)
		}
	}
}

const (
	alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	plainPath    = alphanumeric + "-._~!$&()*+=:@%/"
	plainName    = alphanumeric + "-._~[]@$*"
)

// parseParameter returns the variables of the rules that hold what is called
// name.
func parseParameter(name string) ([]string, error) {
	kinds := map[string][]string{"": {"ARGS", "ARGS_GET", "ARGS_POST"}, "cookie": {"REQUEST_COOKIES"}, "header": {"REQUEST_HEADERS"}}
	kind, rest, prefixed := strings.Cut(name, ":")
	if !prefixed {
		kind, rest = "", name
	} else if kind == "" {
		kind = name
	}
	variables := kinds[kind]
	if variables == nil {
		return nil, errors.New(`what stands before ":" is cookie or header`)
	}
	if rest == "" || strings.Trim(rest, plainName) != "" {
		return nil, errors.New("it has characters that a name cannot have here")
	}
	out := make([]string, len(variables))
	for i, v := range variables {
		out[i] = v + ":" + rest
	}
	return out, nil
}

// RuleRange is the number of a rule, or all numbers from First to Last.
type RuleRange struct{ First, Last int }

func (r RuleRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// UnmarshalTOML reads a number (942100) or a string ("942100", "942100-942199").
func (r *RuleRange) UnmarshalTOML(v any) error {
	var first, last string
	switch v := v.(type) {
	case int64:
		first = strconv.FormatInt(v, 10)
		last = first
	case string:
		var isRange bool
		if first, last, isRange = strings.Cut(v, "-"); !isRange {
			last = first
		}
	default:
		return errors.New("a rule is a number (942100) or a range in quotes (\"942100-942199\")")
	}
	a, err := strconv.ParseUint(strings.TrimSpace(first), 10, 31)
	if err != nil {
		return fmt.Errorf("%q is not the number of a rule", first)
	}
	b, err := strconv.ParseUint(strings.TrimSpace(last), 10, 31)
	if err != nil {
		return fmt.Errorf("%q is not the number of a rule", last)
	}
	if a > b {
		return fmt.Errorf("the range of rules %d-%d ends before it begins", a, b)
	}
	*r = RuleRange{int(a), int(b)}
	return nil
}
