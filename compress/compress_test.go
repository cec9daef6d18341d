package compress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"fwdproxy/internal/hop"
)

func TestAClientGetsTheCodingThatItLikesBest_RFC9110_12_5_3(t *testing.T) {
	ours := []string{"zstd", "br", "gzip"}
	for accept, want := range map[string]string{
		"":                               Identity,
		"gzip, deflate, br, zstd":        "zstd",
		"gzip, deflate, br":              "br",
		"GZIP":                           "gzip",
		"x-gzip":                         "gzip",
		"br;q=0.5, gzip;q=0.8":           "gzip",
		"br;q=0.5, gzip;q=0.5":           "br",
		"*":                              "zstd",
		"*;q=0.1, br;q=0":                "zstd",
		"zstd;q=0, *":                    "br",
		"*;q=0":                          Identity,
		"gzip;q=0":                       Identity,
		"identity, gzip;q=0.5":           Identity,
		"identity;q=0.5, gzip;q=0.5":     "gzip",
		"identity;q=0.5, gzip":           "gzip",
		"identity;q=0":                   Identity,
		"deflate, compress":              Identity,
		"gzip;q=2":                       Identity,
		"gzip;q=0.0001":                  Identity,
		"gzip, br;level=11":              Identity,
		"gz ip":                          Identity,
		"gzip;q=0.001":                   "gzip",
		" br ; q=1.000 ,, gzip;q=0.999 ": "br",
	} {
		h := http.Header{}
		if accept != "" {
			h["Accept-Encoding"] = []string{accept}
		}
		if got := Choose(h, ours); got != want {
			t.Errorf("%q: got %s, want %s", accept, got, want)
		}
	}
	if got := Choose(http.Header{"Accept-Encoding": {"br;q=0.1", "gzip"}}, ours); got != "gzip" {
		t.Errorf("two lines: %s", got)
	}
}

func TestAPoolIsAskedForTheChoiceAlone(t *testing.T) {
	for _, tt := range []struct {
		method, field, value string
		want, accept         string
	}{
		{"GET", "", "", "br", "br"},
		{"HEAD", "", "", "br", "br"},
		{"POST", "", "", Identity, ""},
		{"GET", "Range", "bytes=0-1", Identity, ""},
		{"GET", "Cache-Control", "max-age=0, No-Transform", "", "gzip, br"},
	} {
		r := &http.Request{Method: tt.method, Header: http.Header{"Accept-Encoding": {"gzip, br"}}}
		if tt.field != "" {
			r.Header[tt.field] = []string{tt.value}
		}
		if got := Prepare(r, []string{"br", "gzip"}); got != tt.want || r.Header.Get("Accept-Encoding") != tt.accept {
			t.Errorf("%+v: got %q, asks for %q", tt, got, r.Header["Accept-Encoding"])
		}
	}
}

type answer func(*http.Request) *http.Response

func (f answer) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

// ask sends a GET, or what method says, for an answer with the fields and body.
func ask(t *testing.T, method, coding string, status int, body string, fields ...string) *http.Response {
	t.Helper()
	h := http.Header{}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		h.Add(name, value)
	}
	res := &http.Response{StatusCode: status, Header: h, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}
	req, _ := http.NewRequestWithContext(hop.With(t.Context(), &hop.Hop{Encode: coding}), method, "http://a.test/", nil)
	got, err := New(DefaultConfig(), answer(func(*http.Request) *http.Response { return res })).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func decode(t *testing.T, coding string, r io.Reader) (string, error) {
	t.Helper()
	switch coding {
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			return "", err
		}
		r = z
	case "br":
		r = brotli.NewReader(r)
	case "zstd":
		z, err := zstd.NewReader(r)
		if err != nil {
			return "", err
		}
		defer z.Close()
		r = z
	}
	b, err := io.ReadAll(r)
	return string(b), err
}

var page = strings.Repeat("<p>all work and no play</p>\n", 4000)

func TestAnAnswerIsEncodedAndSaysSo_RFC9110_8_4(t *testing.T) {
	for _, coding := range []string{"gzip", "br", "zstd", "gzip", "br", "zstd"} { // twice, with coders that were used
		res := ask(t, "GET", coding, 200, page, "Content-Type: text/html; charset=utf-8", "Content-Length: 112000", `Etag: "a"`, "Accept-Ranges: bytes", "Vary: Cookie", "Content-Digest: sha-256=:x:")
		got, err := decode(t, coding, res.Body)
		if err != nil || got != page || res.Body.Close() != nil {
			t.Errorf("%s: %d bytes came back, %v", coding, len(got), err)
		}
		if s := fmt.Sprint(res.Header); s != `map[Content-Encoding:[`+coding+`] Content-Type:[text/html; charset=utf-8] Etag:[W/"a"] Vary:[Cookie Accept-Encoding]]` || res.ContentLength != -1 {
			t.Errorf("%s: %s, %d", coding, s, res.ContentLength)
		}
	}
}

