package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fwdproxy/cache"
	"fwdproxy/http1"
	"fwdproxy/internal/edge"
	"fwdproxy/internal/proxytest"
)

// hotOrigin answers by the path.
func hotOrigin(date string) func(strictRequest) string {
	return func(q strictRequest) string {
		fields, body := "Cache-Control: max-age=100\r\nETag: \"1\"\r\nX-Two: a\r\nX-Two: b\r\n", "hello from "+q.Target
		switch {
		case strings.HasPrefix(q.Target, "/vary"):
			fields += "Vary: Accept-Language\r\n"
			body += " in " + q.field("accept-language")
		case strings.HasPrefix(q.Target, "/aged"):
			fields += "Age: 40\r\n"
		case strings.HasPrefix(q.Target, "/no-cache"):
			fields = "Cache-Control: no-cache\r\nETag: \"1\"\r\n"
		case strings.HasPrefix(q.Target, "/no-store"):
			fields = "Cache-Control: no-store\r\n"
		case strings.HasPrefix(q.Target, "/short"):
			fields = "Cache-Control: max-age=1, must-revalidate\r\n"
		case strings.HasPrefix(q.Target, "/empty"):
			body = ""
		case strings.HasPrefix(q.Target, "/large"):
			body = strings.Repeat("x", 200<<10)
		case strings.HasPrefix(q.Target, "/huge"):
			body = strings.Repeat("x", 1<<20+1)
		case strings.HasPrefix(q.Target, "/type"):
			fields += "Content-Type: text/html\r\n"
		case strings.HasPrefix(q.Target, "/missing"):
			return fmt.Sprintf("HTTP/1.1 404 Not Found\r\nDate: %s\r\n%sContent-Length: 4\r\n\r\ngone", date, fields)
		}
		if q.Method == "HEAD" {
			return fmt.Sprintf("HTTP/1.1 200 OK\r\nDate: %s\r\n%sContent-Length: %d\r\n\r\n", date, fields, len(body))
		}
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nDate: %s\r\n%sContent-Length: %d\r\n\r\n%s", date, fields, len(body), body)
	}
}

// counted says how many requests were answered before net/http.
func (w *wire) counted() *atomic.Int64 {
	n, answer := new(atomic.Int64), w.server.doors.plain.room.framing.Answer
	w.server.doors.plain.room.framing.Answer = func(c net.Conn, h http1.Head) (bool, error) {
		done, err := answer(c, h)
		if done {
			n.Add(1)
		}
		return done, err
	}
	return n
}

var changing = regexp.MustCompile(`"(time|duration_ms|duration|request_id|client|client_port|id|ts)":("[^"]*"|[0-9.]+),?`)

var pageID = regexp.MustCompile(`Request: [0-9a-f]{16}`)

