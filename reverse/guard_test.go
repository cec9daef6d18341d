package reverse

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"fwdproxy/accesslog"
	"fwdproxy/acl"
	"fwdproxy/waf"
)

// guarded serves one site with a firewall in this mode before next.
func guarded(t *testing.T, next http.RoundTripper, mode string, change func(*waf.Config), list ...acl.RuleConfig) *stand {
	t.Helper()
	s := newStand(t, next, []SiteConfig{{Name: "app", Hosts: []string{"*"}, Pool: "app", WAF: mode}}, list...)
	c := waf.DefaultConfig()
	if change != nil {
		change(&c)
	}
	set, problems := waf.Compile(c, "", []string{"app"}, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	s.settings.Firewalls = set
	return s
}

const attack = "/x?id=1%27%20OR%20%271%27=%271"

func fromBrowser(method, target, more string) string {
	return method + " " + target + " HTTP/1.1\r\nHost: app.test\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\n" + more + "\r\n"
}

func TestWhatIsBlockedGoesNoFurtherAndThePageSaysNothingOfIt(t *testing.T) {
	var seen []string
	s := guarded(t, answer(&seen), waf.Block, nil)
	reply := s.talk(t, fromBrowser("GET", attack, "Accept: text/html\r\nConnection: close\r\n"))
	rec := s.record(t)
	if status(reply) != "403" || field(reply, "Proxy-Status") != `fwdproxy; error=http_request_denied; details="rule reverse.waf"` {
		t.Errorf("the answer:\n%s", reply)
	}
	if !strings.Contains(reply, rec.RequestID) || strings.Contains(reply, "9421") || strings.Contains(reply, "OR") && strings.Contains(reply, "'1'") {
		t.Errorf("the page:\n%s", reply)
	}
	if len(seen) > 0 {
		t.Errorf("the pool was asked: %v", seen)
	}
	if w := rec.WAF; rec.Tag != accesslog.TagDenied || rec.Rule != WAFRule || w == nil || w.Verdict != accesslog.WAFBlock || w.Site != "app" || len(w.Rules) == 0 || w.Score < 5 ||
		!strings.Contains(w.Message, "SQL") {
		t.Errorf("the record: %+v %+v", rec, rec.WAF)
	}
}

func TestDetectSaysTheSameAndLetsItPass(t *testing.T) {
	var seen []string
	s := guarded(t, answer(&seen), waf.Detect, nil)
	if reply := s.talk(t, fromBrowser("GET", attack, "Connection: close\r\n")); status(reply) != "200" || len(seen) != 1 {
		t.Errorf("%v\n%s", seen, reply)
	}
	if w := s.record(t).WAF; w == nil || w.Verdict != accesslog.WAFDetect || len(w.Rules) == 0 || w.Score < 5 {
		t.Errorf("the record: %+v", w)
	}
	s.talk(t, fromBrowser("GET", "/x?id=1", "Connection: close\r\n"))
	if w := s.record(t).WAF; w == nil || w.Verdict != accesslog.WAFPass || w.Score != 0 {
		t.Errorf("the record of an ordinary one: %+v", w)
	}
}

func TestOffLooksAtNothing(t *testing.T) {
	for _, mode := range []string{"", waf.Off} {
		var seen []string
		s := newStand(t, answer(&seen), []SiteConfig{{Hosts: []string{"*"}, Pool: "app", WAF: mode}})
		if reply := s.talk(t, fromBrowser("GET", attack, "Connection: close\r\n")); status(reply) != "200" || s.record(t).WAF != nil {
			t.Errorf("%q:\n%s", mode, reply)
		}
	}
}

func TestThePolicyComesFirst(t *testing.T) {
	var seen []string
	s := guarded(t, answer(&seen), waf.Block, nil, acl.RuleConfig{Name: "nobody", Action: "deny"})
	reply := s.talk(t, fromBrowser("GET", attack, "Connection: close\r\n"))
	if rec := s.record(t); status(reply) != "403" || rec.Rule != "nobody" || rec.WAF != nil {
		t.Errorf("%+v\n%s", rec, reply)
	}
}

// A hit could not do harm to the pool, but a page that is answered to an
// attack could to whoever it is shown to.
func TestAHitIsLookedAtAsAMissIs(t *testing.T) {
	peer := server(t, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\npage")
		}
	})
	s := guarded(t, cached(t, pool(t, peer)), waf.Block, nil)
	plain := fromBrowser("GET", "/x", "Connection: close\r\n")
	s.talk(t, plain)
	if reply := s.talk(t, plain); !strings.Contains(field(reply, "Cache-Status"), "hit") {
		t.Fatalf("it is not stored:\n%s", reply)
	}
	if reply := s.talk(t, fromBrowser("GET", "/x", "Cookie: a=%3Cscript%3Ealert(1)%3C/script%3E\r\nConnection: close\r\n")); status(reply) != "403" || strings.Contains(reply, "page\n") {
		t.Errorf("the hit:\n%s", reply)
	}
}

// echo is a peer that answers with the head that it got, and the length and a
// sum of the body.
func echo(t *testing.T, began chan<- bool) string {
	return server(t, func(c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if req.Header.Get("Expect") != "" {
				io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			}
			sum, n, b := uint32(0), 0, make([]byte, 4096)
			for {
				k, err := req.Body.Read(b)
				if began != nil && k > 0 && n == 0 {
					began <- true
				}
				for _, x := range b[:k] {
					sum = sum*31 + uint32(x)
				}
				if n += k; err != nil {
					break
				}
			}
			text := fmt.Sprintf("%d %d %q %v\n", n, sum, req.Header.Get("Expect"), req.ContentLength)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	})
}

