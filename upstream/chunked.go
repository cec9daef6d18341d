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

	"fwdproxy/internal/header"
)

const (
	maxChunkLine = 256      // size, extensions and CRLF
	maxTrailer   = 16 << 10 // the whole trailer section
)

// chunkedReader decodes a chunked body (RFC 9112, Section 7.1), strictly: CRLF
// only, hexadecimal sizes only, extensions bounded and dropped.
type chunkedReader struct {
	r       *bufio.Reader
	trailer func(http.Header) // gets the trailer section before the end is reported
	left    int64             // of the chunk
	begun   bool
	err     error
}

func (c *chunkedReader) Read(p []byte) (int, error) {
	if c.err == nil && c.left == 0 {
		c.err = c.next()
	}
	if c.err != nil {
		return 0, c.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	c.err = err
	return n, err
}

// next reads up to the data of the next chunk; io.EOF after the last.
func (c *chunkedReader) next() error {
	if c.begun {
		if line, err := c.line(2); err != nil || len(line) > 0 {
			return orMalformed(err, "no CRLF behind a chunk")
		}
	}
	c.begun = true
	line, err := c.line(maxChunkLine)
	if err != nil {
		return err
	}
	digits, _, extended := bytes.Cut(line, []byte(";"))
	if !extended {
		digits = bytes.TrimRight(digits, " \t") // with which some servers fill the line up
	}
	if len(digits) == 0 || len(digits) > 15 {
		return malformed("the size of a chunk")
	}
	for _, d := range digits {
		if !(d >= '0' && d <= '9' || d >= 'a' && d <= 'f' || d >= 'A' && d <= 'F') {
			return malformed("the size of a chunk")
		}
	}
	c.left, err = strconv.ParseInt(string(digits), 16, 64)
	if err != nil {
		return malformed("the size of a chunk")
	}
	if c.left == 0 {
		return c.end()
	}
	return nil
}

// end reads the trailer section.
func (c *chunkedReader) end() error {
	h, left := make(http.Header), maxTrailer
	for {
		line, err := c.line(left)
		if err != nil {
			return err
		}
		left -= len(line) + 2
		if len(line) == 0 {
			c.trailer(h)
			return io.EOF
		}
		name, value, err := parseField(line)
		if err != nil {
			return err
		}
		h[name] = append(h[name], value)
	}
}

// line returns a line of at most most bytes, CRLF included, without it, valid
// until the next read.
func (c *chunkedReader) line(most int) ([]byte, error) {
	whole, err := c.r.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull, err == nil && len(whole) > most:
		return nil, malformed("a line in a chunked body that does not end")
	case err == io.EOF:
		return nil, io.ErrUnexpectedEOF
	case err != nil:
		return nil, err
	}
	line, ok := bytes.CutSuffix(whole, []byte("\r\n"))
	if !ok || bytes.ContainsAny(line, "\r\x00") {
		return nil, malformed("a bare CR, LF or a NUL in a chunked body")
	}
	return line, nil
}

func orMalformed(err error, what string) error {
	if err != nil {
		return err
	}
	return malformed(what)
}

// noTrailer are fields that a trailer section must not carry: routing,
// modifiers, authentication and control (RFC 9110, Section 6.5.1). Framing is
// hop-by-hop, and what describes the content begins with Content-.
var noTrailer = []string{
	"Age", "Authorization", "Cache-Control", "Cookie", "Date", "Expires", "Host", "Location",
	"Pragma", "Retry-After", "Set-Cookie", "Vary", "Via", "Warning", "Www-Authenticate",
}

// announced returns the fields that Trailer names and that may stand in a
// trailer section, without values, as http.Response wants them; nil for none.
// What is not announced is dropped (RFC 9112, Section 7.1.2).
func announced(h http.Header) http.Header {
	var t http.Header
	for _, name := range header.Tokens(h, "Trailer") {
		name = textproto.CanonicalMIMEHeaderKey(name)
		if allowedTrailer(name) {
			if t == nil {
				t = make(http.Header)
			}
			t[name] = nil
		}
	}
	return t
}

func allowedTrailer(name string) bool {
	if slices.Contains(noTrailer, name) || strings.HasPrefix(name, "Content-") && name != "Content-Digest" {
		return false
	}
	h := http.Header{name: {""}}
	header.RemoveHopByHop(h)
	return len(h) > 0
}

// setTrailer fills in the values of what was announced; the rest is dropped.
func setTrailer(res *http.Response, h http.Header) {
	for name := range res.Trailer {
		if values, ok := h[name]; ok {
			res.Trailer[name] = values
		} else {
			delete(res.Trailer, name)
		}
	}
}

func contentLength(h http.Header) int64 {
	n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
	if err != nil {
		return -1
	}
	return n
}