func TestWhatIsAnsweredBeforeNetHTTPIsWhatNetHTTPAnswers(t *testing.T) {
	plain := "GET {B}%s HTTP/1.1\r\nHost: {H}\r\nUser-Agent: me\r\nReferer: http://r.test/\r\n%s\r\n"
	get := func(path string, fields ...string) string {
		return fmt.Sprintf(plain, path, strings.Join(append(fields, ""), "\r\n"))
	}
	again := func(q string) string { return strings.Repeat(q, 6) }
	const rules = `
[[acl.rule]]
name = "admins only"
path = '^/denied'
action = "deny"
[[acl.rule]]
name = "a trial"
path = '^/trial'
action = "deny"
shadow = true
[[acl.rule]]
name = "by agent"
user_agent = 'me'
when = "00:00-24:00 UTC"
action = "allow"
[[cache.rule]]
name = "longer"
path = '^/ruled'
min_ttl = "1h"
`
	for _, tc := range []struct {
		name, requests string
		fast           bool // some are answered before net/http
	}{
		{"a GET", again(get("/a")), true},
		{"a HEAD of what GET stored", get("/a") + again(strings.Replace(get("/a"), "GET", "HEAD", 1)), true},
		{"keep-alive said aloud", again(get("/a", "Connection: keep-alive", "Proxy-Connection: Keep-Alive")), true},
		{"a query and escapes", again(get("/a%20b?x=%41&y")), true},
		{"an empty body", again(get("/empty")), true},
		{"a Content-Type", again(get("/type")), true},
		{"an error that is stored", again(get("/missing")), true},
		{"Age from a cache behind", again(get("/aged")), true},
		{"Vary, in turns", again(get("/vary", "Accept-Language: de") + get("/vary", "Accept-Language: en")), true},
		{"request directives that hold", again(get("/a", "Cache-Control: max-age=90")), true},
		{"request directives that do not", again(get("/aged", "Cache-Control: max-age=10")), false},
		{"no-cache", again(get("/a", "Cache-Control: no-cache")), false},
		{"Pragma", again(get("/a", "Pragma: no-cache")), false},
		{"only-if-cached", again(get("/nowhere", "Cache-Control: only-if-cached")), false},
		{"a rule of the policy in shadow", again(get("/trial")), true},
		{"a rule that denies", again(get("/denied")), false},
		{"a rule of the cache", again(get("/ruled")), false},
		{"a range", again(get("/a", "Range: bytes=1-3")), false},
		{"a condition", again(get("/a", `If-None-Match: "1"`)), false},
		{"HTTP/1.0", strings.Replace(get("/a"), "HTTP/1.1", "HTTP/1.0", 1), false},
		{"a last request", again(get("/a")) + get("/a", "Connection: close"), true},
		{"credentials", again(get("/a", "Authorization: Basic eDp5")), false},
		{"no-cache in the response", again(get("/no-cache")), false},
		{"no-store in the response", again(get("/no-store")), false},
		{"large", again(get("/large")), true},
		{"a HEAD of what is large", get("/large") + again(strings.Replace(get("/large"), "GET", "HEAD", 1)), true},
		{"an unsafe request in between", again(get("/a")) + strings.Replace(get("/a", "Content-Length: 0"), "GET", "POST", 1) + again(get("/a")), true},
		{"a malformed one in between", again(get("/a")) + "GET {B}/a HTTP/1.1\r\nHost : x\r\n\r\n", true},
		{"origin-form", "GET /a HTTP/1.1\r\nHost: {H}\r\nConnection: close\r\n\r\n", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			requests := tc.requests
			if !strings.Contains(requests, "HTTP/1.0") && !strings.Contains(requests, " close") && !strings.Contains(requests, "Host :") {
				requests += get("/end", "Connection: close")
			}
			for try := range 3 { // seconds may pass between the two
				origin := newByteOrigin(t, hotOrigin(time.Now().UTC().Format(http.TimeFormat)))
				var replies, logs [2]string
				var fast int64
				for i := range 2 {
					w := startWireBefore(t, modeForward, origin.addr, rules)
					if i == 1 {
						w.server.hot = edge.NewHotSet(0)
					}
					n := w.counted()
					replies[i] = pageID.ReplaceAllString(proxytest.Talk(t, w.addr, w.expand(requests)), "")
					logs[i] = changing.ReplaceAllString(w.logText(t, strings.Count(replies[i], "HTTP/1.1 ")), "")
					if i == 0 {
						fast = n.Load()
					} else if n.Load() != 0 {
						t.Fatal("the other was answered before net/http as well")
					}
				}
				if (fast > 0) != tc.fast {
					t.Fatalf("%d were answered before net/http", fast)
				}
				if try < 2 && (replies[0] != replies[1] || logs[0] != logs[1]) {
					continue
				}
				if replies[0] != replies[1] {
					t.Errorf("got\n%s\nwant\n%s", replies[0], replies[1])
				}
				if logs[0] != logs[1] {
					t.Errorf("logged\n%s\nwant\n%s", logs[0], logs[1])
				}
				return
			}
		})
	}
}

