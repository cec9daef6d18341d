package cache

import (
	"maps"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"fwdproxy/cache/store"
)

func TestFieldsOfOneHopOrOneClientAreNotStored(t *testing.T) { // RFC 9111, Section 3.1
	h := fields(`Cache-Control: no-cache="X-A", private="x-b, X-C"`, "Connection: X-Hop", "X-Hop: 1", "Keep-Alive: 1", "Proxy-Authenticate: 1",
		"Proxy-Status: 1", "Te: 1", "Upgrade: 1", "Transfer-Encoding: chunked", "X-A: 1", "X-B: 1", "X-C: 1", "X-D: 1", "Age: 3", "Content-Length: 5", "ETag: x")
	r, _ := newRecord(plainView, nil, 200, h, noon, noon, originAddr)
	if got := slices.Sorted(maps.Keys(r.header)); !slices.Equal(got, []string{"Cache-Control", "Etag", "X-D"}) {
		t.Errorf("stored are %v", got)
	}
	if len(h["X-A"]) == 0 || len(h["Connection"]) == 0 {
		t.Error("the response's own header was changed")
	}
}

func someRecord() *record {
	r, _ := newRecord(plainView, nil, 200, fields("Cache-Control: max-age=5, stale-if-error=7", `ETag: "a"`, "X-Two: 1", "X-Two: 2", "X-Empty:", "X-Text: \xfc"), noon, noon.Add(time.Second), originAddr)
	return r
}

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	for _, r := range []*record{
		someRecord(),
		{status: 599, header: http.Header{}, requested: time.UnixMilli(0), received: time.UnixMilli(math.MaxInt32), lifetime: maxAge.duration(), initialAge: maxAge.duration(),
			source: FromHeuristic, noCache: true, noStale: true, staleIfError: maxAge, staleRevalidate: unset, addr: netip.MustParseAddrPort("[2001:db8::1]:443"),
			mark: mark{log: 1 << 63, began: 7, url: []byte("http://a/"), tags: []byte("0123456789abcdef"), groups: []byte("01234567"), anyTag: true}},
	} {
		got, err := decodeRecord(r.encode())
		if err != nil {
			t.Fatal(err)
		}
		if !maps.EqualFunc(got.header, r.header, slices.Equal) {
			t.Errorf("got %v, want %v", got.header, r.header)
		}
		if string(got.mark.append(nil)) != string(r.mark.append(nil)) || got.mark.began != r.mark.began || got.mark.anyTag != r.mark.anyTag {
			t.Errorf("got %+v, want %+v", got.mark, r.mark)
		}
		if !got.requested.Equal(r.requested) || !got.received.Equal(r.received) {
			t.Errorf("got %v %v", got.requested, got.received)
		}
		a, b := *got, *r
		if a.status != b.status || a.initialAge != b.initialAge || a.lifetime != b.lifetime || a.source != b.source || a.noCache != b.noCache ||
			a.noStale != b.noStale || a.staleIfError != b.staleIfError || a.staleRevalidate != b.staleRevalidate || a.addr != b.addr {
			t.Errorf("got %+v, want %+v", a, b)
		}
	}
}

func TestARecordThatCouldSplitAResponseIsNotRead(t *testing.T) { // hostile case: CR LF in a stored header
	for _, h := range []http.Header{
		{"X": {"a\r\nSet-Cookie: b"}}, {"X": {"a\nb"}}, {"X": {"a\x00"}}, {"X Y": {"a"}}, {"X\r\nY": {"a"}}, {"": {"a"}}, {"X:": {"a"}},
	} {
		r := someRecord()
		r.header = h
		if _, err := decodeRecord(r.encode()); err == nil {
			t.Errorf("%q was read", h)
		}
	}
	b := someRecord().encode()
	for n := range b {
		if _, err := decodeRecord(b[:n]); err == nil {
			t.Errorf("the first %d of %d bytes were read as a record", n, len(b))
		}
	}
	if _, err := decodeRecord(append(b, 0)); err == nil {
		t.Error("a record with a byte too many was read")
	}
}

func FuzzRecord(f *testing.F) {
	f.Add(someRecord().encode())
	f.Add([]byte{})
	f.Add([]byte{recordVersion, 0, 0, 200, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b)
		if err != nil {
			return
		}
		for name, lines := range r.header {
			for _, l := range lines {
				if strings.ContainsAny(name+l, "\r\n\x00") {
					t.Fatalf("%q: %q", name, l)
				}
			}
		}
		again, err := decodeRecord(r.encode())
		if err != nil || !maps.EqualFunc(again.header, r.header, slices.Equal) || again.lifetime != r.lifetime || again.addr != r.addr {
			t.Fatalf("%v: got %+v, want %+v", err, again, r)
		}
	})
}

