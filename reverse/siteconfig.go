package reverse

import (
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"fwdproxy/internal/header"
	"fwdproxy/internal/problem"
	"fwdproxy/internal/unit"
	"fwdproxy/waf"
)

// SiteConfig is one [[reverse.site]].
type SiteConfig struct {
	// Name tells the site from others, in letters, digits, "-" and "_". A site with
	// methods, header or split needs one: what it stores in the cache is kept apart
	// by it, and the pool gets it as Fwdproxy-Site.
	Name string `toml:"name"`
	// Hosts is the names that the site answers to: "a.example", "*.a.example" for every name below, "*" for all.
	Hosts []string `toml:"hosts"`
	// Path is the prefix of the path that the site serves, by whole segments; "/" is all.
	Path string `toml:"path"`
	// PathRegex is an RE2 expression that must match somewhere in the path, as it was sent, as well.
	PathRegex string `toml:"path_regex"`
	// Methods are the request methods that the site is for, in upper case; all when left out.
	Methods []string `toml:"methods"`
	// Schemes are what the client speaks, "http" or "https"; both when left out.
	Schemes []string `toml:"schemes"`
	// Header holds names of request fields and an RE2 expression each; one line of each has to match.
	Header map[string]string `toml:"header"`
	// Pool names the [[pool]] that serves it. A site has one of pool, redirect and respond.
	Pool string `toml:"pool"`
	// StripPrefix takes path away from the front of what the pool is asked for.
	StripPrefix bool `toml:"strip_prefix"`
	// Rewrite is the path that the pool is asked for where path_regex matches; "$1" is
	// its first group, "${name}" one with a name. The query stays. Rules, the cache's
	// keys and the log have the path as the client sent it.
	Rewrite string `toml:"rewrite"`
	// Compress encodes the pool's answers as [reverse.compress] says. An answer that holds
	// both a secret and something that a client chose can be found out by its length (BREACH).
	Compress bool `toml:"compress"`
	// WAF is the web application firewall before the pool and the cache: "off", "detect",
	// which logs what it would block, or "block". [reverse.waf] says what it looks at.
	WAF string `toml:"waf"`
	// Redirect is where clients are sent: an http or https URL in which "{host}" is the
	// host that they asked for, "{uri}" the path and query, "{path}" and "{query}" one
	// of them, as in "https://{host}{uri}".
	Redirect string `toml:"redirect"`
	// RedirectStatus is 301, 302, 303, 307 or 308.
	RedirectStatus int `toml:"redirect_status"`
	// Respond is an answer that the site gives by itself.
	Respond *RespondConfig `toml:"respond"`
	// Split sends shares of the requests to other pools, as for a canary.
	Split []SplitConfig `toml:"split"`
	// SplitBy is what stays with one pool: "client" (an address, of IPv6 a /64), "cookie"
	// (a browser, by a cookie that the site sets and the pool does not see) or
	// "request" (nothing). A larger share takes clients over and sends none back.
	SplitBy string `toml:"split_by"`
	// Mirror sends copies of a share of the requests to a pool whose answers nobody gets.
	Mirror *MirrorConfig `toml:"mirror"`
	// Fault makes a share of the requests slow or fail, for testing what calls the site.
	Fault *FaultConfig `toml:"fault"`
}

// RespondConfig is an answer that is the same for everybody.
type RespondConfig struct {
	// Status is the status code, from 200 to 599.
	Status int `toml:"status"`
	// Body is the text of the answer.
	Body string `toml:"body"`
	// Type is the media type of the body.
	Type string `toml:"type"`
}

// SplitConfig is a share of the requests of a site.
type SplitConfig struct {
	// Pool names the [[pool]] that gets the share.
	Pool string `toml:"pool"`
	// Percent is the share, above 0 and below 100; what no share takes goes to the site's pool.
	Percent float64 `toml:"percent"`
}

// MirrorConfig is a share of the requests of a site, to be sent twice.
type MirrorConfig struct {
	// Pool names the [[pool]] that gets the copies.
	Pool string `toml:"pool"`
	// Percent is the share, above 0 and up to 100. Requests with a body above 1 MiB are not copied.
	Percent float64 `toml:"percent"`
}

