package conform

import (
	"bufio"
	"encoding/json"
	"strings"
	"testing"
)

func TestARequestLooksAsTheSuiteSendsIt(t *testing.T) {
	var c Case
	if err := json.Unmarshal([]byte(`{"id":"x","name":"X","requests":[{},{"request_method":"POST","request_body":"abc","rfc850date":["if-modified-since"],
		"request_headers":[["Cache-Control","no-cache"],["Foo","1"],["foo","2"],["Accept-Language","de"],["If-Modified-Since",-60]]}]}`), &c); err != nil {
		t.Fatal(err)
	}
	previous := &Response{header: head{{"Server-Now", "1600000000000"}}}
	want := `POST /x HTTP/1.1
Host: o
Connection: keep-alive
Pragma: foo
Cache-Control: nothing-to-see-here, no-cache
Foo: 1, 2
Accept-Language: de
If-Modified-Since: Sunday, 13-Sep-20 12:25:40 GMT
Test-Name: X
Test-ID: x
Req-Num: 2
content-type: text/plain;charset=UTF-8
Accept: */*
Sec-Fetch-Mode: cors
User-Agent: node
Accept-Encoding: gzip, deflate
Content-Length: 3

`
	got := string(encode("POST /x HTTP/1.1", requestHead(&c, 2, "o", previous)))
	if got != strings.ReplaceAll(want, "\n", "\r\n") {
		t.Errorf("got:\n%s", got)
	}
}

func TestResponsesAreReadStrictly(t *testing.T) {
	for raw, want := range map[string]string{
		"HTTP/1.1 200 OK\nContent-Length: 2\n\nabc":                             "ab",
		"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nab\n0\nX: y\n\nrest": "ab",
		"HTTP/1.1 200 OK\n\nall":                                                "all",
		"HTTP/1.1 103 Early Hints\n\nHTTP/1.1 200 OK\n\nfinal":                  "final",
		"HTTP/1.1 304 Not Modified\nContent-Length: 9\n\n":                      "",
		"HTTP/1.1 200 OK\nContent-Length: 3\n\nab":                              "error",
		"HTTP/1.1 200 OK\nContent-Length: x\n\nab":                              "error",
		"HTTP/1.1 200 OK\nTransfer-Encoding: odd\n\nab":                         "error",
		"HTTP/1.1 304 Not Modified\nTransfer-Encoding: odd\n\n":                 "error",
		"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nab\n":                "error",
		"HTTP/1.1 200 OK\nno field\n\n":                                         "error",
		"HTTP/1.1 2\n\n":                                                        "error",
		"ICY 200 OK\n\n":                                                        "error",
		"HTTP/1.1 200 OK\n":                                                     "error",
		"":                                                                      "error",
	} {
		res, err := readResponse(bufio.NewReader(strings.NewReader(strings.ReplaceAll(raw, "\n", "\r\n"))), "GET")
		got := "error"
		if err == nil {
			got = res.body
		}
		if got != want {
			t.Errorf("%q: %q, %v, want %q", raw, got, err, want)
		}
	}
}

func FuzzReadResponse(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab")
	f.Add("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")
	f.Fuzz(func(t *testing.T, raw string) {
		res, err := readResponse(bufio.NewReader(strings.NewReader(raw)), "GET")
		if err == nil && (res.status < 100 || res.status > 999 || len(res.body) > len(raw)) {
			t.Errorf("status %d, a body of %d from %q", res.status, len(res.body), raw)
		}
	})
}
