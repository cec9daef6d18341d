package compress

import (
	"mime"
	"net/http"
	"slices"
	"strings"

	"fwdproxy/internal/header"
	"fwdproxy/internal/hop"
)

// Transport is next with its answers encoded as their hop says.
type Transport struct {
	config Config
	next   http.RoundTripper
}

// New returns a Transport for what Validate found right.
func New(c Config, next http.RoundTripper) *Transport { return &Transport{c, next} }

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.next.RoundTrip(req)
	h := hop.From(req.Context())
	if err != nil || h == nil || h.Encode == "" {
		return res, err
	}
	if res.StatusCode == http.StatusNotModified {
		weakenLikeAsked(res.Header, req.Header)
		return res, nil
	}
	if !t.worth(res) {
		return res, nil
	}
	if !header.HasToken(res.Header, "Vary", "Accept-Encoding") && !header.HasToken(res.Header, "Vary", "*") {
		res.Header.Add("Vary", "Accept-Encoding")
	}
	if h.Encode == Identity || res.StatusCode == http.StatusPartialContent {
		return res, nil
	}
	whole := res.Header
	live := res.ContentLength < 0
	res.ContentLength = -1
	whole.Set("Content-Encoding", h.Encode)
	// They are about the bytes as they were (RFC 9110, Section 8.8.3.3; RFC 9530).
	for _, name := range []string{"Content-Length", "Accept-Ranges", "Content-Md5", "Digest", "Content-Digest", "Repr-Digest"} {
		delete(whole, name)
	}
	weaken(whole)
	if req.Method != http.MethodHead {
		res.Body = encode(res.Body, h.Encode, live)
	}
	return res, nil
}

// worth reports whether the answer is one that is encoded.
func (t *Transport) worth(res *http.Response) bool {
	switch res.StatusCode {
	case http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusPartialContent, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
	default:
		return false
	}
	if len(res.Header["Content-Encoding"]) > 0 || header.HasToken(res.Header, "Cache-Control", "no-transform") {
		return false
	}
	if res.ContentLength >= 0 && res.ContentLength < int64(t.config.MinSize) && res.StatusCode != http.StatusPartialContent {
		return false
	}
	kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	family, _, _ := strings.Cut(kind, "/")
	return err == nil && (slices.Contains(t.config.Types, kind) || kind != "text/event-stream" && slices.Contains(t.config.Types, family+"/*"))
}

// weaken makes the answer's entity tag a weak one: another form has it too (RFC
// 9110, Section 8.8.1).
func weaken(h http.Header) {
	if tag := h.Get("Etag"); strings.HasPrefix(tag, `"`) {
		h.Set("Etag", "W/"+tag)
	}
}

// weakenLikeAsked makes the tag of a 304 the weak one that the request asked
// with, so that what is stored under that is freshened (RFC 9111, Section
// 4.3.4).
func weakenLikeAsked(h, asked http.Header) {
	weak := "W/" + h.Get("Etag")
	for _, line := range asked["If-None-Match"] {
		for e := range header.Elements(line) {
			if e == weak {
				h.Set("Etag", weak)
				return
			}
		}
	}
}