func TestWhatIsPurgedStaleOrForbiddenIsNotAnsweredFromACopy(t *testing.T) {
	w := startWire(t, modeForward, "", hotOrigin(time.Now().UTC().Format(http.TimeFormat)))
	n := w.counted()
	ask := func(path string) string {
		return proxytest.Talk(t, w.addr, w.expand(strings.Repeat("GET {B}"+path+" HTTP/1.1\r\nHost: {H}\r\n\r\n", 4)+"GET {B}/end HTTP/1.1\r\nHost: {H}\r\nConnection: close\r\n\r\n"))
	}
	asked := func() (n int) {
		_, seen := w.origin.take()
		for _, q := range seen {
			if !strings.HasSuffix(q.Target, "/end") {
				n++
			}
		}
		return n
	}

	if ask("/a"); n.Load() == 0 || asked() != 1 {
		t.Fatalf("%d came from a copy", n.Load())
	}
	u := w.expand("{B}/a")
	p, err := cache.ParsePurge(u, "", "", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.server.current.Load().cache.Purge(p, time.Now()); err != nil {
		t.Fatal(err)
	}
	if ask("/a"); asked() != 1 {
		t.Error("what was purged was served")
	}
	ask("/short")
	asked()
	time.Sleep(1100 * time.Millisecond)
	if ask("/short"); asked() == 0 {
		t.Error("what must be validated was served stale")
	}
	// The address that it came from is now the proxy's own.
	before := n.Load()
	w.server.own.set([]netip.AddrPort{netip.MustParseAddrPort(w.expand("{H}"))})
	if got := ask("/a"); strings.Contains(got, "hello") || n.Load() != before {
		t.Errorf("a forbidden address was used: %s", got)
	}
}

func TestWhatComesFromACopyDoesNotEvadeALimit(t *testing.T) {
	origin := newByteOrigin(t, hotOrigin(time.Now().UTC().Format(http.TimeFormat)))
	w := startWireBefore(t, modeForward, origin.addr, "\n[[acl.limit]]\nname = \"few\"\nrequests = \"5/d\"\n")
	n := w.counted()
	replies := proxytest.Talk(t, w.addr, w.expand(strings.Repeat("GET {B}/a HTTP/1.1\r\nHost: {H}\r\n\r\n", 8)+"GET {B}/a HTTP/1.1\r\nHost: {H}\r\nConnection: close\r\n\r\n"))
	if got := strings.Count(replies, "HTTP/1.1 200"); got != 5 || n.Load() != 0 {
		t.Errorf("%d were answered, %d from a copy", got, n.Load())
	}
}

func TestWhatTablesModifyDoesNotComeFromACopy(t *testing.T) {
	origin := newByteOrigin(t, hotOrigin(time.Now().UTC().Format(http.TimeFormat)))
	w := startWireBefore(t, modeForward, origin.addr, `
[[acl.modify]]
name = "seen"
path = "^/a"
set_response = { "X-Seen" = "here" }
[[acl.modify]]
name = "tenant"
path = "^/tenant"
set_request = { "X-Tenant" = "one" }
`)
	n := w.counted()
	ask := func(path, fields string) (replies string, fast bool) {
		before := n.Load()
		one := "GET {B}" + path + " HTTP/1.1\r\nHost: {H}\r\n" + fields
		replies = proxytest.Talk(t, w.addr, w.expand(strings.Repeat(one+"\r\n", 6)+one+"Connection: close\r\n\r\n"))
		return replies, n.Load() > before
	}
	asked := func() int { _, seen := origin.take(); return len(seen) }
	if got, fast := ask("/a", ""); strings.Count(got, "X-Seen: here") != 7 || fast || asked() != 1 {
		t.Errorf("from a copy: %v\n%s", fast, got)
	}
	if got, fast := ask("/b", ""); strings.Contains(got, "X-Seen") || !fast || asked() != 1 {
		t.Errorf("where no table applies, from a copy: %v\n%s", fast, got)
	}
	// What a client sends of a field that a table sets has copies of its own, which may be such.
	for _, fields := range []string{"X-Tenant: one\r\n", "x_tenant: one\r\n", "X-Tenant: two\r\n"} {
		if _, fast := ask("/b", fields); !fast || asked() != 1 {
			t.Errorf("%q: from a copy: %v", fields, fast)
		}
	}
	if _, fast := ask("/tenant", ""); fast || asked() != 1 {
		t.Errorf("a modified request, from a copy: %v", fast)
	}
}

func TestABodyAboveAMebibyteIsNotCopied(t *testing.T) {
	w := startWire(t, modeForward, "", hotOrigin(time.Now().UTC().Format(http.TimeFormat)))
	n := w.counted()
	get := w.expand("GET {B}/huge HTTP/1.1\r\nHost: {H}\r\n")
	replies := proxytest.Talk(t, w.addr, strings.Repeat(get+"\r\n", 3)+get+"Connection: close\r\n\r\n")
	if hits := strings.Count(replies, "fwdproxy; hit"); hits != 3 || n.Load() != 0 || len(replies) < 4<<20 {
		t.Errorf("%d hits, %d from a copy, %d bytes", hits, n.Load(), len(replies))
	}
}

// replay is a client that sends the same request whenever it is read.
type replay struct {
	net.Conn
	out int
}

func (r *replay) Write(p []byte) (int, error)    { r.out += len(p); return len(p), nil }
func (*replay) SetWriteDeadline(time.Time) error { return nil }
func (*replay) LocalAddr() net.Addr              { return loopback }
func (*replay) RemoteAddr() net.Addr             { return loopback }

var loopback = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}

func TestAHitAllocatesNothing(t *testing.T) {
	hit := hotHit(t)
	if n := testing.AllocsPerRun(1000, hit); n > 0 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHit(b *testing.B) {
	hit := hotHit(b)
	b.ReportAllocs()
	for b.Loop() {
		hit()
	}
}

// hotHit returns what answers one request from a copy, policy, log and metrics
// included.
func hotHit(t testing.TB) func() {
	origin := newByteOrigin(t, hotOrigin(time.Now().UTC().Format(http.TimeFormat)))
	w := startWireBefore(t, modeForward, origin.addr, "[log]\naccess = \"none\"\n")
	head := w.expand("GET {B}/a HTTP/1.1\r\nHost: {H}\r\nUser-Agent: me\r\n\r\n")
	client, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	answers := bufio.NewReader(client)
	for range 3 {
		io.WriteString(client, head)
		res, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
	}
	c, raw := &replay{}, []byte(head)
	return func() {
		if done, err := w.server.hot.Answer(w.server.current.Load().door, c, raw); !done || err != nil {
			t.Fatal(done, err)
		}
	}
}
