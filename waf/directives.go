package waf

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Numbers of the rules that are made here: outside of the Core Rule Set's and
// of those that are left to everybody.
const firstRule = 7_100_000

// before returns the directives that come before a file's own and the Core Rule
// Set: what that is set up with.
func (c Config) before() string {
	var b strings.Builder
	// What Coraza recommends for reading bodies. A body that cannot be read in the
	// format that it says it has would reach the server unseen. The filter before
	// expressions, which is faster, misses attacks of rules 932311 and 942220.
	b.WriteString(`SecRxPreFilter Off
SecDefaultAction "phase:1,log,noauditlog,pass"
SecDefaultAction "phase:2,log,noauditlog,pass"
SecArgumentsLimit 1000
SecRequestBodyJsonDepthLimit 256
SecRule REQUEST_HEADERS:Content-Type "^(?:application(?:/soap\+|/)|text/)xml" "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:Content-Type "^application/(?:[a-z0-9.-]+[+])?json" "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule URI_PARSE_ERROR "@eq 1" "id:200009,phase:1,t:none,log,deny,status:403,msg:'The URI cannot be read'"
SecRule REQBODY_ERROR "!@eq 0" "id:200002,phase:2,t:none,log,deny,status:403,msg:'The body cannot be read in the format that it says it has'"
SecRule MULTIPART_STRICT_ERROR "!@eq 0" "id:200003,phase:2,t:none,log,deny,status:403,msg:'The multipart body can be read in more than one way'"
SecRule ARGUMENTS_LIMIT_REACHED "@eq 1" "id:200004,phase:1,t:none,log,deny,status:403,msg:'More than 1000 parameters'"
SecRule ARGUMENTS_LIMIT_REACHED "@eq 1" "id:200005,phase:2,t:none,log,deny,status:403,msg:'More than 1000 parameters'"
`)
	fmt.Fprintf(&b, `SecAction "id:%d,phase:1,pass,nolog,t:none,setvar:tx.crs_setup_version=4250,setvar:tx.blocking_paranoia_level=%d,setvar:tx.inbound_anomaly_score_threshold=%d"
`, firstRule, c.Paranoia, c.Threshold)
	fmt.Fprintf(&b, `SecAction "id:%d,phase:1,pass,nolog,t:none,setvar:'tx.allowed_methods=%s',setvar:'tx.allowed_request_content_type=%s'"
`, firstRule+1, strings.Join(c.Methods, " "), allOf(c.ContentTypes))
	// The Core Rule Set's list, but for Expect: the proxy answers that itself, and
	// curl sends it with every large body.
	fmt.Fprintf(&b, `SecAction "id:%d,phase:1,pass,nolog,t:none,setvar:'tx.restricted_headers_basic=/content-encoding/ /proxy/ /lock-token/ /content-range/ /if/ /x-http-method-override/ /x-http-method/ /x-method-override/ /x-middleware-subrequest/'"
`, firstRule+2)
	return b.String()
}

// allOf writes media types as the Core Rule Set's variable wants them.
func allOf(types []string) string {
	quoted := make([]string, len(types))
	for i, t := range types {
		quoted[i] = "|" + t + "|"
	}
	return strings.Join(quoted, " ")
}

// after returns the directives that come last: what no file can change, above
// all that nothing but this package says what becomes of a request.
func (c Config) after() string {
	return fmt.Sprintf(`SecRuleEngine On
SecRequestBodyAccess On
SecResponseBodyAccess Off
SecAuditEngine Off
SecRequestBodyLimit %d
SecRequestBodyInMemoryLimit %d
SecRequestBodyLimitAction ProcessPartial
`, c.BodyLimit+1, c.BodyLimit+1)
}

// excluding returns the rules for what is excluded at the site called name.
func (c Config) excluding(name string) string {
	var b strings.Builder
	for i, e := range c.Excludes {
		if len(e.Sites) > 0 && (name == "" || !slices.Contains(e.Sites, name)) {
			continue
		}
		head := "SecAction"
		if e.Path != "" && e.Path != "/" {
			head = `SecRule REQUEST_URI "@rx ^` + regexp.QuoteMeta(strings.TrimSuffix(e.Path, "/")) + `(?:[/?]|$)"`
		}
		fmt.Fprintf(&b, "%s \"id:%d,phase:1,pass,nolog,t:none%s\"\n", head, firstRule+100+i, e.controls())
	}
	return b.String()
}

// controls returns the actions of an exclusion.
func (e ExcludeConfig) controls() string {
	var b strings.Builder
	tags := e.Tags
	var targets []string
	for _, name := range e.Parameters {
		t, _ := parseParameter(name)
		targets = append(targets, t...)
	}
	if len(targets) > 0 && len(e.Rules)+len(tags) == 0 {
		tags = []string{"OWASP_CRS"} // every rule of it has the tag
	}
	each := func(action, what string) {
		if len(targets) == 0 {
			fmt.Fprintf(&b, ",ctl:ruleRemove%s=%s", action, what)
		}
		for _, t := range targets {
			fmt.Fprintf(&b, ",ctl:ruleRemoveTarget%s=%s;%s", action, what, t)
		}
	}
	for _, r := range e.Rules {
		each("ById", r.String())
	}
	for _, t := range tags {
		each("ByTag", t)
	}
	if e.SkipBody {
		b.WriteString(",ctl:requestBodyAccess=Off")
	}
	return b.String()
}
