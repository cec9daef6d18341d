package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// port is a handler whose state the test sets.
type port struct {
	http.Handler
	ready, reload, purge error
	reloads, purges      int
}

func newPort(t *testing.T) *port {
	t.Helper()
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "fwdproxy_things_total", Help: "Things."})
	reg.MustRegister(c)
	c.Add(3)
	p := &port{}
	p.Handler = Handler(Options{
		Gatherer: reg,
		Ready:    func() error { return p.ready },
		Reload:   func() ([]string, error) { p.reloads++; return []string{`rule "a" added`}, p.reload },
		Purge: func(r *http.Request) (any, error) {
			p.purges++
			return map[string]string{"what": r.URL.Query().Get("tag")}, p.purge
		},
		Explain: func(r *http.Request) (any, error) {
			if r.FormValue("url") == "" {
				return nil, errors.New("url is missing")
			}
			return map[string]string{"url": r.FormValue("url"), "method": r.FormValue("method"), "from": r.FormValue("from")}, nil
		},
		Info: func() any { return map[string]string{"mode": "forward"} },
	})
	return p
}

func (p *port) do(method, path string, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	r.Host = "127.0.0.1:3130"
	for _, f := range edit {
		f(r)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

func host(s string) func(*http.Request) { return func(r *http.Request) { r.Host = s } }

func mark(r *http.Request) { r.Header.Set("Fwdproxy-Admin", "1") }

func TestEveryEndpointAnswers(t *testing.T) {
	p := newPort(t)
	for _, c := range []struct {
		method, path, kind, want string
		status                   int
	}{
		{"GET", "/healthz", "text/plain", "ok\n", 200},
		{"HEAD", "/healthz", "text/plain", "", 200},
		{"GET", "/readyz", "text/plain", "ok\n", 200},
		{"GET", "/metrics", "text/plain", "fwdproxy_things_total 3\n", 200},
		{"GET", "/api/info", "application/json", `"mode": "forward"`, 200},
		{"GET", "/api/explain?url=http://a/&method=PUT&from=10.0.0.1", "application/json",
			`{"from":"10.0.0.1","method":"PUT","url":"http://a/"}`, 200},
		{"GET", "/api/explain", "application/json", `{"error":"url is missing"}`, 400},
		{"GET", "/", "text/html", `<a href="/api/explain">`, 200},
		{"GET", "/nothing", "text/plain", "not found", 404},
		{"GET", "/api/", "text/plain", "not found", 404},
		{"GET", "/healthz/", "text/plain", "not found", 404},
	} {
		w := p.do(c.method, c.path)
		body := w.Body.String()
		if strings.HasPrefix(c.want, "{") {
			body = compact(t, body)
		}
		if w.Code != c.status || !strings.HasPrefix(w.Header().Get("Content-Type"), c.kind) || !strings.Contains(body, c.want) {
			t.Errorf("%s %s: %d %s %q, want %d %s with %q", c.method, c.path,
				w.Code, w.Header().Get("Content-Type"), body, c.status, c.kind, c.want)
		}
		for _, name := range []string{"X-Content-Type-Options", "X-Frame-Options", "Content-Security-Policy", "Cross-Origin-Resource-Policy"} {
			if w.Header().Get(name) == "" {
				t.Errorf("%s %s has no %s", c.method, c.path, name)
			}
		}
		if w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s %s lets other sites read it", c.method, c.path)
		}
	}
}

func compact(t *testing.T, s string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatalf("%v in %q", err, s)
	}
	b, _ := json.Marshal(v)
	return string(b)
}

func TestReadinessTellsTheReason(t *testing.T) {
	p := newPort(t)
	p.ready = errors.New("draining")
	if w := p.do("GET", "/readyz"); w.Code != 503 || w.Body.String() != "draining\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	if w := p.do("GET", "/healthz"); w.Code != 200 {
		t.Errorf("a process that drains lives: %d", w.Code)
	}
}

func TestPurgeTellsWhatItDidOrWhoseFaultItIs(t *testing.T) {
	p := newPort(t)
	for _, c := range []struct {
		err    error
		status int
		want   string
	}{
		{nil, 200, `{"what":"a"}`},
		{errors.New("no such tag"), 400, `{"error":"no such tag"}`},
		{fmt.Errorf("%w: disk full", ErrInternal), 500, `{"error":"the proxy failed: disk full"}`},
	} {
		p.purge = c.err
		if w := p.do("POST", "/api/purge?tag=a", mark); w.Code != c.status || compact(t, w.Body.String()) != c.want {
			t.Errorf("%d %q, want %d %s", w.Code, w.Body, c.status, c.want)
		}
	}
	if w := p.do("POST", "/api/purge?tag=a"); w.Code != 403 || p.purges != 3 {
		t.Errorf("without the mark: %d, and %d purges", w.Code, p.purges)
	}
}

