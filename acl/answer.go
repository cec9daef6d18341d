package acl

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"fwdproxy/internal/target"
)

// Answer is what a rule wants a client told that it denies.
type Answer struct {
	Status  int    // 0: the usual one
	Message string // a sentence; "" for the usual one
	rule    string
	page    string // a URL with "{url}" and "{rule}"; "" for none
	host    string // of the page, canonical
}

// Redirect returns where a client is sent whose request for denied, an
// absolute URL of the canonical host, was denied; "" for nowhere. The page's own host leads
// nowhere, lest the client go round in circles.
func (a *Answer) Redirect(denied, host string) string {
	if a.page == "" || host == a.host {
		return ""
	}
	return strings.NewReplacer("{url}", url.QueryEscape(denied), "{rule}", url.QueryEscape(a.rule)).Replace(a.page)
}

const maxMessage = 500

// answer reads what the rule called name tells whom it denies.
func (k *compiler) answer(key, name string, r RuleConfig) *Answer {
	if r.Status == 0 && r.Message == "" && r.Redirect == "" {
		return nil
	}
	a := &Answer{Status: r.Status, Message: r.Message, rule: name, page: r.Redirect}
	for _, only := range []struct {
		key string
		set bool
	}{{"status", r.Status != 0}, {"message", r.Message != ""}, {"redirect", r.Redirect != ""}} {
		if only.set && r.Action != Deny.String() {
			k.problems.Add(key+"."+only.key, "delete it, or deny", "the rule denies nothing, and has nothing to tell")
		}
	}
	switch {
	case r.Status != 0 && r.Redirect != "":
		k.problems.Add(key+".status", "delete it", "a redirect answers with 302")
	case r.Status == 401 || r.Status == 405 || r.Status == 407 || r.Status == 426:
		k.problems.Add(key+".status", "write 403, 404, 410, 429 or 451", "%d needs more in the answer than a rule can say", r.Status)
	case r.Status != 0 && (r.Status < 400 || r.Status > 599):
		k.problems.Add(key+".status", "write 403, 404, 410, 429 or 451", "%d is no status of a refusal", r.Status)
	}
	if m := r.Message; len(m) > maxMessage || !utf8.ValidString(m) || strings.ContainsFunc(m, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		k.problems.Add(key+".message", "one line of at most 500 bytes", "the message does not fit the page")
	}
	if r.Redirect != "" {
		a.host = k.page(key+".redirect", r.Redirect)
	}
	return a
}

// page holds the URL of a page to the rules, and returns its host.
func (k *compiler) page(key, text string) string {
	const hint = `write for example "https://intranet.example/blocked?url={url}&rule={rule}"`
	u, err := url.Parse(text)
	if err != nil || !u.IsAbs() {
		k.problems.Add(key, hint, "%s is not a URL", quote(text))
		return ""
	}
	t, err := target.FromURL(u)
	if err != nil {
		k.problems.Add(key, hint, "%s: %v", quote(text), err)
		return ""
	}
	before, query, _ := strings.Cut(text, "?")
	rest := strings.NewReplacer("{url}", "", "{rule}", "").Replace(query)
	if strings.ContainsFunc(before+rest, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`{}<>"\^`+"`", r) }) {
		k.problems.Add(key, hint, "%s: there may be {url} and {rule} in the query, and nothing that a URL percent-encodes", quote(text))
	}
	return t.Host
}