func FuzzPrimary(f *testing.F) {
	p := newPrimary()
	p.put([]string{"Accept", "Foo"})
	p.put(nil)
	p.admit(store.Key{1})
	f.Add(p.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := decodePrimary(b)
		if !ok {
			return
		}
		again, ok := decodePrimary(p.encode())
		if !ok || again.nonce != p.nonce || len(again.sets) != len(p.sets) || !again.alone.Equal(p.alone) || !slices.Equal(again.variants, p.variants) {
			t.Fatalf("got %+v, want %+v", again, p)
		}
	})
}

func TestAPrimaryAdmitsSoManyVariantsAndLetsTheOldestGo(t *testing.T) { // hostile case: variants are capped
	p := newPrimary()
	for i := range maxVariants {
		if _, full := p.admit(store.Key{byte(i)}); full {
			t.Fatalf("full at %d", i)
		}
	}
	if _, full := p.admit(store.Key{0}); full {
		t.Error("one that is there already makes another go")
	}
	out, full := p.admit(store.Key{200})
	if !full || out != (store.Key{1}) || len(p.variants) != maxVariants*len(out) {
		t.Errorf("%v went (%v), %d bytes stay", out, full, len(p.variants))
	}
	if again, ok := decodePrimary(p.encode()); !ok || !slices.Equal(again.variants, p.variants) {
		t.Error("the variants are not read as they were written")
	}
	if len(p.encode()) > 4<<10 {
		t.Errorf("a full primary takes %d bytes", len(p.encode()))
	}
}

func TestAPrimaryRemembersTheLatestSetsOfVary(t *testing.T) {
	p := newPrimary()
	for _, n := range manyNames(20) {
		p.put([]string{n})
	}
	p.put([]string{"f15"})
	if len(p.sets) != maxVarySets || p.sets[0][0] != "f15" || p.sets[1][0] != "f19" || p.sets[7][0] != "f12" {
		t.Errorf("got %v", p.sets)
	}
}

func TestA304UpdatesTheStoredFieldsButNotThoseOfTheBody(t *testing.T) { // RFC 9111, Section 3.2
	r, _ := newRecord(plainView, nil, 200, fields("Cache-Control: max-age=5", `ETag: "a"`, "Content-Type: a/b", "Content-Encoding: gzip", "Set-Cookie: a", "X-Old: 1", "X-Two: 1", "X-Two: 2"), noon, noon, originAddr)
	later := noon.Add(time.Minute)
	next, refusal := freshen(plainView, nil, plainRequest, r, fields("Cache-Control: public, max-age=50", `ETag: "a"`, "Content-Type: c/d", "Content-Encoding: br", "Content-Length: 7", "Content-Range: x",
		"Set-Cookie: b", "Connection: X-Hop", "X-Hop: 1", "X-Two: 3", "Content-Foo: 1", "Age: 4"), later, later)
	want := fields("Cache-Control: public, max-age=50", `ETag: "a"`, "Content-Type: a/b", "Content-Encoding: gzip", "Set-Cookie: a", "X-Old: 1", "X-Two: 3", "Content-Foo: 1", "Date: "+httpDate(later))
	if refusal != "" || !maps.EqualFunc(next.header, want, slices.Equal) {
		t.Errorf("got %v, %q\nwant %v", next.header, refusal, want)
	}
	if next.lifetime != 50*time.Second || next.initialAge != 4*time.Second || !next.received.Equal(later) {
		t.Errorf("got %+v", next)
	}
	if r.header.Get("X-Two") != "1" {
		t.Error("the stored record was changed in place")
	}
}

func FuzzFreshen(f *testing.F) {
	f.Add("Cache-Control", "no-store", "Content-Length", "5")
	f.Add("Connection", "Content-Type", "Content-Type", "x")
	f.Add("Cache-Control", `no-cache="Content-Type"`, "Set-Cookie", "a")
	f.Fuzz(func(t *testing.T, n1, v1, n2, v2 string) {
		r, _ := newRecord(plainView, nil, 200, fields("Cache-Control: max-age=5", `ETag: "a"`, "Content-Type: a/b", "Content-Encoding: gzip"), noon, noon, originAddr)
		h := http.Header{}
		h.Add(n1, v1)
		h.Add(n2, v2)
		next, _ := freshen(plainView, nil, plainRequest, r, h, noon, noon)
		for _, name := range []string{"Content-Type", "Content-Encoding"} {
			if next.header.Get(name) != r.header.Get(name) {
				t.Fatalf("%s changed to %q", name, next.header.Get(name))
			}
		}
		for _, name := range []string{"Content-Length", "Content-Range", "Set-Cookie", "Connection", "Age", "Transfer-Encoding"} {
			if len(next.header[name]) > 0 {
				t.Fatalf("%s came in", name)
			}
		}
		if next.status != 200 || next.addr != r.addr {
			t.Fatal("status or address changed")
		}
		again, _ := freshen(plainView, nil, plainRequest, next, h, noon, noon)
		if !maps.EqualFunc(again.header, next.header, slices.Equal) || again.lifetime != next.lifetime || again.initialAge != next.initialAge {
			t.Fatalf("the same 304 again makes %v of %v", again.header, next.header)
		}
	})
}