// FaultConfig is what happens to a share of the requests of a site.
type FaultConfig struct {
	// Percent is the share, above 0 and up to 100.
	Percent float64 `toml:"percent"`
	// Delay is how long they wait first, at most "60s".
	Delay unit.Duration `toml:"delay"`
	// Status is the status code, from 400 to 599, that they get; 0: they are served after the delay.
	Status int `toml:"status"`
}

func (s SiteConfig) path() string {
	if s.Path == "" {
		return "/"
	}
	return s.Path
}

// conditional reports whether not every request for the host and path is the
// site's.
func (s SiteConfig) conditional() bool {
	return s.PathRegex != "" || len(s.Methods)+len(s.Schemes)+len(s.Header) > 0
}

// apart reports whether two requests for the same URI may be for different
// servers because of the site.
func (s SiteConfig) apart() bool { return len(s.Methods)+len(s.Header)+len(s.Split) > 0 }

func (s SiteConfig) guarded() bool { return s.WAF != "" && s.WAF != waf.Off }

// siteCheck collects what is wrong with one site.
type siteCheck struct {
	problem.List
	key   string
	pools []string
}

func (c *siteCheck) add(key, hint, format string, args ...any) {
	c.Add(c.key+"."+key, hint, format, args...)
}

func (c *siteCheck) site(s SiteConfig) {
	if strings.Trim(s.Name, nameLetters) != "" || len(s.Name) > 64 {
		c.add("name", `write letters, digits, "-" and "_", as in "shop-canary"`, "%q cannot be the name of a site", s.Name)
	}
	if s.Name == "" && s.apart() {
		c.add("name", `write name = "…"`, "a site with methods, header or split needs a name, by which the cache keeps what it stores apart")
	}
	if !strings.HasPrefix(s.path(), "/") {
		c.add("path", "write for example \"/\" or \"/api\"", "%q does not begin with a slash", s.Path)
	}
	if s.WAF != "" && !slices.Contains(waf.Modes, s.WAF) {
		c.add("waf", `write "off", "detect" or "block"`, "%q is not what a firewall can do", s.WAF)
	}
	c.conditions(s)
	c.action(s)
	if s.Pool != "" {
		c.shape(s)
	}
}

const nameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

func (c *siteCheck) conditions(s SiteConfig) {
	c.regexp("path_regex", s.PathRegex)
	for i, m := range s.Methods {
		if !header.IsToken(m) || strings.ToUpper(m) != m || m == http.MethodConnect {
			c.add("methods["+strconv.Itoa(i)+"]", `write for example "GET"`, "%q is not a method of a site in upper case", m)
		}
	}
	for i, scheme := range s.Schemes {
		if scheme != "http" && scheme != "https" {
			c.add("schemes["+strconv.Itoa(i)+"]", `write "http" or "https"`, "%q is not a scheme of a site", scheme)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Header)) {
		if !header.IsToken(name) || textproto.CanonicalMIMEHeaderKey(name) == "Host" {
			c.add("header."+name, `write for example header = { "X-Beta" = "^yes$" }; Host is for hosts`, "%q is not a field that a site can look at", name)
		}
		c.regexp("header."+name, s.Header[name])
	}
}

