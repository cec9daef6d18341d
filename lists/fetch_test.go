package lists

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fwdproxy/internal/fault"
)

// publisher is a list's server, whose next answer is set by the test.
type publisher struct {
	*httptest.Server
	answer func(http.ResponseWriter, *http.Request)
	asked  []http.Header
}

func publish(t *testing.T) *publisher {
	p := &publisher{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked = append(p.asked, r.Header)
		p.answer(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *publisher) says(text string) {
	p.answer = func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
}

func fetcher(t *testing.T) *Fetcher {
	return &Fetcher{
		Copies:    Copies{Dir: filepath.Join(t.TempDir(), "copies")},
		Transport: &http.Transport{DisableCompression: true},
		Permit:    func(netip.AddrPort) error { return nil },
		Agent:     "test",
		Now:       func() time.Time { return time.Unix(1_000_000, 0).UTC() },
		Examine: func(r io.Reader) (Content, error) {
			text, err := io.ReadAll(r)
			wrong := bytes.Count(text, []byte("!"))
			return Content{bytes.Count(text, []byte("\n")) - wrong, wrong}, err
		},
	}
}

func copyOf(t *testing.T, f *Fetcher, url string) string {
	t.Helper()
	in, err := f.Copies.Open(url)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	text, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func packed(text string) string {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	io.WriteString(w, text)
	w.Close()
	return out.String()
}

func lines(n int) string { return strings.Repeat("a.test\n", n) }

func TestADownloadThatIsNoListLeavesTheCopyAsItWas(t *testing.T) {
	send := func(status int, fields, body string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			for field := range strings.SplitSeq(fields, ",") {
				if name, value, ok := strings.Cut(field, ": "); ok {
					w.Header().Set(name, value)
				}
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	for name, tt := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		want   string
	}{
		"an error":               {send(500, "", lines(40)), "the server answers 500 Internal Server Error"},
		"a page":                 {send(200, "", "\ufeff\n <html>"), "it is a page (HTML or XML), not a list; perhaps a network asks for a login"},
		"nothing":                {send(200, "", ""), "it has no entry"},
		"less than half":         {send(200, "", lines(19)), "it has 19 entries and had 40; to take it all the same remove "},
		"garbage":                {send(200, "", lines(20)+strings.Repeat("!\n", 11)), "11 lines are no entries, and 20 are"},
		"no answer to a 304":     {send(304, "", ""), ""}, // there is a copy, and so it is one
		"a part":                 {send(206, "", lines(40)), "the server answers 206 Partial Content"},
		"cut off":                {send(200, "Content-Length: 1000", lines(40)), "unexpected EOF"},
		"compressed and cut off": {send(200, "Content-Encoding: gzip", packed(lines(40))[:20]), "unexpected EOF"},
		"another coding":         {send(200, "Content-Encoding: br", lines(40)), `the server answers in the coding "br"`},
		"a redirect to nowhere":  {send(302, "", ""), "the server answers 302 Found"},
		"a redirect elsewhere":   {send(302, "Location: ftp://a.test/", ""), `scheme "ftp" is not served here; http and https are`},
		"a circle":               {send(302, "Location: /", ""), "the server redirects more than 4 times"},
	} {
		p, f := publish(t), fetcher(t)
		p.says(lines(40))
		if changed, err := f.Fetch(t.Context(), p.URL); !changed || err != nil {
			t.Fatal(changed, err)
		}
		p.answer = tt.answer
		changed, err := f.Fetch(t.Context(), p.URL)
		if changed || tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)) || tt.want == "" && err != nil {
			t.Errorf("%s: %v, %v; want %q", name, changed, err, tt.want)
		}
		if copyOf(t, f, p.URL) != lines(40) {
			t.Errorf("%s: the copy is gone", name)
		}
		if left, _ := filepath.Glob(filepath.Join(f.Copies.Dir, "*")); len(left) != 2 {
			t.Errorf("%s: %q", name, left)
		}
	}
}

func TestANewListReplacesTheCopy(t *testing.T) {
	p, f := publish(t), fetcher(t)
	for _, text := range []string{lines(30), lines(15), lines(8), lines(1), lines(2)} {
		p.says(text)
		if changed, err := f.Fetch(t.Context(), p.URL); !changed || err != nil {
			t.Fatal(changed, err)
		}
		if copyOf(t, f, p.URL) != text {
			t.Errorf("the copy is not %q", text)
		}
	}
	if changed, err := f.Fetch(t.Context(), p.URL); changed || err != nil {
		t.Errorf("the same again: %v, %v", changed, err)
	}
}

func TestCompressedListsAreUnpackedOnce(t *testing.T) {
	p, f := publish(t), fetcher(t)
	for name, answer := range map[string]func(w http.ResponseWriter){
		"coding": func(w http.ResponseWriter) {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, packed(lines(3)))
		},
		"file": func(w http.ResponseWriter) { io.WriteString(w, packed(lines(3))) },
		"file and coding": func(w http.ResponseWriter) {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, packed(packed(lines(3))))
		},
	} {
		p.answer = func(w http.ResponseWriter, _ *http.Request) { answer(w) }
		if _, err := f.Fetch(t.Context(), p.URL); err != nil || copyOf(t, f, p.URL) != lines(3) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAListIsAskedForWithItsValidators_RFC9110_13_1(t *testing.T) {
	p, f := publish(t), fetcher(t)
	p.answer = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(304)
			return
		}
		io.WriteString(w, lines(3))
	}
	for i, want := range []bool{true, false} {
		if changed, err := f.Fetch(t.Context(), p.URL); changed != want || err != nil {
			t.Errorf("%d: %v, %v", i, changed, err)
		}
	}
	if len(p.asked) != 2 || p.asked[0].Get("If-None-Match") != "" || p.asked[1].Get("If-Modified-Since") != "Mon, 02 Jan 2006 15:04:05 GMT" {
		t.Errorf("asked %v", p.asked)
	}
	// A damaged copy is no copy, and is asked for anew.
	n, err := f.Copies.Note(p.URL)
	if err != nil || !n.Checked.Equal(f.Now()) {
		t.Fatal(n, err)
	}
	if err := os.WriteFile(filepath.Join(f.Copies.Dir, n.Content), []byte("b.test\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if copyOf(t, f, p.URL) != "" {
		t.Error("a damaged copy is opened")
	}
	if changed, err := f.Fetch(t.Context(), p.URL); !changed || err != nil || copyOf(t, f, p.URL) != lines(3) {
		t.Errorf("%v, %v", changed, err)
	}
}

func TestA304WithoutACopyIsAnError(t *testing.T) {
	p, f := publish(t), fetcher(t)
	p.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }
	if _, err := f.Fetch(t.Context(), p.URL); err == nil {
		t.Error("no error")
	}
}

