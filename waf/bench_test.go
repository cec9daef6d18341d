package waf

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// browser is an ordinary page's request.
func browser() *http.Request {
	r := httptest.NewRequest("GET", "/shop/items?page=2&sort=price&q=garden+chairs", nil)
	r.Header = http.Header{
		"User-Agent":      {"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"},
		"Accept":          {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
		"Accept-Language": {"en-US,en;q=0.5"},
		"Accept-Encoding": {"gzip, deflate, br, zstd"},
		"Cookie":          {"session=0f3c9a55b1d24e3f8a7c; theme=dark"},
		"Referer":         {"https://shop.example/shop"},
	}
	return r
}

// form is a form's request with a text of n bytes.
func form(n int) *http.Request {
	body := "title=Hello&text=" + strings.Repeat("The+quick+brown+fox+jumps+over+the+lazy+dog.+", n/45+1)[:n]
	r := httptest.NewRequest("POST", "/comments", strings.NewReader(body))
	r.Header = browser().Header
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Content-Length", fmt.Sprint(len(body)))
	return r
}

func BenchmarkInspect(b *testing.B) {
	for _, level := range []int{1, 4} {
		c := DefaultConfig()
		c.Paranoia, c.BodyLimit = level, maxBodyLimit
		set, problems := Compile(c, "", []string{""}, nil)
		if len(problems) > 0 {
			b.Fatal(problems)
		}
		for _, q := range []struct {
			name string
			make func() *http.Request
		}{
			{"page", browser},
			{"form of 1 KB", func() *http.Request { return form(1_000) }},
			{"form of 10 KB", func() *http.Request { return form(10_000) }},
			{"form of 100 KB", func() *http.Request { return form(100_000) }},
		} {
			b.Run(fmt.Sprintf("level %d/%s", level, q.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					r := q.make()
					if _, _, err := set.For("").Inspect(Request{Request: r, ID: "id", Body: r.Body}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// What a start costs where a site has a firewall: the first rule set and another
// one, whose expressions are the first's.
func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, problems := Compile(DefaultConfig(), "", []string{""}, nil); len(problems) > 0 {
			b.Fatal(problems)
		}
	}
}