func sumOf(body string) uint32 {
	sum := uint32(0)
	for _, x := range []byte(body) {
		sum = sum*31 + uint32(x)
	}
	return sum
}

func TestABodyReachesThePoolAsItWasSent(t *testing.T) {
	small := func(c *waf.Config) { c.BodyLimit = 1 << 10 }
	passing := func(c *waf.Config) { c.BodyLimit, c.Larger = 1<<10, "pass" }
	skipping := func(c *waf.Config) {
		c.BodyLimit, c.Excludes = 1<<10, []waf.ExcludeConfig{{Sites: []string{"app"}, Path: "/upload", SkipBody: true}}
	}
	for name, c := range map[string]struct {
		mode    string
		change  func(*waf.Config)
		size    int
		refused bool
	}{
		"a short one":                        {waf.Block, small, 100, false},
		"one of the limit":                   {waf.Block, small, 1 << 10, false},
		"a large one":                        {waf.Block, small, 300_000, true},
		"a large one of which part is seen":  {waf.Block, passing, 300_000, false},
		"a large one where nothing is block": {waf.Detect, small, 300_000, false},
		"a large one that is not looked at":  {waf.Block, skipping, 300_000, false},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, chunked %v", name, chunked), func(t *testing.T) {
				s := guarded(t, pool(t, echo(t, nil)), c.mode, c.change)
				body := "text=" + strings.Repeat("0123456789abcdefghij+", c.size/21+1)[:c.size-5]
				length, sent := fmt.Sprintf("Content-Length: %d\r\n", len(body)), body
				if chunked {
					length, sent = "Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
				}
				reply := s.talk(t, fromBrowser("POST", "/upload", "Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n"+length)+sent)
				if c.refused {
					if status(reply) != "413" || !strings.Contains(field(reply, "Proxy-Status"), "reverse.waf.body_limit") {
						t.Errorf("the answer:\n%.400s", reply)
					}
					return
				}
				if want := fmt.Sprintf("\r\n\r\n%d %d ", len(body), sumOf(body)); status(reply) != "200" || !strings.Contains(reply, want) {
					t.Errorf("want %q in:\n%.600s", want, reply)
				}
			})
		}
	}
}

func TestWhatIsBeyondTheLimitStreams(t *testing.T) {
	began := make(chan bool, 1)
	s := guarded(t, pool(t, echo(t, began)), waf.Detect, func(c *waf.Config) { c.BodyLimit = 1 << 10 })
	body := strings.Repeat("a", 100_000)
	c := s.dial(t)
	send(t, c, fromBrowser("POST", "/x", fmt.Sprintf("Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\nContent-Length: %d\r\n", len(body)))+body[:50_000])
	<-began // while the client has the rest of it still
	send(t, c, body[50_000:])
	if reply := rest(t, c); !strings.Contains(reply, fmt.Sprintf("%d %d ", len(body), sumOf(body))) {
		t.Errorf("the answer:\n%s", reply)
	}
}

func TestExpect100ContinueIsAnsweredByWhoeverReadsTheBody_RFC9110_10_1_1(t *testing.T) {
	head := func(path string, n int, kind string) string {
		return fromBrowser("POST", path, fmt.Sprintf("Content-Type: %s\r\nExpect: 100-continue\r\nContent-Length: %d\r\n", kind, n))
	}
	const kind = "application/x-www-form-urlencoded"
	skipping := func(c *waf.Config) { c.Excludes = []waf.ExcludeConfig{{Path: "/stream", SkipBody: true}} }
	s := guarded(t, pool(t, echo(t, nil)), waf.Block, skipping)
	for path, expected := range map[string]string{"/x": `""`, "/stream": `"100-continue"`} {
		c := s.dial(t)
		r := bufio.NewReader(c)
		send(t, c, head(path, 9, kind))
		if interim := readHead(t, r); interim != "HTTP/1.1 100 Continue\r\n\r\n" {
			t.Fatalf("%s: instead of 100:\n%s", path, interim)
		}
		send(t, c, "text=abcd")
		answer := readHead(t, r)
		line, _ := r.ReadString('\n')
		if status(answer) != "200" || !strings.HasPrefix(line, "9 ") || !strings.Contains(line, expected) {
			t.Errorf("%s: the pool got %s\n%s", path, line, answer)
		}
	}
	// A body that is too large for sure is not asked for.
	if reply := s.talk(t, head("/x", 1<<20, kind)); status(reply) != "413" || strings.Contains(reply, "100 Continue") {
		t.Errorf("the answer:\n%s", reply)
	}
}

func TestAWebSocketIsLookedAtBeforeItOpens(t *testing.T) {
	s := guarded(t, roundTrip(func(*http.Request) (*http.Response, error) {
		t.Error("the pool was asked")
		return nil, io.EOF
	}), waf.Block, nil)
	c := s.dial(t)
	send(t, c, fromBrowser("GET", attack, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"))
	if head := readHead(t, bufio.NewReader(c)); status(head) != "403" {
		t.Errorf("the answer:\n%s", head)
	}
}
