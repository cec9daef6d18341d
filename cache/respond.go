package cache

import (
	"io"
	"net/http"
	"strings"
	"time"

	"fwdproxy/cache/store"
)

// fromStore answers with what is stored (RFC 9111, Section 4): 304 to a
// client's own condition that holds, a part to a Range, else the whole. The
// record's header becomes the response's. The error is the store's.
func (t *Transport) fromStore(q *query, e *entry, result Result, st status, now time.Time) (*http.Response, error) {
	h, size := e.rec.header, e.obj.Size
	setAge(h, e.rec, now)
	if notModified(q.req.Header, e.rec) {
		return t.reply(q, http.StatusNotModified, notModifiedHeader(h), http.NoBody, -1, result, st), nil
	}
	if q.req.Method == http.MethodHead {
		return t.reply(q, e.rec.status, h, http.NoBody, size, result, st), nil
	}
	picked, verdict := e.pick(q.req.Header)
	if !e.serves(q.req.Method, q.req.Header) {
		return nil, store.ErrLost
	}
	switch verdict {
	case rangeOutsideAll:
		h = notModifiedHeader(h)
		h["Content-Range"] = []string{"bytes */" + decimal(size)}
		return t.reply(q, http.StatusRequestedRangeNotSatisfiable, h, http.NoBody, 0, result, st), nil
	case partOfBody:
		return t.rangesFromStore(q, e, picked, result, st)
	}
	var body io.ReadCloser = http.NoBody
	if size > 0 {
		var err error
		if body, err = e.obj.Body.Open(0, size); err != nil {
			return nil, err
		}
	}
	return t.reply(q, e.rec.status, h, body, size, result, st), nil
}

// rangesFromStore answers with one part in the body, or with several as
// multipart/byteranges, where no Content-Range belongs in the header (RFC 9110,
// Section 15.3.7).
func (t *Transport) rangesFromStore(q *query, e *entry, picked []slice, result Result, st status) (*http.Response, error) {
	h := e.rec.header
	if len(picked) == 1 {
		s := picked[0]
		body, err := e.obj.Body.Open(s.from, s.at.n)
		if err != nil {
			return nil, err
		}
		h["Content-Range"] = []string{contentRange(s.at, e.obj.Size)}
		return t.reply(q, http.StatusPartialContent, h, body, s.at.n, result, st), nil
	}
	spans := make([]span, len(picked))
	for i, s := range picked {
		spans[i] = s.at
	}
	body, n, contentType, err := multipartBody(e.obj.Body, spans, e.obj.Size, first(h, "Content-Type"))
	if err != nil {
		return nil, err
	}
	h["Content-Type"] = []string{contentType}
	return t.reply(q, http.StatusPartialContent, h, body, n, result, st), nil
}

// reply makes a response and reports it. A length below 0 is not known; it
// goes into Content-Length where a status has one.
func (t *Transport) reply(q *query, code int, h http.Header, body io.ReadCloser, length int64, result Result, st status) *http.Response {
	if length >= 0 && code != http.StatusNoContent {
		h["Content-Length"] = []string{decimal(length)}
	}
	member := st.String(t.name)
	t.sign(h, member)
	report(q.ctx, result, member)
	return &http.Response{
		StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: body, ContentLength: length, Request: q.req,
	}
}

// setAge sets Age to the response's current age (RFC 9111, Section 5.1).
func setAge(h http.Header, r *record, now time.Time) {
	h["Age"] = []string{decimal(int64(r.age(now) / time.Second))}
}

// notModifiedHeader returns what of a stored header a 304 carries: all that
// is not about the body it does not have (RFC 9110, Section 15.4.5).
func notModifiedHeader(h http.Header) http.Header {
	out := make(http.Header, len(h))
	for name, lines := range h {
		if !strings.HasPrefix(name, "Content-") || name == "Content-Location" || strings.HasPrefix(name, "Content-Security-Policy") {
			out[name] = lines
		}
	}
	return out
}
