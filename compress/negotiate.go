package compress

import (
	"net/http"

	"fwdproxy/internal/header"
)

// Identity is no content coding.
const Identity = "identity"

// Choose returns the content coding for a request: the one of encodings that
// its Accept-Encoding likes best, the first of those that it likes equally
// (RFC 9110, Section 12.5.3). It is Identity where there is none, or where
// Accept-Encoding is malformed; "*" counts for what is not named. A client
// that likes identity better than a coding does not get that coding.
func Choose(h http.Header, encodings []string) string {
	named := map[string]int{}
	for _, line := range h["Accept-Encoding"] {
		for e := range header.Elements(line) {
			if e == "" {
				continue
			}
			w, ok := header.ParseWeight(e)
			if !ok {
				return Identity
			}
			if w.Name == "x-gzip" {
				w.Name = "gzip" // RFC 9110, Section 8.4.1.3
			}
			named[w.Name] = w.Q
		}
	}
	best, q := Identity, max(named[Identity], 1)
	for _, e := range encodings {
		liked, ok := named[e]
		if !ok {
			liked = named["*"]
		}
		if liked > q || liked == q && best == Identity {
			best, q = e, liked
		}
	}
	return best
}

// Prepare makes a request ask the pool for what the site wants, and returns
// what the answer shall get: the client's best coding; Identity for a part,
// since parts of different forms must never be put together; "" where the
// client forbids it (RFC 9111, Section 5.2.1.6).
func Prepare(out *http.Request, encodings []string) string {
	if header.HasToken(out.Header, "Cache-Control", "no-transform") {
		return ""
	}
	coding := Identity
	if _, part := out.Header["Range"]; !part && (out.Method == http.MethodGet || out.Method == http.MethodHead) {
		coding = Choose(out.Header, encodings)
	}
	if delete(out.Header, "Accept-Encoding"); coding != Identity {
		out.Header["Accept-Encoding"] = []string{coding}
	}
	return coding
}
