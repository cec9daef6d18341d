package http1

import (
	"bytes"

	"fwdproxy/internal/edge"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/target"
)

// Head is a request's head that is well formed. Its slices are parts of the
// connection's buffer.
type Head struct {
	Raw    []byte // all of it, with the empty line
	Method []byte
	Target []byte
	Host   []byte // nil where there is none, in HTTP/1.0
	Minor  int    // of the version, 0 or 1
}

// span is a part of the head, by offsets: the buffer may move while the head
// comes in.
type span struct{ start, end int }

func (s span) of(b []byte) []byte { return b[s.start:s.end] }

// parser reads a head, line by line as it comes in (RFC 9112, Section 3 and
// 5). Each byte is looked at once.
type parser struct {
	line   int // where the line begins that is not complete yet
	seen   int // up to where there is no LF
	fields int

	method, target, host span
	minor                int
	hasHost              bool
	coding, lengths      int // lines of Transfer-Encoding and of Content-Length
	length               int64
	codingFault          *fault.Error
	trailer              bool // Trailer names what frames the message
}

// advance reads the complete lines of b, which begins with the head, and
// returns the head's length once it is all there, 0 before.
func (h *parser) advance(b []byte, l *edge.Limits) (int, *fault.Error) {
	for {
		i := bytes.IndexByte(b[h.seen:], '\n')
		if i < 0 {
			h.seen = len(b)
			return 0, h.unfinished(b, l)
		}
		start, end := h.line, h.seen+i
		h.line, h.seen = end+1, end+1
		if start == 0 && end > int(l.RequestLine) {
			return 0, errRequestLine
		}
		if h.line > int(l.HeaderSize) {
			return 0, errHeadSize
		}
		if end == start || b[end-1] != '\r' {
			return 0, errBareLF
		}
		end--
		var err *fault.Error
		switch {
		case start == 0:
			err = h.requestLine(b[:end])
		case end == start:
			return h.line, h.complete()
		default:
			if h.fields++; h.fields > l.HeaderCount {
				return 0, errHeadCount
			}
			err = h.field(b, start, end)
		}
		if err != nil {
			return 0, err
		}
	}
}

// unfinished returns what can be said against a head that has not come whole.
func (h *parser) unfinished(b []byte, l *edge.Limits) *fault.Error {
	switch {
	case h.line > 0 && len(b) > int(l.HeaderSize):
		return errHeadSize
	case h.line > 0 || len(b) == 0:
		return nil
	case !token[b[0]]:
		return errRequestLineForm // TLS, most often
	case len(b) > int(l.RequestLine):
		return errRequestLine
	}
	return nil
}

// requestLine reads method SP target SP version (RFC 9112, Section 3): single
// spaces, and nothing else that could be one.
func (h *parser) requestLine(b []byte) *fault.Error {
	i := 0
	for i < len(b) && token[b[i]] {
		i++
	}
	h.method = span{0, i}
	if i == 0 || i == len(b) || b[i] != ' ' {
		return errRequestLineForm
	}
	i++
	h.target.start = i
	for i < len(b) && visible[b[i]] {
		i++
	}
	h.target.end = i
	if i == h.target.start || i == len(b) || b[i] != ' ' {
		return errRequestLineForm
	}
	if err := h.version(b[i+1:]); err != nil {
		return err
	}
	return checkTarget(h.method.of(b), h.target.of(b))
}

// version reads HTTP/1.0 or HTTP/1.1 (RFC 9112, Section 2.3).
func (h *parser) version(v []byte) *fault.Error {
	if len(v) != len("HTTP/1.1") || string(v[:5]) != "HTTP/" || !digit(v[5]) || v[6] != '.' || !digit(v[7]) {
		return errRequestLineForm
	}
	if v[5] != '1' || v[7] > '1' {
		return errVersion
	}
	h.minor = int(v[7] - '0')
	return nil
}

// field reads one field line (RFC 9112, Section 5).
func (h *parser) field(b []byte, start, end int) *fault.Error {
	i := start
	for i < end && token[b[i]] {
		i++
	}
	if i == end || b[i] != ':' || i == start {
		return fieldFault(b[start:end], i-start)
	}
	name := b[start:i]
	for i++; i < end && blank(b[i]); i++ {
	}
	value := span{i, end}
	for ; i < end; i++ {
		if !text[b[i]] {
			return errFieldValue
		}
	}
	for value.end > value.start && blank(b[value.end-1]) {
		value.end--
	}
	return h.known(name, value, b)
}

