package fault

import (
	"bytes"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Page is a rendered Error: what a front door writes, whole.
type Page struct {
	Status int
	Header http.Header // Content-Type, Content-Length, Proxy-Status, Cache-Control and hardening fields
	Body   []byte
}

// Render returns the response for e as the proxy called name makes it: HTML
// when the request's Accept prefers it, else plain text. The page names the
// rule and the request id, so that a user can quote them.
func Render(e *Error, name string, accept []string, requestID string) Page {
	p := Page{Status: e.HTTPStatus(), Header: make(http.Header)}
	view := struct {
		Status          int
		Title, What     string
		Rule, ID, Proxy string
	}{p.Status, title(p.Status), plain(e.Details), plain(e.Rule), requestID, name}
	if view.What == "" {
		view.What = strings.ReplaceAll(string(e.Kind), "_", " ")
	}
	first, size := utf8.DecodeRuneInString(view.What)
	view.What = string(unicode.ToUpper(first)) + view.What[size:]
	if !strings.ContainsRune(".!?", rune(view.What[len(view.What)-1])) {
		view.What += "."
	}
	var b bytes.Buffer
	kind := "text/plain; charset=utf-8"
	if prefersHTML(accept) {
		kind = "text/html; charset=utf-8"
		if err := htmlPage.Execute(&b, view); err != nil {
			b.Reset()
		}
	}
	if b.Len() == 0 {
		writeText(&b, p.Status, view.Title, view.What, view.Rule, requestID, name)
	}
	p.Body = b.Bytes()
	p.Header.Set("Content-Type", kind)
	p.Header.Set("Content-Length", strconv.Itoa(len(p.Body)))
	p.Header.Set("Cache-Control", "no-store")
	p.Header.Set("X-Content-Type-Options", "nosniff")
	p.Header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	if e.Location != "" {
		p.Header.Set("Location", e.Location)
	}
	if len(e.Challenge) > 0 {
		p.Header["Proxy-Authenticate"] = slices.Clone(e.Challenge)
	}
	if e.RetryAfter > 0 {
		p.Header.Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	p.Header.Set("Proxy-Status", e.ProxyStatus(name))
	return p
}

// ProxyStatus returns the Proxy-Status member for e (RFC 9209, Section 2).
func (e *Error) ProxyStatus(name string) string {
	s := name + "; error=" + string(e.Kind)
	details := e.Details
	if e.Rule != "" {
		details = "rule " + e.Rule
	}
	if details != "" {
		s += "; details=" + sfString(details)
	}
	return s
}

// sfString quotes s as a String of RFC 9651, Section 3.3.3: printable ASCII
// only, so that other bytes become "?".
func sfString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r < 0x20 || r > 0x7e:
			b.WriteByte('?')
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			fallthrough
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func title(status int) string {
	switch status {
	case http.StatusForbidden, http.StatusFound:
		return "This request is not allowed"
	case http.StatusLoopDetected:
		return "This request came back to the proxy"
	}
	if t := http.StatusText(status); t != "" {
		return t
	}
	return "The proxy could not handle this request"
}

func writeText(b *bytes.Buffer, status int, title, what, rule, id, proxy string) {
	b.WriteString(strconv.Itoa(status) + " " + title + "\n\n" + what + "\n")
	if rule != "" {
		b.WriteString("Rule: " + rule + "\n")
	}
	b.WriteString("Request: " + id + "\nProxy: " + proxy + "\n")
}

// plain drops control characters, which a terminal would act on.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, s)
}

// prefersHTML reports whether Accept lists text/html: what a browser sends,
// and command-line clients do not.
func prefersHTML(accept []string) bool {
	for _, line := range accept {
		for part := range strings.SplitSeq(line, ",") {
			media, params, _ := strings.Cut(part, ";")
			if !strings.EqualFold(strings.TrimSpace(media), "text/html") {
				continue
			}
			q := strings.ReplaceAll(strings.ToLower(params), " ", "")
			return q != "q=0" && !strings.HasPrefix(q, "q=0.0")
		}
	}
	return false
}

var htmlPage = template.Must(template.New("fault").Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Status}} {{.Title}}</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:38em;margin:12vh auto;padding:0 1.2em;color:#1c2530;background:#fff}
h1{font-size:1.5em;margin:0 0 .6em}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3em 1em;margin-top:1.6em;color:#55606e;font-size:.9em}
dd{margin:0;overflow-wrap:anywhere}
@media (prefers-color-scheme:dark){body{color:#e3e7ec;background:#14181d}dl{color:#9aa5b1}}
</style>
</head>
<body>
<h1>{{.Title}}</h1>
<p>{{.What}}</p>
<dl>
{{if .Rule}}<dt>Rule</dt><dd>{{.Rule}}</dd>
{{end}}<dt>Status</dt><dd>{{.Status}}</dd>
<dt>Request</dt><dd>{{.ID}}</dd>
<dt>Proxy</dt><dd>{{.Proxy}}</dd>
</dl>
</body>
</html>
`))
