package upstream

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/header"
)

func malformed(what string) error {
	return fault.New(fault.ProtocolError, "the next hop's answer is malformed: "+what, nil)
}

// readHead reads a status line and a header section, strictly (RFC 9112,
// Section 4 and 5): what two parties could read differently is an error.
// answered is set once the first byte is there.
func readHead(r *bufio.Reader, c Config, answered *bool) (*http.Response, error) {
	h := headReader{r: r, left: int(c.MaxHeader)}
	if _, err := r.Peek(1); err != nil {
		return nil, err
	}
	*answered = true
	line, err := h.line()
	if err != nil {
		return nil, err
	}
	res := &http.Response{Header: make(http.Header)}
	if err := parseStatusLine(line, res); err != nil {
		return nil, err
	}
	values := make([]string, 0, 16) // of fields with one line, in one piece
	for fields := 0; ; fields++ {
		line, err := h.line()
		if err != nil {
			return nil, err
		}
		if len(line) == 0 {
			return res, nil
		}
		if fields >= c.MaxHeaders {
			return nil, fault.New(fault.ResponseHeaderSize, "the next hop's answer has more fields than upstream.max_headers allows", nil)
		}
		name, value, err := parseField(line)
		if err != nil {
			return nil, err
		}
		if known := res.Header[name]; known != nil {
			res.Header[name] = append(known, value)
			continue
		}
		values = append(values, value)
		res.Header[name] = values[len(values)-1 : len(values) : len(values)]
	}
}

// headReader reads lines and counts their bytes against a bound.
type headReader struct {
	r    *bufio.Reader
	left int
}

// line returns the next line without its end, valid until the next read. A
// bare LF ends a line as well (RFC 9112, Section 2.2); a CR anywhere else is an
// error.
func (h *headReader) line() ([]byte, error) {
	whole, err := h.r.ReadSlice('\n')
	h.left -= len(whole)
	if err == bufio.ErrBufferFull {
		whole = slices.Clone(whole)
	}
	for err == bufio.ErrBufferFull && h.left >= 0 {
		var part []byte
		part, err = h.r.ReadSlice('\n')
		h.left -= len(part)
		whole = append(whole, part...)
	}
	switch {
	case h.left < 0:
		return nil, fault.New(fault.ResponseHeaderSize, "the head of the next hop's answer is larger than upstream.max_header allows", nil)
	case err == io.EOF:
		return nil, io.ErrUnexpectedEOF
	case err != nil:
		return nil, err
	}
	whole = bytes.TrimSuffix(whole[:len(whole)-1], []byte("\r"))
	if bytes.ContainsAny(whole, "\r\x00") {
		return nil, malformed("a bare CR or a NUL in the head")
	}
	return whole, nil
}

// parseStatusLine reads HTTP/1.0 or 1.1, three digits, and a reason that is
// dropped (RFC 9112, Section 4).
func parseStatusLine(line []byte, res *http.Response) error {
	s := string(line)
	proto, rest, ok := strings.Cut(s, " ")
	if !ok || (proto != "HTTP/1.1" && proto != "HTTP/1.0") {
		return malformed("the status line")
	}
	code, _, _ := strings.Cut(rest, " ")
	n, err := strconv.ParseUint(code, 10, 16)
	if err != nil || len(code) != 3 || n < 100 {
		return malformed("the status code")
	}
	res.Proto, res.ProtoMajor, res.ProtoMinor = proto, 1, int(proto[7]-'0')
	res.StatusCode = int(n)
	res.Status = code + " " + http.StatusText(int(n))
	return nil
}

// parseField reads one field line. No folded lines, no space before the colon
// (RFC 9112, Section 5.1 and 5.2).
func parseField(line []byte) (name, value string, err error) {
	name, value, _ = strings.Cut(string(line), ":")
	if len(name) == 0 || len(name) == len(line) {
		return "", "", malformed("a field line without a name and a colon")
	}
	if !httpguts.ValidHeaderFieldName(name) {
		return "", "", malformed("the name of a field")
	}
	value = textproto.TrimString(value)
	if !httpguts.ValidHeaderFieldValue(value) {
		return "", "", malformed("a control character in a field")
	}
	return textproto.CanonicalMIMEHeaderKey(name), value, nil
}

// framing is how an answer's body ends (RFC 9112, Section 6.3).
type framing struct {
	chunked bool
	length  int64 // -1: in chunks, or until the connection closes
}

// frame decides where the body ends, and refuses what another party could
// decide differently.
func frame(method string, res *http.Response) (framing, error) {
	coding, lengths := res.Header["Transfer-Encoding"], res.Header["Content-Length"]
	length := int64(-1)
	for i, s := range lengths {
		n, err := strconv.ParseUint(s, 10, 63)
		if err != nil {
			return framing{}, malformed("Content-Length")
		}
		if i > 0 && int64(n) != length {
			return framing{}, malformed("two Content-Lengths that differ")
		}
		length = int64(n)
	}
	if len(lengths) > 1 {
		res.Header["Content-Length"] = lengths[:1]
	}
	if len(coding) > 0 {
		switch {
		case len(lengths) > 0:
			return framing{}, malformed("Content-Length beside Transfer-Encoding")
		case res.ProtoMinor == 0:
			return framing{}, malformed("Transfer-Encoding in HTTP/1.0")
		case len(coding) > 1 || !strings.EqualFold(coding[0], "chunked"):
			return framing{}, malformed("a Transfer-Encoding other than chunked")
		}
	}
	if res.StatusCode == http.StatusNoContent {
		delete(res.Header, "Content-Length") // it has none (RFC 9110, Section 8.6)
	}
	switch {
	case method == http.MethodHead, res.StatusCode == http.StatusNoContent, res.StatusCode == http.StatusNotModified:
		return framing{length: 0}, nil
	case len(coding) > 0:
		return framing{chunked: true, length: -1}, nil
	}
	return framing{length: length}, nil
}

// keepsAlive reports whether the connection may take another request (RFC
// 9112, Section 9.3).
func keepsAlive(res *http.Response) bool {
	if header.HasToken(res.Header, "Connection", "close") {
		return false
	}
	return res.ProtoMinor > 0 || header.HasToken(res.Header, "Connection", "keep-alive")
}
