package cache

import (
	"net/http"
	"testing"
	"time"
)

func TestAPostIsStoredOnlyWhereTheOriginSaysThatAGetWouldGetTheSame(t *testing.T) { // RFC 9110, Section 9.3.3
	good := []string{"Cache-Control: max-age=60", "Content-Location: /page"}
	for _, tc := range []struct {
		name   string
		req    []string
		status int
		res    []string
		stored bool
	}{
		{"a relative reference", nil, 200, good, true},
		{"an absolute one", nil, 200, []string{"Cache-Control: s-maxage=60", "Content-Location: HTTP://EXAMPLE.com:80/page"}, true},
		{"an empty one", nil, 200, []string{"Cache-Control: max-age=60", "Content-Location:"}, true},
		{"by Expires", nil, 200, []string{"Expires: " + httpDate(time.Now().Add(time.Hour)), "Content-Location: /page"}, true},
		{"no Content-Location", nil, 200, good[:1], false},
		{"another path", nil, 200, []string{good[0], "Content-Location: /page/"}, false},
		{"another query", nil, 200, []string{good[0], "Content-Location: /page?"}, false},
		{"another host", nil, 200, []string{good[0], "Content-Location: http://example.org/page"}, false},
		{"another port", nil, 200, []string{good[0], "Content-Location: http://example.com:81/page"}, false},
		{"two of them", nil, 200, append([]string{"Content-Location: /page"}, good...), false},
		{"no stated lifetime", nil, 200, []string{"Last-Modified: " + httpDate(time.Now().Add(-time.Hour)), good[1]}, false},
		{"a lifetime of zero", nil, 200, []string{"Cache-Control: max-age=0", `ETag: "a"`, good[1]}, false},
		{"no-store", nil, 200, []string{"Cache-Control: max-age=60, no-store", good[1]}, false},
		{"private", nil, 200, []string{"Cache-Control: max-age=60, private", good[1]}, false},
		{"201", nil, 201, good, false},
		{"404", nil, 404, good, false},
		{"a cookie set", nil, 200, append([]string{"Set-Cookie: a"}, good...), false},
		{"a cookie sent", []string{"Cookie: a"}, 200, good, false},
		{"Authorization, whatever the response allows", []string{"Authorization: a"}, 200, []string{"Cache-Control: public, max-age=60", good[1]}, false},
		{"no-store of the request", []string{"Cache-Control: no-store"}, 200, good, false},
		{"another method in disguise", []string{"X-HTTP-Method-Override: PUT"}, 200, good, false},
		{"If-Match", []string{"If-Match: a"}, 200, good, false},
	} {
		b := newBench(t, func(n int, _ *http.Request) (*http.Response, error) { return response(tc.status, "n", tc.res...), nil })
		b.get() // what was stored before is gone in any case, save after an error
		r := b.do("POST", page, tc.req...)
		want := "fwdproxy; fwd=method"
		if tc.stored {
			want += "; stored"
		}
		if r.err != nil || r.status != tc.status || r.body != "n" || r.outcome.Status != want || r.header.Get("Cache-Status") != want {
			t.Errorf("%s: %v, %d %q, %q", tc.name, r.err, r.status, r.body, r.outcome.Status)
		}
		if hit := b.get().outcome.Result == Hit; hit != tc.stored && tc.status < 400 {
			t.Errorf("%s: a GET is answered from it: %v", tc.name, hit)
		}
		if n := b.o.count(); b.do("POST", page, tc.req...).err != nil || b.o.count() != n+1 {
			t.Errorf("%s: a POST was answered from the store", tc.name)
		}
	}
}

func TestAPostThatAnotherUnsafeRequestOvertookIsNotStored(t *testing.T) { // RFC 9111, Section 4.4
	var b *bench
	b = newBench(t, func(n int, req *http.Request) (*http.Response, error) {
		if req.Method == "POST" {
			b.do("PUT", page)
		}
		return response(200, "x", "Cache-Control: max-age=60", "Content-Location: /page"), nil
	})
	b.do("POST", page)
	if b.get().outcome.Result == Hit {
		t.Error("a response from before a PUT is served after it")
	}
	if n := len(b.c.book(KeyOf(request(t.Context(), "GET", page).URL).hash()).flights); n != 0 {
		t.Errorf("%d flights are left", n)
	}
}