func (c *siteCheck) regexp(key, text string) {
	if _, err := regexp.Compile(text); err != nil {
		c.add(key, `write for example '^/api/v[0-9]+/'`, "%q is not an RE2 expression: %s", text, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
}

func (c *siteCheck) action(s SiteConfig) {
	actions := 0
	for _, set := range []bool{s.Pool != "", s.Redirect != "", s.Respond != nil} {
		if set {
			actions++
		}
	}
	if actions != 1 {
		c.add("pool", "write one of pool, redirect and respond", "the site has %d of pool, redirect and respond", actions)
	}
	if s.Pool != "" {
		c.pool("pool", s.Pool)
	} else {
		c.onlyWithPool(s)
	}
	if s.StripPrefix && s.Rewrite != "" {
		c.add("rewrite", "leave one of them out", "strip_prefix and rewrite cannot both say what the pool is asked for")
	}
	if s.Rewrite != "" && (s.PathRegex == "" || !strings.HasPrefix(s.Rewrite, "/")) {
		c.add("rewrite", `write for example path_regex = '^/old/(.*)$' and rewrite = "/new/$1"`, "a rewrite begins with a slash and needs path_regex")
	}
	if s.Redirect != "" {
		c.redirect(s)
	}
	if r := s.Respond; r != nil {
		if r.Status < 200 || r.Status > 599 {
			c.add("respond.status", "write a status code from 200 to 599", "%d is not the status code of an answer", r.Status)
		}
		if strings.ContainsFunc(r.Type, func(r rune) bool { return r < ' ' || r > '~' }) {
			c.add("respond.type", `write for example "text/html; charset=utf-8"`, "%q is not a media type", r.Type)
		}
	}
}

// onlyWithPool reports what means nothing without servers.
func (c *siteCheck) onlyWithPool(s SiteConfig) {
	for _, k := range []struct {
		key string
		set bool
	}{{"strip_prefix", s.StripPrefix}, {"rewrite", s.Rewrite != ""}, {"compress", s.Compress}, {"waf", s.guarded()}, {"split", len(s.Split) > 0}, {"split_by", s.SplitBy != ""}, {"mirror", s.Mirror != nil}, {"fault", s.Fault != nil}} {
		if k.set {
			c.add(k.key, "leave it out, or write pool", "it is for sites with a pool")
		}
	}
}

func (c *siteCheck) pool(key, name string) {
	if !slices.Contains(c.pools, name) {
		hint := "define it: [[pool]] with name = " + strconv.Quote(name)
		if near := problem.Nearest(name, c.pools); near != "" {
			hint = "did you mean " + strconv.Quote(near) + "?"
		}
		c.add(key, hint, "there is no pool called %q", name)
	}
}

func (c *siteCheck) redirect(s SiteConfig) {
	if _, err := parseRedirect(s.Redirect); err != nil {
		c.add("redirect", `write for example "https://{host}{uri}"`, "%q: %v", s.Redirect, err)
	}
	if s.RedirectStatus != 0 && !slices.Contains([]int{301, 302, 303, 307, 308}, s.RedirectStatus) {
		c.add("redirect_status", "write 301, 302, 303, 307 or 308", "%d is not the status code of a redirect", s.RedirectStatus)
	}
}

// shape checks split, mirror and fault.
func (c *siteCheck) shape(s SiteConfig) {
	total, taken := 0.0, map[string]bool{s.Pool: true}
	for i, part := range s.Split {
		key := "split[" + strconv.Itoa(i) + "]"
		c.pool(key+".pool", part.Pool)
		if taken[part.Pool] {
			c.add(key+".pool", "name each pool once", "%q has a share already", part.Pool)
		}
		taken[part.Pool] = true
		if !(part.Percent > 0 && part.Percent < 100) {
			c.add(key+".percent", "write a number above 0 and below 100", "%v is not a share", part.Percent)
			continue
		}
		total += part.Percent
	}
	if total >= 100 {
		c.add("split", fmt.Sprintf("leave something for the pool %q", s.Pool), "the shares come to %v percent", total)
	}
	if !slices.Contains([]string{"", splitClient, splitCookie, splitRequest}, s.SplitBy) {
		c.add("split_by", `write "client", "cookie" or "request"`, "%q is not what a split can go by", s.SplitBy)
	}
	if m := s.Mirror; m != nil {
		c.pool("mirror.pool", m.Pool)
		c.percent("mirror.percent", m.Percent)
	}
	if f := s.Fault; f != nil {
		c.percent("fault.percent", f.Percent)
		if f.Delay.D() < 0 || f.Delay.D() > maxDelay {
			c.add("fault.delay", `write at most "60s"`, "a delay of %v is too long", f.Delay.D())
		}
		if f.Status != 0 && (f.Status < 400 || f.Status > 599) {
			c.add("fault.status", "write a status code from 400 to 599, or 0", "%d is not the status code of a failure", f.Status)
		}
		if f.Status == 0 && f.Delay == 0 {
			c.add("fault", `write delay = "2s", status = 503, or both`, "the fault does nothing")
		}
	}
}

func (c *siteCheck) percent(key string, p float64) {
	if !(p > 0 && p <= 100) {
		c.add(key, "write a number above 0 and up to 100", "%v is not a share", p)
	}
}
