package conform

import (
	"bufio"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fwdproxy/internal/proxytest"
)

// scene is an origin whose seconds are short and a proxy made of a func, which
// gets each request and the means to ask the origin.
type scene struct {
	Player
	cases []Case
}

// proxyFunc answers one request; forward asks the origin and returns all that
// it sends.
type proxyFunc func(q asked, forward func() []byte) []byte

func newScene(t *testing.T, serve proxyFunc) *scene {
	t.Helper()
	cases, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	o, err := StartOrigin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	o.second = time.Millisecond
	addr := proxytest.Server(t, func(c net.Conn, r *bufio.Reader) { relay(c, r, o.Addr, serve) })
	return &scene{Player{Proxy: Proxy{Addr: addr, Origin: o.Addr}, Origin: o}, cases}
}

// relay reads one request from the client and writes what serve makes of it.
func relay(client net.Conn, r *bufio.Reader, origin string, serve proxyFunc) {
	start, h, err := readHead(r)
	if err != nil {
		return
	}
	body, err := readBody(r, h, false)
	if err != nil {
		return
	}
	words := strings.Fields(start)
	q := asked{words[0], strings.TrimPrefix(words[1], "http://"+origin), h}
	client.Write(serve(q, func() []byte {
		out := head{{"Via", "1.1 test"}, {"Connection", "close"}}
		for _, l := range h {
			if !strings.EqualFold(l.name, "Connection") {
				out = append(out, l)
			}
		}
		c, err := net.Dial("tcp", origin)
		if err != nil {
			return nil
		}
		defer c.Close()
		c.Write(append(encode(q.method+" "+q.target+" HTTP/1.1", out), body...))
		answer, _ := io.ReadAll(c)
		return []byte(strings.ReplaceAll(string(answer), "\r\n\r\n", "\r\nVia: 1.1 test\r\n\r\n"))
	}))
}

// passThrough is a proxy that stores nothing.
func passThrough(_ asked, forward func() []byte) []byte { return forward() }

func (s *scene) play(t *testing.T) *Report {
	t.Helper()
	results, err := s.Play(s.cases)
	if err != nil {
		t.Fatal(err)
	}
	return NewReport(s.cases, results)
}

func TestAProxyThatStoresNothingScoresWhatTheSuiteSays(t *testing.T) {
	report := newScene(t, passThrough).play(t)
	// Of the whole suite, of which the data are a part: 22 of 160 and 0 of 105.
	if got, want := report.Summary(), "required 19/119 optimal 0/84"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := report.Raw(Required).String(), "69/119"; got != want {
		t.Errorf("raw required %s, want %s", got, want)
	}
	var text strings.Builder
	report.Write(&text, "pass-through")
	for _, want := range []string{
		"pass-through: required 19/119 optimal 0/84\n",
		"(RFC 9213): required 3/7 optimal 0/5\n",
		"never makes: required 0/7\n",
		"optimal  optional_fail    freshness-max-age: response 2: not from the cache (status 200, Server-Request-Count: 2)\n",
		"required dependency_fail  vary-no-match: needs vary-match, which is dependency_fail; it holds by itself\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
}

func TestAProxyThatDoesWrongIsFoundOut(t *testing.T) {
	for _, c := range []struct {
		wrong string
		serve proxyFunc
		id    string
		want  Verdict
	}{
		{"it answers by itself", func(asked, func() []byte) []byte {
			return []byte("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		}, "cc-resp-no-store", SetupFail},
		{"it sends twice", func(_ asked, forward func() []byte) []byte { forward(); return forward() }, "cc-resp-no-store", RetryFail},
		{"it closes", func(asked, func() []byte) []byte { return nil }, "cc-resp-no-store", Fail},
		{"it never answers", func(asked, func() []byte) []byte { time.Sleep(time.Second); return nil }, "cc-resp-no-store", HarnessFail},
		{"it makes a field up", func(_ asked, forward func() []byte) []byte {
			return []byte(strings.Replace(string(forward()), "no-store", "no-stare", 1))
		}, "cc-resp-no-store", SetupFail},
		{"it shortens a body", func(_ asked, forward func() []byte) []byte {
			b := forward()
			return []byte(strings.Replace(string(b[:len(b)-1]), "Content-Length: 36", "Content-Length: 35", 1))
		}, "cc-resp-no-store", SetupFail},
	} {
		t.Run(c.wrong, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, c.serve)
			s.Proxy.abort = 500 * time.Millisecond
			s.cases = slices.DeleteFunc(s.cases, func(k Case) bool { return k.ID != c.id })
			if v := s.play(t).verdicts[c.id]; v != c.want {
				t.Errorf("%s is %s, want %s", c.id, v, c.want)
			}
			right := newScene(t, passThrough)
			right.cases = s.cases
			if v := right.play(t).verdicts[c.id]; !v.Good() {
				t.Errorf("done right, %s is %s", c.id, v)
			}
		})
	}
}

func TestAProbeTellsAProxyFromNone(t *testing.T) {
	s := newScene(t, passThrough)
	if err := s.Proxy.Probe(); err != nil {
		t.Errorf("through a proxy: %v", err)
	}
	if err := (Proxy{Addr: s.Origin.Addr}).Probe(); err == nil || !strings.Contains(err.Error(), "no proxy") {
		t.Errorf("straight to the origin: %v", err)
	}
}

func TestACacheThatKeepsEverythingForeverFails(t *testing.T) {
	var mu sync.Mutex
	stored := map[string][]byte{}
	report := newScene(t, func(q asked, forward func() []byte) []byte {
		mu.Lock()
		b, ok := stored[q.target]
		mu.Unlock()
		if ok {
			return b
		}
		b = forward()
		mu.Lock()
		stored[q.target] = b
		mu.Unlock()
		return b
	}).play(t)
	if v := report.verdicts["freshness-none"]; v != No {
		t.Errorf("freshness-none: %s", v)
	}
	if n := report.Score(Required).Good; n != 0 {
		t.Errorf("%d required cases pass", n)
	}
	// What is reused comes with the fields of the connection that it came on.
	if f := report.results["headers-store-Connection"]; f.Failure != nil || f.AsMeant == nil {
		t.Errorf("a stored Connection passes: %v, %v", f.Failure, f.AsMeant)
	}
}

func TestLockStepMakesARoundOfRequestsAtATime(t *testing.T) {
	var inFlight, rounds atomic.Int64
	s := newScene(t, func(_ asked, forward func() []byte) []byte {
		inFlight.Add(1)
		defer inFlight.Add(-1)
		return forward()
	})
	s.Between = func() error {
		rounds.Add(1)
		if n := inFlight.Load(); n != 0 {
			t.Errorf("%d requests are in flight between rounds", n)
		}
		return nil
	}
	step := s.play(t)
	if n := rounds.Load(); n != 2 {
		t.Errorf("%d times between, for cases of three requests", n)
	}
	s.Between = nil
	if free := s.play(t); free.Summary() != step.Summary() {
		t.Errorf("in lock step %s, else %s", step.Summary(), free.Summary())
	}
	s.Between = func() error { return errors.New("no restart") }
	if _, err := s.Play(s.cases); err == nil || err.Error() != "no restart" {
		t.Errorf("Play returned %v", err)
	}
}