type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

func TestAFaultIsToldForPeople(t *testing.T) {
	f := fetcher(t)
	f.Transport = failing{&fault.Error{Kind: fault.DestinationIPProhibited, Details: "private"}}
	if _, err := f.Fetch(t.Context(), "http://a.test/"); fmt.Sprint(err) != "destination_ip_prohibited: private" {
		t.Error(err)
	}
}

func TestARedirectDoesNotLeaveTLS(t *testing.T) {
	f := fetcher(t)
	f.Transport = answering{http.Header{"Location": {"http://a.test/"}}}
	if _, err := f.Fetch(t.Context(), "https://a.test/"); fmt.Sprint(err) != "the server redirects from https to http" {
		t.Error(err)
	}
}

type answering struct{ header http.Header }

func (a answering) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 302, Header: a.header, Body: http.NoBody}, nil
}

func TestWhatAnEndedProcessLeftIsRemoved(t *testing.T) {
	f := fetcher(t)
	p := publish(t)
	p.says(lines(3))
	if _, err := f.Fetch(t.Context(), p.URL); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.Copies.Dir, "new-1"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f.Copies.Clean()
	if left, _ := filepath.Glob(filepath.Join(f.Copies.Dir, "*")); len(left) != 2 || copyOf(t, f, p.URL) == "" {
		t.Errorf("%q", left)
	}
}