func TestHeadSaysWhatGetWould_RFC9110_9_3_2(t *testing.T) {
	req, _ := http.NewRequestWithContext(hop.With(t.Context(), &hop.Hop{Encode: "br"}), "HEAD", "http://a.test/", nil)
	res, err := New(DefaultConfig(), answer(func(*http.Request) *http.Response {
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/css"}, "Content-Length": {"5000"}, "Etag": {`"x"`}}, ContentLength: 5000, Body: http.NoBody}
	})).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(res.Body); len(b) > 0 || err != nil || res.ContentLength != -1 || res.Header.Get("Content-Length") != "" || res.Header.Get("Content-Encoding") != "br" || res.Header.Get("Etag") != `W/"x"` {
		t.Errorf("got %v, %d bytes, %v", res.Header, len(b), err)
	}
}

func TestWhatIsNotToBeEncodedStaysAsItIs(t *testing.T) {
	const css = "Content-Type: text/css"
	for name, tt := range map[string]struct {
		coding, body string
		status       int
		fields       []string
		vary         bool
	}{
		"encoded already":         {"gzip", page, 200, []string{css, "Content-Encoding: br"}, false},
		"no-transform":            {"gzip", page, 200, []string{css, "Cache-Control: max-age=1, no-transform"}, false},
		"an image":                {"gzip", page, 200, []string{"Content-Type: image/png"}, false},
		"events":                  {"gzip", page, 200, []string{"Content-Type: text/event-stream"}, false},
		"no type":                 {"gzip", page, 200, nil, false},
		"a malformed type":        {"gzip", page, 200, []string{"Content-Type: text/css; ="}, false},
		"short":                   {"gzip", "x", 200, []string{css}, false},
		"an error":                {"gzip", page, 500, []string{css}, false},
		"a part":                  {"identity", page[:5], 206, []string{css, "Content-Range: bytes 0-4/112000"}, true},
		"a part, unasked":         {"gzip", page[:5], 206, []string{css, "Content-Range: bytes 0-4/112000"}, true},
		"for a client with none":  {"identity", page, 200, []string{css}, true},
		"for a site without it":   {"", page, 200, []string{css}, false},
		"Vary: * says it already": {"identity", page, 200, []string{css, "Vary: *"}, false},
	} {
		fields := append([]string{`Etag: "a"`, "Content-Length: " + fmt.Sprint(len(tt.body))}, tt.fields...)
		res := ask(t, "GET", tt.coding, tt.status, tt.body, fields...)
		b, _ := io.ReadAll(res.Body)
		if string(b) != tt.body || res.Header.Get("Etag") != `"a"` || res.ContentLength != int64(len(tt.body)) {
			t.Errorf("%s: it was changed: %v", name, res.Header)
		}
		if got := res.Header.Get("Vary") == "Accept-Encoding"; got != tt.vary {
			t.Errorf("%s: Vary is %q", name, res.Header["Vary"])
		}
	}
}

func TestA304FreshensTheFormThatWasAskedAbout_RFC9111_4_3_4(t *testing.T) {
	for asked, want := range map[string]string{`W/"a"`: `W/"a"`, `"b", W/"a"`: `W/"a"`, `"a"`: `"a"`, `W/"b"`: `"a"`, "": `"a"`} {
		req, _ := http.NewRequestWithContext(hop.With(t.Context(), &hop.Hop{Encode: "br"}), "GET", "http://a.test/", nil)
		req.Header.Set("If-None-Match", asked)
		res, _ := New(DefaultConfig(), answer(func(*http.Request) *http.Response {
			return &http.Response{StatusCode: 304, Header: http.Header{"Etag": {`"a"`}}, Body: http.NoBody}
		})).RoundTrip(req)
		if got := res.Header.Get("Etag"); got != want {
			t.Errorf("asked with %s: got %s, want %s", asked, got, want)
		}
	}
}

// trickle gives its pieces one at a time and tells before it waits for more.
type trickle struct {
	pieces []string
	end    error
	asked  func(left int)
}

func (r *trickle) Read(p []byte) (int, error) {
	if r.asked != nil {
		r.asked(len(r.pieces))
	}
	if len(r.pieces) == 0 {
		return 0, r.end
	}
	n := copy(p, r.pieces[0])
	r.pieces = r.pieces[1:]
	return n, nil
}