// fieldFault says what is wrong with a line whose name ends at i without a
// colon.
func fieldFault(line []byte, i int) *fault.Error {
	switch {
	case i == 0 && blank(line[0]):
		return errFold
	case i == 0 && line[0] == ':':
		return errNoName
	case i == len(line):
		return errNoColon
	case blank(line[i]):
		return errBlankName
	}
	return errFieldName
}

// known keeps what the fields say that decide where the message ends and whom
// it is for.
func (h *parser) known(name []byte, value span, b []byte) *fault.Error {
	v := value.of(b)
	switch len(name) {
	case len("host"):
		if !equalFold(name, "host") {
			return nil
		}
		if h.hasHost {
			return errTwoHosts
		}
		h.hasHost, h.host = true, value
		if !target.IsHostField(v) {
			return errHost
		}
	case len("expect"):
		if equalFold(name, "expect") && len(v) > 0 && !equalFold(v, "100-continue") {
			return errExpect
		}
	case len("trailer"):
		if equalFold(name, "trailer") && namesFraming(v) {
			h.trailer = true
		}
	case len("content-length"):
		return h.contentLength(name, v)
	case len("transfer-encoding"):
		return h.transferEncoding(name, v)
	}
	return nil
}

func (h *parser) contentLength(name, v []byte) *fault.Error {
	if !equalFold(name, "content-length") {
		return underscored(name, "content_length")
	}
	h.lengths++
	if h.lengths > 1 {
		return errTwoLengths
	}
	if len(v) == 0 || len(v) > 18 || (v[0] == '0' && len(v) > 1) {
		return errLength
	}
	for _, d := range v {
		if !digit(d) {
			return errLength
		}
		h.length = h.length*10 + int64(d-'0')
	}
	return nil
}

// transferEncoding takes chunked alone. What ends otherwise has no length, and
// gets 400; another coding below it gets 501 (RFC 9112, Section 6.1 and 6.3).
func (h *parser) transferEncoding(name, v []byte) *fault.Error {
	if !equalFold(name, "transfer-encoding") {
		return underscored(name, "transfer_encoding")
	}
	h.coding++
	switch {
	case h.coding > 1:
		h.codingFault = errTwoCodings
	case equalFold(v, "chunked"):
	default:
		h.codingFault = errCoding
		if i := bytes.IndexByte(v, ','); i > 0 && token[v[0]] && !equalFold(bytes.TrimRight(v[:i], " \t"), "chunked") &&
			equalFold(bytes.TrimLeft(v[i+1:], " \t"), "chunked") {
			h.codingFault = errCodingUnknown
		}
	}
	return nil
}

// underscored refuses the name that a server behind CGI's rules would take for
// the one that frames.
func underscored(name []byte, odd string) *fault.Error {
	if equalFold(name, odd) {
		return errFieldName
	}
	return nil
}

// complete holds the head as a whole against the rules (RFC 9112, Section 3.2,
// 6.1 and 6.3).
func (h *parser) complete() *fault.Error {
	switch {
	case h.coding > 0 && h.lengths > 0:
		return errLengthAndCoding
	case h.coding > 0 && h.minor == 0:
		return errCodingVersion
	case h.codingFault != nil:
		return h.codingFault
	case h.trailer:
		return errTrailerNames
	case !h.hasHost && h.minor > 0:
		return errNoHost
	}
	return nil
}

// namesFraming reports whether a Trailer value lists a field that must not
// stand in a trailer section (RFC 9110, Section 6.5.1), which net/http refuses.
func namesFraming(v []byte) bool {
	for len(v) > 0 {
		name := v
		if i := bytes.IndexByte(v, ','); i >= 0 {
			name, v = v[:i], v[i+1:]
		} else {
			v = nil
		}
		name = bytes.Trim(name, " \t")
		if equalFold(name, "content-length") || equalFold(name, "transfer-encoding") || equalFold(name, "trailer") {
			return true
		}
	}
	return false
}
