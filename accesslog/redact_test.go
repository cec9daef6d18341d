package accesslog

import (
	"net/url"
	"strings"
	"testing"
)

func TestSecretsInURLsAreNotLogged(t *testing.T) {
	for in, want := range map[string]string{
		"http://example.com/":                       "http://example.com/",
		"*":                                         "*",
		"example.com:443":                           "example.com:443",
		"u:p@example.com:443":                       "example.com:443",
		"http://u:p@example.com/":                   "http://example.com/",
		"http://u@example.com":                      "http://example.com",
		"//u:p@example.com/":                        "//example.com/",
		"http://u:p@q@example.com/x@y":              "http://example.com/x@y",
		"http://u:p\\@example.com/":                 "http://example.com/",
		"/@types/node":                              "/@types/node",
		"http://registry.example/@types/node?x=a@b": "http://registry.example/@types/node?x=a@b",

		"/a?token=s":                            "/a?token=REDACTED",
		"/a?x=1&access_token=s&y=2":             "/a?x=1&access_token=REDACTED&y=2",
		"/a?x=1;password=s;y=2":                 "/a?x=1;password=REDACTED;y=2",
		"/a?PassWord=s=t":                       "/a?PassWord=REDACTED",
		"/a?passwd=s&secret=s&api_key=s":        "/a?passwd=REDACTED&secret=REDACTED&api_key=REDACTED",
		"/a?apikey=s&key=s&sig=s":               "/a?apikey=REDACTED&key=REDACTED&sig=REDACTED",
		"/a?signature=s&auth=s&code=s":          "/a?signature=REDACTED&auth=REDACTED&code=REDACTED",
		"/a?X-Amz-Signature=s&X-Amz-Date":       "/a?X-Amz-Signature=REDACTED&X-Amz-Date",
		"/a?clientSecret=s&api.key=s":           "/a?clientSecret=REDACTED&api.key=REDACTED",
		"/a?%74oken=s":                          "/a?%74oken=REDACTED",
		"/a?user[password]=s":                   "/a?user[password]=REDACTED",
		"/a??token=s?sig=t":                     "/a??token=REDACTED?sig=REDACTED",
		"/a#access_token=s":                     "/a#access_token=REDACTED",
		"/cb?to=http://u:p@h/x&n=1":             "/cb?to=http://h/x&n=1",
		"/a?" + strings.Repeat("x", 200) + "=s": "/a?" + strings.Repeat("x", 200) + "=REDACTED",

		"/a?token":   "/a?token",
		"/a?token=":  "/a?token=",
		"/a?q=token": "/a?q=token",
		"/a?monkey=1&zip_code=2&author=3&passive=4": "/a?monkey=1&zip_code=2&author=3&passive=4",
		"/a?%=1&%4=2&%zz=3":                         "/a?%=1&%4=2&%zz=3",
		"":                                          "",
	} {
		if got := string(appendURL(nil, in)); got != want {
			t.Errorf("%q:\ngot  %q\nwant %q", in, got, want)
		}
	}
}

func TestSecretsOfURLsInTextAreNotLogged(t *testing.T) {
	const in = `parse "http://u:p@h:x/?token=s": invalid port; see https://h/?sig=s now`
	const want = `parse "http://h:x/?token=REDACTED": invalid port; see https://h/?sig=REDACTED now`
	if got := string(appendText(nil, in)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func FuzzNoPasswordOfAURLIsLogged(f *testing.F) {
	f.Add("http", "h", "/p", "a=1&token=b")
	f.Add("https", "h:8443", "/@x/y;z", "?&=&token")
	f.Fuzz(func(t *testing.T, scheme, host, path, query string) {
		const secret = "5ecre7-5ecre7"
		if strings.ContainsAny(host, "/?#") || strings.ContainsAny(path, "?#") || !strings.HasPrefix(path, "/") {
			t.Skip()
		}
		raw := scheme + "://u:" + secret + "@" + host + path + "?" + query + "&access_token=" + secret
		if u, err := url.Parse(raw); err != nil || u.User == nil {
			t.Skip()
		}
		if got := string(appendURL(nil, raw)); strings.Contains(got, secret) {
			t.Fatalf("%q became %q", raw, got)
		}
	})
}
