package cache

import (
	"context"
	"io"
	"net/http"
	"testing"

	"fwdproxy/cache/store"
	"fwdproxy/internal/hop"
)

func benchTransport(b *testing.B, answer func(int, *http.Request) (*http.Response, error)) (*Transport, *http.Request) {
	b.Helper()
	m, err := store.NewMemory(256 << 20)
	if err != nil {
		b.Fatal(err)
	}
	o := roundTripper(func(req *http.Request) (*http.Response, error) {
		hop.From(req.Context()).Used(originAddr, "DIRECT/192.0.2.1")
		return answer(1, req)
	})
	req := request(hop.With(context.Background(), &hop.Hop{Permit: permitAll}), "GET", page,
		"Accept: */*", "Accept-Encoding: gzip, deflate, br", "Accept-Language: en", "User-Agent: Mozilla/5.0 (X11; Linux x86_64)", "Via: 1.1 fwdproxy")
	return New(m).Transport(DefaultConfig(), "fwdproxy", o), req
}

func roundTrip(b *testing.B, tr *Transport, req *http.Request) {
	res, err := tr.RoundTrip(req)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		b.Fatal(err)
	}
	res.Body.Close()
}

var benchLines = []string{"Content-Type: text/html; charset=utf-8", `ETag: "5f3e-1a2b"`, "Last-Modified: Sun, 01 Mar 2026 12:00:00 GMT",
	"Server: nginx", "Date: Sun, 01 Mar 2026 12:00:00 GMT", "Via: 1.1 fwdproxy"}

func BenchmarkHit(b *testing.B) {
	for name, lines := range map[string][]string{"plain": nil, "vary": {"Vary: Accept-Encoding"}} {
		b.Run(name, func(b *testing.B) {
			lines := append(append([]string{"Cache-Control: max-age=2147483647"}, lines...), benchLines...)
			tr, req := benchTransport(b, always(200, string(make([]byte, 1024)), lines...))
			roundTrip(b, tr, req)
			b.ReportAllocs()
			for b.Loop() {
				roundTrip(b, tr, req)
			}
		})
	}
}

func BenchmarkMiss(b *testing.B) {
	for name, control := range map[string]string{"stored": "Cache-Control: max-age=0", "not stored": "Cache-Control: no-store"} {
		b.Run(name, func(b *testing.B) {
			tr, req := benchTransport(b, always(200, string(make([]byte, 1024)), append([]string{control}, benchLines...)...))
			b.ReportAllocs()
			for b.Loop() {
				roundTrip(b, tr, req)
			}
		})
	}
}
