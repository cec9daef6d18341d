package cache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fwdproxy/cache/store"
)

// ranged is an origin that answers one range, on If-Range's condition.
type ranged struct {
	body  string
	tag   string
	total string // in place of the length in Content-Range
	more  []string
}

func (o *ranged) answer(_ int, req *http.Request) (*http.Response, error) {
	lines := append([]string{"Cache-Control: max-age=100"}, o.more...)
	if o.tag != "" {
		lines = append(lines, "ETag: "+o.tag)
	}
	if t := req.Header.Get("If-None-Match"); t != "" && t == o.tag {
		return response(304, "", lines...), nil
	}
	specs, ok := parseRange(req.Header["Range"])
	if t := req.Header.Get("If-Range"); !ok || len(specs) > 1 || t != "" && t != o.tag {
		return response(200, o.body, lines...), nil
	}
	s, ok := specs[0].of(int64(len(o.body)))
	if !ok {
		return response(416, "", fmt.Sprintf("Content-Range: bytes */%d", len(o.body))), nil
	}
	line := contentRange(s, int64(len(o.body)))
	if o.total != "" {
		line = line[:strings.IndexByte(line, '/')+1] + o.total
	}
	return response(206, o.body[s.off:s.end()], append(lines, "Content-Range: "+line)...), nil
}

// part asks for a range and returns whether the origin had to be asked.
func (b *bench) part(want, rng string, lines ...string) (asked bool) {
	b.Helper()
	before := b.o.count()
	r := b.get(append(lines, "Range: bytes="+rng)...)
	if r.status != 206 || r.body != want || r.err != nil || r.bodyErr != nil {
		b.Fatalf("bytes=%s: got %d %q, %v, %v, want %q", rng, r.status, r.body, r.err, r.bodyErr, want)
	}
	return b.o.count() > before
}

func TestAStoredPartAnswersTheRangesThatLieInItAndNothingElse(t *testing.T) { // RFC 9111, Section 3.3
	for _, tag := range []string{`"a"`, `W/"a"`, ""} {
		o := &ranged{body: "0123456789", tag: tag}
		b := newBench(t, o.answer)
		if !b.part("2345", "2-5") {
			t.Fatal("it came from nowhere")
		}
		for rng, want := range map[string]string{"2-5": "2345", "3-3": "3", "4-5": "45"} {
			if b.part(want, rng) {
				t.Errorf("%s %s: the origin was asked", tag, rng)
			}
		}
		if r := b.get("Range: bytes=2-3", "Cache-Control: only-if-cached"); r.status != 206 || r.header.Get("Content-Range") != "bytes 2-3/10" || r.outcome.Result != Hit {
			t.Errorf("%s: got %+v", tag, r)
		}
		for _, lines := range [][]string{
			{}, {"Range: bytes=0-2"}, {"Range: bytes=5-6"}, {"Range: bytes=3-"}, {"Range: bytes=-4"}, {"Range: bytes=20-"},
			{"Range: bytes=2-3,9-9"}, {"Range: bytes=3-2"}, {"Range: bytes=2-3", `If-Range: "b"`}, {`If-None-Match: "a"`},
		} {
			if r := b.get(append(lines, "Cache-Control: only-if-cached")...); r.err == nil {
				t.Errorf("%s %v: answered with %d %q", tag, lines, r.status, r.body)
			}
		}
		if r := b.do("HEAD", page, "Cache-Control: only-if-cached"); r.err == nil {
			t.Errorf("%s: HEAD is answered with %d", tag, r.status)
		}
		if r := b.get("Range: bytes=0-2"); r.outcome.Status != "fwdproxy; fwd=partial; stored" {
			t.Errorf("%s: Cache-Status is %q", tag, r.outcome.Status)
		}
	}
}

func TestPartsThatMakeUpTheWholeAreTheWhole(t *testing.T) { // RFC 9110, Section 15.3.7.3
	o := &ranged{body: "0123456789", tag: `"a"`, more: []string{"X-A: 1"}}
	b := newBench(t, o.answer)
	b.tr.cfg.RangeFill = 0
	b.part("6789", "-4")
	b.part("0123", "0-3")
	b.part("345678", "3-8")
	b.want(b.get(), 200, "0123456789", Hit, "fwdproxy; hit; ttl=99")
	if r := b.do("HEAD", page); r.status != 200 || r.header.Get("Content-Length") != "10" || r.header.Get("Content-Range") != "" {
		t.Errorf("HEAD: got %+v", r)
	}
	if r := b.get("Range: bytes=10-"); r.status != 416 || r.header.Get("Content-Range") != "bytes */10" {
		t.Errorf("outside: got %+v", r)
	}
	b.asked(3)
}

