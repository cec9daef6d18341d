package reverse

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
	"fwdproxy/internal/unit"
)

func splitSite(by string, parts ...SplitConfig) *Site {
	return newSite(SiteConfig{Name: "shop", Pool: "app", SplitBy: by, Split: parts})
}

func from(addr string, fields ...string) *http.Request {
	r := httptest.NewRequest("GET", "http://a.test/", nil)
	r.RemoteAddr = addr + ":1234"
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func TestAClientStaysWithItsPoolAndALargerShareSendsNobodyBack(t *testing.T) {
	never := func() float64 { t.Error("chance was asked"); return 0 }
	five, ten := splitSite(splitClient, SplitConfig{"canary", 5}), splitSite("", SplitConfig{"canary", 10})
	const clients = 20_000
	got := map[string]int{}
	for i := range clients {
		r := from(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String())
		small, large := five.choose(r, never).pool, ten.choose(r, never).pool
		got["5 "+small]++
		got["10 "+large]++
		if small != five.choose(r, never).pool {
			t.Fatal("a client changed its pool")
		}
		if small == "canary" && large != "canary" {
			t.Fatal("a client was sent back")
		}
	}
	for share, want := range map[string]float64{"5 canary": 5, "10 canary": 10} {
		if p := 100 * float64(got[share]) / clients; math.Abs(p-want) > 0.7 {
			t.Errorf("%s: %.2f %%", share, p)
		}
	}
	a, b := five.choose(from("[2001:db8::1]"), never), five.choose(from("[2001:db8::ffff:1]"), never)
	if a != b {
		t.Error("two addresses of one /64 differ")
	}
}

func TestACookieKeepsABrowserWithItsPool(t *testing.T) {
	s := splitSite(splitCookie, SplitConfig{"canary", 5})
	roll := func(f float64) func() float64 { return func() float64 { return f } }
	for _, tt := range []struct {
		cookie string
		roll   float64
		want   choice
	}{
		{"", 0.04, choice{"canary", true}},
		{"", 0.05, choice{"app", true}},
		{"fwdproxy_shop=canary", 0.9, choice{"canary", false}},
		{"a=b; fwdproxy_shop=app", 0.01, choice{"app", false}},
		{"fwdproxy_shop=elsewhere", 0.9, choice{"app", true}},
		{"fwdproxy_other=canary", 0.9, choice{"app", true}},
	} {
		r := from("192.0.2.1")
		if tt.cookie != "" {
			r = from("192.0.2.1", "Cookie: "+tt.cookie)
		}
		if got := s.choose(r, roll(tt.roll)); got != tt.want {
			t.Errorf("%q, %v: got %+v, want %+v", tt.cookie, tt.roll, got, tt.want)
		}
	}
	h := http.Header{"Cookie": {"a=b; fwdproxy_shop=app;c=d", "fwdproxy_shop=x", "e=\"f\""}}
	choice{pool: "canary"}.mark(h, s)
	if got := fmt.Sprint(h); got != `map[Cookie:[a=b; c=d e="f"] Fwdproxy-Site:[shop/canary]]` {
		t.Errorf("the pool gets %s", got)
	}
	stored := http.Header{"Set-Cookie": {"x=y"}}
	res := &http.Response{Header: stored}
	choice{"canary", true}.remember(res, s, "https")
	if got := res.Header["Set-Cookie"]; len(got) != 2 || got[1] != "fwdproxy_shop=canary; Path=/; HttpOnly; Secure; SameSite=Lax" || res.Header.Get("Cache-Control") != `no-cache="Set-Cookie"` {
		t.Errorf("the client gets %v", res.Header)
	}
	if len(stored["Set-Cookie"]) != 1 {
		t.Error("what is stored was changed")
	}
}

func TestARequestThatAnotherPoolAnswersHasACacheOfItsOwn(t *testing.T) {
	var seen []string
	origin := roundTrip(func(r *http.Request) (*http.Response, error) {
		h := hop.From(r.Context())
		h.Used(netip.MustParseAddrPort("127.0.0.1:9000"), h.Pool)
		seen = append(seen, h.Pool+" "+r.Header.Get(siteField)+" "+h.Path)
		return &http.Response{StatusCode: 200, Header: http.Header{"Cache-Control": {"max-age=60"}, "Content-Length": {"3"}}, ContentLength: 3,
			Body: io.NopCloser(strings.NewReader(h.Pool[:3])), Request: r}, nil
	})
	s := newStand(t, cached(t, origin), []SiteConfig{
		{Name: "beta", Hosts: []string{"*"}, Header: map[string]string{"X-Beta": "yes"}, Pool: "beta", PathRegex: "^/(.*)$", Rewrite: "/b/$1"},
		{Name: "all", Hosts: []string{"*"}, Pool: "app", Split: []SplitConfig{{"canary", 50}}, SplitBy: splitRequest},
	})
	rolls := []float64{0.9, 0.1, 0.9, 0.1, 0.9, 0.9}
	s.settings.Roll = func() float64 { f := rolls[0]; rolls = rolls[1:]; return f }
	get := func(fields string) string {
		reply := s.talk(t, "GET /x?q HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n"+fields+"\r\n")
		_, body, _ := strings.Cut(reply, "\r\n\r\n")
		return body
	}
	for i, tt := range []struct{ fields, want string }{
		{"", "app"}, {"", "can"}, {"X-Beta: yes\r\n", "bet"}, {"", "app"}, {"", "can"}, {"X-Beta: yes\r\n", "bet"},
		// Nobody but the site says what the request is for.
		{"Fwdproxy-Site: beta\r\n", "app"}, {"fwdproxy_site: beta\r\n", "app"},
	} {
		if got := get(tt.fields); got != tt.want {
			t.Errorf("request %d: got %q, want %q", i+1, got, tt.want)
		}
	}
	if want := "[app all/app  canary all/canary  beta beta /b/x?q]"; fmt.Sprint(seen) != want {
		t.Errorf("the pools saw %v, want %s", seen, want)
	}
}

func TestASiteAnswersByItself_RFC9110_15_4(t *testing.T) {
	s := newStand(t, never(t), []SiteConfig{
		{Hosts: []string{"*"}, Schemes: []string{"http"}, Path: "/old", Redirect: "https://{host}{uri}", RedirectStatus: 308},
		{Hosts: []string{"*"}, Path: "/down", Respond: &RespondConfig{Status: 503, Body: "<p>Back soon", Type: "text/html"}},
		{Hosts: []string{"*"}, Path: "/none", Respond: &RespondConfig{Status: 204}},
	})
	const tail = " HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
	if got := s.talk(t, "GET /old/x?y=%2f"+tail); status(got) != "308" || field(got, "Location") != "https://a.test/old/x?y=%2f" {
		t.Errorf("the redirect:\n%s", got)
	}
	if got := s.talk(t, "GET /down"+tail); status(got) != "503" || field(got, "Content-Type") != "text/html" || !strings.HasSuffix(got, "\r\n\r\n<p>Back soon") {
		t.Errorf("the page:\n%s", got)
	}
	if got := s.talk(t, "HEAD /down"+tail); status(got) != "503" || field(got, "Content-Length") != "12" || !strings.HasSuffix(got, "\r\n\r\n") {
		t.Errorf("the page's head:\n%s", got)
	}
	if got := s.talk(t, "GET /none"+tail); status(got) != "204" || field(got, "Content-Length") != "" || !strings.HasSuffix(got, "\r\n\r\n") {
		t.Errorf("no content:\n%s", got)
	}
}

func TestAShareOfTheRequestsFailsOrWaits(t *testing.T) {
	site := newSite(SiteConfig{Pool: "app", Fault: &FaultConfig{Percent: 10, Delay: unit.Duration(2 * time.Second), Status: 503}})
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			roll float64
			wait time.Duration
			fail bool
		}{{0.0999, 2 * time.Second, true}, {0.1, 0, false}} {
			begin := time.Now()
			err := site.injected(t.Context(), func() float64 { return tt.roll })
			var f *fault.Error
			if took := time.Since(begin); took != tt.wait || errors.As(err, &f) != tt.fail || tt.fail && f.Status != 503 {
				t.Errorf("%v: after %v, %v", tt.roll, took, err)
			}
		}
	})
}

