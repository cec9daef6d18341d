package edge

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"fwdproxy/internal/fault"
)

// pageResponse is a rendered error as a response.
func pageResponse(p fault.Page, r *http.Request) *http.Response {
	body := io.NopCloser(bytes.NewReader(p.Body))
	if r.Method == http.MethodHead {
		body = http.NoBody
	}
	return &http.Response{
		StatusCode: p.Status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: p.Header, Body: body, ContentLength: int64(len(p.Body)), Request: r,
	}
}

// announceTrailers names the trailer fields that follow, so that net/http
// frames the body in chunks and sends them (RFC 9110, Section 6.6.2).
func announceTrailers(h http.Header, res *http.Response) {
	if len(res.Trailer) == 0 {
		return
	}
	names := make([]string, 0, len(res.Trailer))
	for name := range res.Trailer {
		names = append(names, name)
	}
	slices.Sort(names)
	h.Set("Trailer", strings.Join(names, ", "))
}

// slowPiece is how much a client has to take in the time of one write.
const slowPiece = 32 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, slowPiece); return &b }}

// copyBody copies until the end or the first failure, which reader and writer
// remember themselves.
func copyBody(w *Writer, r io.Reader) {
	if from, ok := r.(io.WriterTo); ok {
		_, _ = from.WriteTo(w)
		return
	}
	_, _ = copyPieces(w, r)
}

// copyPieces hides ReaderFrom and WriterTo: each piece passes w as it comes.
func copyPieces(w io.Writer, r io.Reader) (int64, error) {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, *b)
}