func TestAStalePartIsValidatedAndA304FreshensIt(t *testing.T) { // RFC 9111, Section 4.3.4
	synctest.Test(t, func(t *testing.T) {
		o := &ranged{body: "0123456789", tag: `"a"`}
		b := newBench(t, o.answer)
		b.part("2345", "2-5")
		time.Sleep(200 * time.Second)
		b.want(b.get("Range: bytes=3-4"), 206, "34", RefreshUnchanged, "fwdproxy; fwd=stale; fwd-status=304; ttl=100")
		b.want(b.get("Range: bytes=3-4"), 206, "34", Hit, "fwdproxy; hit; ttl=100")
		o.tag, o.body = `"b"`, "abcdefghij"
		time.Sleep(200 * time.Second)
		b.want(b.get("Range: bytes=3-4"), 206, "de", RefreshModified, "fwdproxy; fwd=stale; stored")
		if r := b.get("Range: bytes=2-2", "Cache-Control: only-if-cached"); r.err == nil {
			t.Errorf("the old part is still there: %q", r.body)
		}
	})
}

func TestAPartIsStoredOnlyWhereItsWholeMightBe(t *testing.T) { // RFC 9111, Section 3
	for _, lines := range [][]string{
		{"Cache-Control: no-store"}, {"Cache-Control: private"}, {"Set-Cookie: a=b"}, {"Vary: *"},
		{"Content-Range: bytes 9-1/10"}, {"Content-Range: bytes 0-3/4", "Content-Range: bytes 0-3/4"}, {"Content-Range: items 0-3/10"},
		{"Content-Type: multipart/byteranges; boundary=x"}, {"Content-Range: bytes 0-2/10"},
	} {
		b := newBench(t, func(int, *http.Request) (*http.Response, error) {
			r := response(206, "0123", append([]string{`ETag: "a"`}, lines...)...)
			if r.Header.Get("Cache-Control") == "" {
				r.Header.Set("Cache-Control", "max-age=100")
			}
			if r.Header.Get("Content-Range") == "" {
				r.Header.Set("Content-Range", "bytes 0-3/10")
			}
			return r, nil
		})
		for range 2 {
			if asked := b.part("0123", "0-3"); !asked {
				t.Errorf("%v is stored", lines)
			}
		}
	}
	b := newBench(t, always(206, "0123", "Cache-Control: max-age=100", `ETag: "a"`, "Content-Range: bytes 0-3/10"))
	b.get() // a 206 that nobody asked for
	if r := b.get("Range: bytes=0-1", "Cache-Control: only-if-cached"); r.err == nil {
		t.Errorf("it was stored")
	}
}

func TestAnUnsafeRequestRemovesParts(t *testing.T) { // RFC 9111, Section 4.4
	o := &ranged{body: "0123456789", tag: `"a"`}
	b := newBench(t, o.answer)
	b.part("0123", "0-3")
	b.do("POST", page)
	if !b.part("01", "0-1") {
		t.Error("it is still there")
	}
}

func TestAWholeThatBreaksOffIsAPart(t *testing.T) { // RFC 9111, Section 3.3
	for _, tag := range []string{`ETag: "a"`, `ETag: W/"a"`, "X: y"} {
		o := &ranged{body: "0123456789", tag: `"a"`}
		b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
			if n > 1 {
				return o.answer(n, req)
			}
			r := response(200, "0123", "Cache-Control: max-age=100", tag, "Content-Length: 10")
			r.ContentLength, r.Body = 10, io.NopCloser(io.MultiReader(strings.NewReader("0123"), errReader{errReset}))
			return r, nil
		})
		if r := b.get(); !errors.Is(r.bodyErr, errReset) {
			t.Fatalf("got %q, %v", r.body, r.bodyErr)
		}
		r := b.get()
		if r.status != 200 || r.body != o.body {
			t.Errorf("%s: got %d %q", tag, r.status, r.body)
		}
		if got, want := b.o.request(2).Header.Get("Range"), tag == `ETag: "a"`; (got == "bytes=4-") != want {
			t.Errorf("%s: asked with Range %q", tag, got)
		}
	}
}

var errReset = errors.New("reset")

func TestSeveralRangesAreSentAsMultipart(t *testing.T) { // RFC 9110, Section 14.6
	body := make([]byte, 300<<10)
	for i := range body {
		body[i] = byte(i * 7 / 5)
	}
	b := newBench(t, always(200, string(body), "Cache-Control: max-age=100", "Content-Type: text/x"))
	b.get()
	r := b.get("Range: bytes=200000-299999,0-9,-5")
	kind, params, err := mime.ParseMediaType(r.header.Get("Content-Type"))
	if err != nil || r.status != 206 || kind != "multipart/byteranges" || r.header.Get("Content-Range") != "" || r.header.Get("Content-Length") != decimal(int64(len(r.body))) {
		t.Fatalf("got %d %v, %v", r.status, r.header, err)
	}
	m := multipart.NewReader(strings.NewReader(r.body), params["boundary"])
	size := int64(len(body))
	for _, s := range []span{{200000, 100000}, {0, 10}, {size - 5, 5}} {
		p, err := m.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(p)
		if err != nil || !bytes.Equal(got, body[s.off:s.end()]) || p.Header.Get("Content-Range") != contentRange(s, size) || p.Header.Get("Content-Type") != "text/x" {
			t.Errorf("%v: got %d bytes, %v, %v", s, len(got), p.Header, err)
		}
	}
	if _, err := m.NextPart(); err != io.EOF {
		t.Errorf("more parts: %v", err)
	}
	b.asked(1)
}