// twice is a next hop that keeps what reached each pool.
type twice struct {
	mu   sync.Mutex
	seen map[string]string
	sent chan string
}

func (n *twice) RoundTrip(r *http.Request) (*http.Response, error) {
	body := ""
	if r.Body != nil {
		b, _ := io.ReadAll(r.Body)
		body = string(b)
	}
	pool := hop.From(r.Context()).Pool
	n.mu.Lock()
	n.seen[pool] = fmt.Sprintf("%s %s %s %q len=%d body=%d", r.Method, hop.From(r.Context()).Path, r.Header.Get("X-Forwarded-For"), r.Header.Get("Authorization"), r.ContentLength, len(body))
	n.mu.Unlock()
	defer func() { n.sent <- pool }()
	if pool == "shadow" {
		return nil, errors.New("the copy fails")
	}
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Length": {"2"}}, Body: io.NopCloser(strings.NewReader("ok")), ContentLength: 2, Request: r}, nil
}

func TestACopyOfARequestTouchesNothing(t *testing.T) {
	n := &twice{seen: map[string]string{}, sent: make(chan string, 8)}
	s := newStand(t, n, []SiteConfig{{Hosts: []string{"*"}, Path: "/a", StripPrefix: true, Pool: "app", Mirror: &MirrorConfig{"shadow", 50}}})
	s.settings.Door.Direct = n
	s.settings.Mirrors = NewMirrors()
	roll := 0.49
	s.settings.Roll = func() float64 { return roll }
	ask := func(head, body string) {
		t.Helper()
		reply := s.talk(t, head+" HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nAuthorization: me\r\n"+fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body))
		if status(reply) != "200" || !strings.HasSuffix(reply, "ok") {
			t.Errorf("the reply:\n%s", reply)
		}
		if got := <-n.sent; got != "app" {
			t.Errorf("the first was %q", got)
		}
	}
	for _, body := range []string{"", strings.Repeat("x", mirrorBody)} {
		ask("POST /a/b?c", body)
		if got := <-n.sent; got != "shadow" || n.seen["shadow"] != n.seen["app"] {
			t.Errorf("the pools got %v", n.seen)
		}
	}
	ask("POST /a/b", strings.Repeat("x", mirrorBody+1)) // too large
	roll = 0.5
	ask("GET /a/b", "")
	if got := [3]uint64{s.settings.Mirrors.Count(MirrorSent), s.settings.Mirrors.Count(MirrorFailed), s.settings.Mirrors.Count(MirrorDropped)}; got[0] != 0 || got[2] != 1 {
		t.Errorf("counted: %v", got)
	}
	select {
	case got := <-n.sent:
		t.Errorf("another reached %q", got)
	default:
	}
}
