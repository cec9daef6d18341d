package conform

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
)

// ask plays the requests of one case against an origin, byte by byte, and
// returns what comes back until it closes. Dates of now are cut out.
func ask(t *testing.T, requests string, raw ...string) string {
	t.Helper()
	var c Case
	if err := json.Unmarshal([]byte(`{"requests":`+requests+`}`), &c); err != nil {
		t.Fatal(err)
	}
	o, err := StartOrigin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	o.second = time.Millisecond
	o.expect("id", &c)
	conn, err := net.Dial("tcp", o.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	for _, r := range raw {
		if _, err := io.WriteString(conn, strings.ReplaceAll(r, "\n", "\r\n")+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(bufio.NewReader(conn))
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`(Server-Now|Date): .*\r\n`).ReplaceAllString(string(b), "$1\r\n")
	return strings.ReplaceAll(text, "\r\n", "\n")
}

func TestTheOriginAnswersByteByByte(t *testing.T) {
	for _, c := range []struct {
		name, requests string
		raw            []string
		want           string
	}{
		{"plain", `[{"response_headers":[["A","1"],["a","2"],["B","x",false]]}]`, []string{"GET /test/id/f?q HTTP/1.1\nReq-Num: 1"}, `HTTP/1.1 200 OK
Server-Base-Url: /test/id/f?q
Server-Request-Count: 1
Client-Request-Count: 1
Server-Now
A: 1
a: 2
B: x
Content-Type: text/plain
Request-Numbers: 1
Date
Connection: keep-alive
Keep-Alive: timeout=5
Content-Length: 2

id`},
		{"without a number, and the last", `[{"magic_locations":true,"response_headers":[["Location","x"],["Content-Location",""],["Content-Type","a/b"]]}]`,
			[]string{"HEAD /test/id HTTP/1.1\nConnection: close"}, `HTTP/1.1 200 OK
Server-Base-Url: /test/id
Server-Request-Count: 1
Client-Request-Count: NaN
Server-Now
Location: /test/id/x
Content-Location: /test/id
Content-Type: a/b
Request-Numbers: 1
Date
Connection: close

`},
		{"a length that is too small", `[{"response_headers":[["Content-Length","1"],["Connection","token"]],"response_body":"abc"}]`,
			[]string{"GET /test/id HTTP/1.1\nReq-Num: 1"}, `HTTP/1.1 200 OK
Server-Base-Url: /test/id
Server-Request-Count: 1
Client-Request-Count: 1
Server-Now
Content-Length: 1
Connection: token
Content-Type: text/plain
Request-Numbers: 1
Date

abc`},
		{"an unknown coding, ended by closing", `[{"response_headers":[["Transfer-Encoding","odd"]]}]`,
			[]string{"GET /test/id HTTP/1.1\nReq-Num: 1"}, `HTTP/1.1 200 OK
Server-Base-Url: /test/id
Server-Request-Count: 1
Client-Request-Count: 1
Server-Now
Transfer-Encoding: odd
Content-Type: text/plain
Request-Numbers: 1
Date
Connection: keep-alive
Keep-Alive: timeout=5

id`},
		{"interim, disconnect", `[{"interim_responses":[[102],[103,[["link","x"]]]],"disconnect":true}]`, []string{"GET /test/id HTTP/1.1\nReq-Num: 1"},
			"HTTP/1.1 102 Processing\n\nHTTP/1.1 103 Early Hints\nlink: x\n\n"},
		{"unknown", `[{}]`, []string{"GET /test/other HTTP/1.1\nReq-Num: 1", "GET /test/id HTTP/1.1\nReq-Num: 2"},
			"HTTP/1.1 409 Conflict\nContent-Length: 12\n\nno such caseHTTP/1.1 409 Conflict\nContent-Length: 15\n\nno such request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := ask(t, c.requests, c.raw...); got != c.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}

func TestTheOriginValidatesByteForByte(t *testing.T) {
	const requests = `[{"response_headers":[["ETag","\"ü\""],["Last-Modified",-100]]},{"expected_type":"etag_validated","response_headers":[["Content-Length","10"]]}]`
	for condition, want := range map[string]string{
		"If-None-Match: \"\xfc\"":        "304 Not Modified",
		"If-None-Match: W/\"\xfc\"":      "999 304 Not Generated",
		"If-None-Match: \"\xfc\", \"b\"": "999 304 Not Generated",
		"If-Modified-Since: Sun, 06 Nov": "999 304 Not Generated",
		"X: y":                           "999 304 Not Generated",
	} {
		got := ask(t, requests, "GET /test/id HTTP/1.1\nReq-Num: 1", "GET /test/id HTTP/1.1\nReq-Num: 2\n"+condition)
		_, second, _ := strings.Cut(got, "\n\nid")
		if !strings.HasPrefix(second, "HTTP/1.1 "+want+"\n") {
			t.Errorf("%q: %.40q, want %s", condition, second, want)
		}
		if want[0] == '3' && !strings.HasSuffix(second, "\n\n") {
			t.Errorf("a 304 has a body: %q", second)
		}
		if !strings.Contains(got, "ETag: \"\xfc\"\n") || !strings.Contains(second, "Content-Length: 10\n") {
			t.Errorf("fields are missing: %q", got)
		}
	}
}

func TestADateThatWasSentIsSentAgain(t *testing.T) {
	r := &run{c: &Case{Requests: []Request{{ResponseHeader: []Field{{Name: "Last-Modified", Dated: true, Offset: -10}}}, {ExpectedType: "lm_validated"}}}, dates: map[[2]int]string{}}
	f := r.c.Requests[0].ResponseHeader[0]
	first := r.resolve(1, 0, f, "", 1600000000000)
	if first != "Sun, 13 Sep 2020 12:26:30 GMT" {
		t.Errorf("resolved to %s", first)
	}
	if again := r.resolve(1, 0, f, "", 1700000000000); again != first {
		t.Errorf("then to %s", again)
	}
	if !r.validates(2, head{{"If-Modified-Since", first}}) || r.validates(2, head{{"If-Modified-Since", "Sun, 13 Sep 2020 12:26:31 GMT"}}) {
		t.Error("validation does not go by the date that was sent")
	}
}
