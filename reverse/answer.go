package reverse

import (
	"io"
	"net/http"
	"strconv"
	"strings"
)

// answer is what the site says without asking anybody.
func (s *Site) answer(r *http.Request, a *Asked) *http.Response {
	res := &http.Response{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody, Request: r}
	if s.Redirect != "" {
		res.StatusCode = s.RedirectStatus
		if res.StatusCode == 0 {
			res.StatusCode = http.StatusFound
		}
		res.Header.Set("Location", s.redirect.location(a))
		res.Header.Set("Content-Length", "0")
		return res
	}
	res.StatusCode = s.Respond.Status
	if res.StatusCode == http.StatusNoContent || res.StatusCode == http.StatusNotModified {
		return res
	}
	kind := s.Respond.Type
	if kind == "" {
		kind = "text/plain; charset=utf-8"
	}
	res.Header.Set("Content-Type", kind)
	res.Header.Set("Content-Length", strconv.Itoa(len(s.Respond.Body)))
	res.ContentLength = int64(len(s.Respond.Body))
	if r.Method != http.MethodHead {
		res.Body = io.NopCloser(strings.NewReader(s.Respond.Body))
	}
	return res
}
