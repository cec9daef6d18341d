package cache

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"fwdproxy/cache/store"
	"fwdproxy/internal/hop"
)

var originAddr = netip.MustParseAddrPort("192.0.2.1:80")

// origin is a scripted next hop. It counts, and remembers what it was asked.
type origin struct {
	mu     sync.Mutex
	asked  []*http.Request
	answer func(n int, req *http.Request) (*http.Response, error) // n counts from 1
}

func (o *origin) RoundTrip(req *http.Request) (*http.Response, error) {
	o.mu.Lock()
	o.asked = append(o.asked, req)
	n := len(o.asked)
	o.mu.Unlock()
	hop.From(req.Context()).Used(originAddr, "DIRECT/192.0.2.1")
	res, err := o.answer(n, req)
	if res != nil {
		res.Request = req
	}
	return res, err
}

func (o *origin) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.asked)
}

func (o *origin) request(n int) *http.Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked[n-1]
}

// fields makes a header from "Name: value" lines.
func fields(lines ...string) http.Header {
	h := http.Header{}
	for _, l := range lines {
		name, value, ok := strings.Cut(l, ":")
		if !ok {
			panic("no colon in " + l)
		}
		h.Add(name, strings.TrimSpace(value))
	}
	return h
}

// response makes a 200 with a Content-Length, unless the lines say otherwise.
func response(status int, body string, lines ...string) *http.Response {
	h := fields(lines...)
	length := int64(len(body))
	if h.Get("Content-Length") == "" && status != 204 && status != 304 {
		h.Set("Content-Length", decimal(length))
	}
	return &http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: h,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: length}
}

// chunked makes a response whose length is not known, from the reader.
func chunked(body io.Reader, lines ...string) *http.Response {
	return &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Header: fields(lines...),
		Body: io.NopCloser(body), ContentLength: -1}
}

// always answers every request alike.
func always(status int, body string, lines ...string) func(int, *http.Request) (*http.Response, error) {
	return func(int, *http.Request) (*http.Response, error) { return response(status, body, lines...), nil }
}

// bench is a cache before a scripted origin.
type bench struct {
	*testing.T
	o     *origin
	c     *Cache
	tr    *Transport
	store *store.Memory
}

func newBench(t *testing.T, answer func(int, *http.Request) (*http.Response, error)) *bench {
	t.Helper()
	m, err := store.NewMemory(16 << 20)
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Memory, cfg.MaxObject = 16<<20, 4<<20
	if p := cfg.Validate(); len(p) > 0 {
		t.Fatal(p)
	}
	b := &bench{T: t, o: &origin{answer: answer}, c: New(m), store: m}
	b.tr = b.c.Transport(cfg, "fwdproxy", b.o)
	return b
}

func permitAll(netip.AddrPort) error { return nil }

// request makes a request; more lines are header fields.
func request(ctx context.Context, method, target string, lines ...string) *http.Request {
	u, err := url.Parse(target)
	if err != nil {
		panic(err)
	}
	return (&http.Request{Method: method, URL: u, Host: u.Host, Header: fields(lines...)}).WithContext(ctx)
}

// reply is what came of one request, read to its end.
type reply struct {
	status  int
	header  http.Header
	body    string
	err     error // of RoundTrip
	bodyErr error
	outcome Outcome
	hopName string
}

func (b *bench) do(method, target string, lines ...string) reply {
	return b.with(&hop.Hop{Permit: permitAll}, method, target, lines...)
}

func (b *bench) with(h *hop.Hop, method, target string, lines ...string) reply {
	var r reply
	ctx := WithOutcome(hop.With(b.Context(), h), &r.outcome)
	res, err := b.tr.RoundTrip(request(ctx, method, target, lines...))
	_, r.hopName = h.Answered()
	if err != nil {
		r.err = err
		return r
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	r.status, r.header, r.body, r.bodyErr = res.StatusCode, res.Header, string(body), err
	return r
}

const page = "http://example.com/page"

func (b *bench) get(lines ...string) reply { b.Helper(); return b.do("GET", page, lines...) }

// want compares one reply in the parts that are given.
func (b *bench) want(r reply, status int, body string, result Result, cacheStatus string) {
	b.Helper()
	if r.err != nil || r.bodyErr != nil {
		b.Fatalf("got errors %v, %v", r.err, r.bodyErr)
	}
	if r.status != status || r.body != body || r.outcome.Result != result || r.outcome.Status != cacheStatus {
		b.Fatalf("got %d %q %q %q\nwant %d %q %q %q", r.status, r.body, r.outcome.Result, r.outcome.Status, status, body, result, cacheStatus)
	}
	if got := r.header["Cache-Status"]; len(got) == 0 || got[len(got)-1] != cacheStatus {
		b.Fatalf("the field Cache-Status is %q, the outcome's %q", got, cacheStatus)
	}
}

func (b *bench) asked(n int) {
	b.Helper()
	if got := b.o.count(); got != n {
		b.Fatalf("the origin was asked %d times, want %d", got, n)
	}
}

func httpDate(t time.Time) string { return t.UTC().Format(http.TimeFormat) }

// plainView sees a response as it is without rules and targeted fields.
var plainView = newView(nil, nil)