func TestReloadTellsWhetherTheNewPolicyIsInForce(t *testing.T) {
	p := newPort(t)
	if w := p.do("POST", "/api/reload", mark); w.Code != 200 || compact(t, w.Body.String()) != `{"changes":["rule \"a\" added"],"ok":true}` {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	p.reload = errors.New("line 3: acl.rule[0].to[1]: no such list")
	w := p.do("POST", "/api/reload", mark)
	if w.Code != 422 || compact(t, w.Body.String()) != `{"error":"line 3: acl.rule[0].to[1]: no such list"}` {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

func TestAPageOfAnotherSiteCanChangeNothing(t *testing.T) {
	p := newPort(t)
	for name, edit := range map[string]func(*http.Request){
		"no mark":       func(*http.Request) {},
		"an empty mark": func(r *http.Request) { r.Header.Set("Fwdproxy-Admin", "") },
		"a form":        func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") },
		"another mark":  func(r *http.Request) { r.Header.Set("Fwdproxy-Admin", "true") },
	} {
		if w := p.do("POST", "/api/reload", edit); w.Code != 403 {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	preflight := p.do("OPTIONS", "/api/reload", func(r *http.Request) {
		r.Header.Set("Origin", "http://evil.example")
		r.Header.Set("Access-Control-Request-Method", "POST")
		r.Header.Set("Access-Control-Request-Headers", "fwdproxy-admin")
	})
	if preflight.Code != 405 || preflight.Header().Get("Access-Control-Allow-Headers") != "" {
		t.Errorf("a preflight got %d %v", preflight.Code, preflight.Header())
	}
	if p.reloads != 0 {
		t.Errorf("%d reloads", p.reloads)
	}
}

func TestTheWrongMethodGets405WithAllow_RFC9110_15_5_6(t *testing.T) {
	p := newPort(t)
	for _, c := range [][3]string{
		{"GET", "/api/reload", "POST"},
		{"POST", "/healthz", "GET, HEAD"},
		{"DELETE", "/metrics", "GET, HEAD"},
		{"PUT", "/api/explain", "GET, HEAD"},
		{"POST", "/", "GET, HEAD"},
	} {
		w := p.do(c[0], c[1], mark)
		if w.Code != 405 || w.Header().Get("Allow") != c[2] {
			t.Errorf("%s %s: %d, Allow %q, want 405 and %q", c[0], c[1], w.Code, w.Header().Get("Allow"), c[2])
		}
	}
	if p.reloads != 0 {
		t.Errorf("%d reloads", p.reloads)
	}
}

func TestANameThatDNSCouldRebindIsMisdirected_RFC9110_15_5_20(t *testing.T) {
	p := newPort(t)
	for _, h := range []string{"", "127.0.0.1", "127.0.0.1:3130", "[::1]", "[::1]:3130", "localhost", "LOCALHOST:3130", "10.1.2.3:80"} {
		if w := p.do("GET", "/api/info", host(h)); w.Code != 200 {
			t.Errorf("Host %q: %d", h, w.Code)
		}
	}
	for _, h := range []string{
		"evil.example", "evil.example:3130", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.1.nip.io:3130",
		"localhost:3130@evil.example", "evil.example#127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "localhost.", "::1",
	} {
		w := p.do("POST", "/api/reload", host(h), mark)
		if w.Code != 421 {
			t.Errorf("Host %q: %d", h, w.Code)
		}
		if strings.Contains(w.Body.String(), "evil") {
			t.Errorf("Host %q is reflected: %q", h, w.Body)
		}
	}
	if p.reloads != 0 {
		t.Errorf("%d reloads", p.reloads)
	}
}

func TestWhatIsNotGivenIsNotOffered(t *testing.T) {
	p := &port{Handler: Handler(Options{})}
	for path, want := range map[string]int{
		"/healthz": 200, "/readyz": 200, "/": 200,
		"/metrics": 404, "/api/info": 404, "/api/explain": 404, "/api/reload": 404,
	} {
		if w := p.do("GET", path); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
	if body := p.do("GET", "/").Body.String(); strings.Contains(body, "/api/") {
		t.Errorf("the page lists what is not there: %s", body)
	}
}

func TestAnAnswerThatIsNoJSONIs500(t *testing.T) {
	p := &port{Handler: Handler(Options{Info: func() any { return math.NaN() }})}
	if w := p.do("GET", "/api/info"); w.Code != 500 || !strings.Contains(compact(t, w.Body.String()), `{"error":`) {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}
