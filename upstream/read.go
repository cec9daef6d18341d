package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/textproto"
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
		res.Header[name] = append(res.Header[name], value)
	}
}

// headReader reads lines and counts their bytes against a bound.
type headReader struct {
	r    *bufio.Reader
	left int
}

// line returns the next line without its end, a copy. A bare LF ends a line as
// well (RFC 9112, Section 2.2); a CR anywhere else is an error.
func (h *headReader) line() ([]byte, error) {
	var whole []byte
	for {
		part, err := h.r.ReadSlice('\n')
		h.left -= len(part)
		if h.left < 0 {
			return nil, fault.New(fault.ResponseHeaderSize, "the head of the next hop's answer is larger than upstream.max_header allows", nil)
		}
		whole = append(whole, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		break
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
	res.Status = strings.TrimSpace(rest)
	return nil
}

// parseField reads one field line. No folded lines, no space before the colon
// (RFC 9112, Section 5.1 and 5.2).
func parseField(line []byte) (name, value string, err error) {
	i := bytes.IndexByte(line, ':')
	if i <= 0 {
		return "", "", malformed("a field line without a name and a colon")
	}
	name = string(line[:i])
	if !httpguts.ValidHeaderFieldName(name) {
		return "", "", malformed("the name of a field")
	}
	value = textproto.TrimString(string(line[i+1:]))
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
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 || s[0] == '+' || s[0] == '-' {
			return framing{}, malformed("Content-Length")
		}
		if i > 0 && n != length {
			return framing{}, malformed("two Content-Lengths that differ")
		}
		length = n
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