func (r *trickle) Close() error { return nil }

func TestAStreamGoesOutPieceByPiece(t *testing.T) {
	for coding := range coders {
		var got bytes.Buffer
		src := &trickle{pieces: []string{"one ", "two ", "three"}, end: io.EOF}
		e := encode(src, coding, true)
		p := make([]byte, 4096)
		for want := 1; want <= 3; want++ {
			n, err := e.Read(p)
			if err != nil || len(src.pieces) != 3-want {
				t.Fatalf("%s: piece %d took %d pieces, %v", coding, want, 3-len(src.pieces), err)
			}
			got.Write(p[:n])
			// What is out by now says all that came in.
			if text, _ := decode(t, coding, bytes.NewReader(got.Bytes())); text != strings.Join([]string{"one ", "two ", "three"}[:want], "") {
				t.Errorf("%s: after piece %d a client has %q", coding, want, text)
			}
		}
		rest, err := io.ReadAll(e)
		got.Write(rest)
		if text, derr := decode(t, coding, &got); err != nil || derr != nil || text != "one two three" {
			t.Errorf("%s: in the end %q, %v, %v", coding, text, err, derr)
		}
	}
}

func TestABodyThatBreaksOffDoesNotLookWhole_RFC9112_8(t *testing.T) {
	broken := errors.New("broken")
	for coding := range coders {
		e := encode(&trickle{pieces: []string{page[:1000]}, end: broken}, coding, true)
		b, err := io.ReadAll(e)
		if err != broken {
			t.Errorf("%s: %v", coding, err)
		}
		if _, err := decode(t, coding, bytes.NewReader(b)); len(b) > 0 && err == nil {
			t.Errorf("%s: the %d bytes that came decode as if they were whole", coding, len(b))
		}
		e.Close()
		if _, err := e.Read(make([]byte, 1)); err != broken {
			t.Errorf("%s: after Close: %v", coding, err)
		}
	}
}

// closing ends its Read when it is closed.
type closing struct{ closed chan struct{} }

func (c closing) Read([]byte) (int, error) { <-c.closed; return 0, io.ErrUnexpectedEOF }
func (c closing) Close() error             { close(c.closed); return nil }

func TestCloseEndsAReadThatWaits(t *testing.T) {
	e := encode(closing{make(chan struct{})}, "gzip", true)
	done := make(chan error)
	go func() { _, err := e.Read(make([]byte, 1)); done <- err }()
	e.Close()
	if err := <-done; err == nil {
		t.Error("the read went well")
	}
}

func TestManyBodiesAtOnceAreNotMixedUp(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			coding := []string{"gzip", "br", "zstd"}[i%3]
			for range 10 {
				want := strings.Repeat(fmt.Sprint(i, " "), r.IntN(20_000))
				e := encode(io.NopCloser(strings.NewReader(want)), coding, r.IntN(2) == 0)
				if r.IntN(4) == 0 { // one that is given up
					io.CopyN(io.Discard, e, 10)
					e.Close()
					continue
				}
				if got, err := decode(t, coding, e); err != nil || got != want {
					t.Errorf("%s: %d bytes for %d, %v", coding, len(got), len(want), err)
				}
				e.Close()
			}
		})
	}
	wg.Wait()
}

func TestTheTableIsChecked(t *testing.T) {
	c := Config{Encodings: []string{"br", "deflate", "br"}, Types: []string{"text/html", "*/*", "Text/html", "text", "text/html; a=b", "text/event-stream", "text/*"}}
	want := "reverse.compress.encodings[1] reverse.compress.encodings[2] reverse.compress.types[1] reverse.compress.types[2] reverse.compress.types[3] reverse.compress.types[4] reverse.compress.types[5] "
	var got strings.Builder
	for _, p := range c.Validate() {
		got.WriteString(p.Key + " ")
	}
	if got.String() != want {
		t.Errorf("got  %s\nwant %s", got.String(), want)
	}
	if p := DefaultConfig().Validate(); len(p) > 0 {
		t.Errorf("of the defaults: %v", p)
	}
}

func FuzzChoose(f *testing.F) {
	for _, s := range []string{"gzip, br;q=0.5", "*;q=0", "identity;q=1, *", "gzip;q=", ",,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		got := Choose(http.Header{"Accept-Encoding": {accept}}, []string{"br", "gzip"})
		if got != Identity && got != "br" && got != "gzip" {
			t.Errorf("%q: %q", accept, got)
		}
		if got != Identity && !strings.Contains(strings.ToLower(accept), got) && !strings.Contains(accept, "*") {
			t.Errorf("%q gets %q, which it does not name", accept, got)
		}
	})
}