// Whatever arrives in whatever order, a range is answered with its bytes or
// not at all.
// stored is what is found for a plain GET.
func (b *bench) stored() found {
	u := request(b.Context(), "GET", page).URL
	return b.c.lookup(KeyOf(u).hash(), u, "", http.Header{}, time.Now())
}

func TestThePiecesOfABodyStayFew(t *testing.T) {
	o := &ranged{body: strings.Repeat("0123456789abcdef", 200<<10/16), tag: `"a"`}
	b := newBench(t, o.answer)
	b.tr.cfg.RangeFill = 0
	listed := func() int {
		return len(b.stored().entry.parts.pieces)
	}
	for i := range 100 {
		b.part(o.body[i*1024:(i+1)*1024], fmt.Sprintf("%d-%d", i*1024, i*1024+1023))
	}
	if n := listed(); n != 1 {
		t.Errorf("100 ranges one after the other are %d pieces", n)
	}
	for i := range 99 {
		at := 102500 + i*1000
		b.part(o.body[at:at+10], fmt.Sprintf("%d-%d", at, at+9))
	}
	if n := listed(); n != maxPieces {
		t.Errorf("there are %d pieces", n)
	}
}

func TestAPieceThatIsLostIsAMissAndNotAnError(t *testing.T) {
	o := &ranged{body: "0123456789", tag: `"a"`}
	b := newBench(t, o.answer)
	b.tr.cfg.RangeFill = 0
	b.part("0123", "0-3")
	e := b.stored().entry
	b.store.Delete(e.parts.pieces[0].key())
	if !b.part("12", "1-2") {
		t.Error("it came from nowhere")
	}
	if b.part("12", "1-2") {
		t.Error("it is not stored again")
	}
}

func TestTheStoredListOfPiecesIsReadAsItWasWritten(t *testing.T) {
	r, _ := newRecord(plainView, http.Header{}, 200, fields("Cache-Control: max-age=1", `ETag: "a"`), noon, noon, originAddr)
	e := &entry{rec: r, parts: &parts{total: 1000, asks: 3, pieces: []piece{{span{5, 10}, [16]byte{1}}, {span{500, 500}, [16]byte{2}}}}}
	head := e.encode(r)
	rec, p, err := decodeStored(head)
	if err != nil || fmt.Sprint(p) != fmt.Sprint(e.parts) || first(rec.header, "Etag") != `"a"` {
		t.Fatalf("got %v, %v", p, err)
	}
	for i := range head {
		if _, _, err := decodeStored(head[:i]); err == nil {
			t.Errorf("cut after %d bytes it is read", i)
		}
	}
}

func FuzzStoredParts(f *testing.F) {
	r, _ := newRecord(plainView, http.Header{}, 200, fields("Cache-Control: max-age=1"), noon, noon, originAddr)
	f.Add((&entry{rec: r, parts: &parts{total: 9, asks: 1, pieces: []piece{{span: span{0, 5}}}}}).encode(r))
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, p, err := decodeStored(b)
		if err != nil || p == nil {
			return
		}
		e := &entry{rec: rec, parts: p, obj: store.Object{Size: p.total}}
		for _, h := range []http.Header{{"Range": {"bytes=0-5"}}, {"Range": {"bytes=-5"}}, {"Range": {"bytes=3-"}}, {}} {
			e.serves("GET", h)
		}
		if p.total >= 0 {
			if g := p.gap(); g.off < 0 || g.n < 0 || g.end() > p.total {
				t.Fatalf("%v: the gap is %v", p, g)
			}
		}
	})
}

func TestRequestsOfEveryKindGoOnInParallelWhenAResponseIsNotForSharing(t *testing.T) { // RFC 9111, Section 4
	for _, line := range []string{"Cache-Control: private", "Cache-Control: no-store", "Vary: *"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(n int, req *http.Request) (*http.Response, error) {
				time.Sleep(time.Second)
				return response(200, decimal(int64(n)), line, `ETag: "a"`), nil
			})
			began := time.Now()
			go b.get()
			synctest.Wait()
			replies := make(chan reply)
			go func() { replies <- b.get("Range: bytes=0-0") }()
			go func() { replies <- b.do("HEAD", page) }()
			go func() { replies <- b.get(`If-None-Match: "b"`) }()
			for range 3 {
				if r := <-replies; r.status != 200 || r.body == "1" || r.outcome.Result == Hit {
					t.Errorf("%s: got %+v", line, r)
				}
			}
			if took := time.Since(began); took != 2*time.Second {
				t.Errorf("%s: it took %v", line, took)
			}
			b.asked(4)
		})
	}
}
