package http1

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"fwdproxy/internal/edge"
	"fwdproxy/internal/fault"
)

func refusal(status int, details string) *fault.Error {
	return &fault.Error{Kind: fault.RequestError, Status: status, Details: details}
}

// What is refused, each with the rule that says so.
var (
	errBareLF          = refusal(400, "a line of the request's head does not end in CRLF (RFC 9112, Section 2.2)")
	errRequestLineForm = refusal(400, "the request line is malformed (RFC 9112, Section 3)")
	errRequestLine     = refusal(http.StatusRequestURITooLong, "the request line is longer than limits.request_line allows")
	errVersion         = refusal(http.StatusHTTPVersionNotSupported, "only HTTP/1.0 and HTTP/1.1 are spoken here (RFC 9112, Section 2.3)")
	errTarget          = refusal(400, "the request's target is malformed (RFC 9112, Section 3.2)")
	errHeadSize        = refusal(http.StatusRequestHeaderFieldsTooLarge, "the request's head is larger than limits.header_size allows")
	errHeadCount       = refusal(http.StatusRequestHeaderFieldsTooLarge, "the request has more header fields than limits.header_count allows")
	errFold            = refusal(400, "a field line begins with a blank (RFC 9112, Section 2.2 and 5.2)")
	errNoName          = refusal(400, "a field line has no name (RFC 9112, Section 5)")
	errNoColon         = refusal(400, "a field line has no colon (RFC 9112, Section 5)")
	errBlankName       = refusal(400, "a field's name is followed by a blank (RFC 9112, Section 5.1)")
	errFieldName       = refusal(400, "a field's name is malformed (RFC 9110, Section 5.1)")
	errFieldValue      = refusal(400, "a field has a control character in its value (RFC 9110, Section 5.5)")
	errNoHost          = refusal(400, "the request has no Host (RFC 9112, Section 3.2)")
	errTwoHosts        = refusal(400, "the request has more than one Host (RFC 9112, Section 3.2)")
	errHost            = refusal(400, "Host is not one host with or without a port (RFC 9112, Section 3.2)")
	errLength          = refusal(400, "Content-Length is not one plain number (RFC 9112, Section 6.3)")
	errTwoLengths      = refusal(400, "the request has more than one Content-Length (RFC 9112, Section 6.3)")
	errLengthAndCoding = refusal(400, "Content-Length stands beside Transfer-Encoding (RFC 9112, Section 6.1)")
	errCodingVersion   = refusal(400, "Transfer-Encoding stands in an HTTP/1.0 request (RFC 9112, Section 6.1)")
	errCoding          = refusal(400, "Transfer-Encoding is not chunked (RFC 9112, Section 6.3)")
	errTwoCodings      = refusal(400, "the request has more than one Transfer-Encoding (RFC 9112, Section 6.1)")
	errCodingUnknown   = refusal(http.StatusNotImplemented, "no Transfer-Encoding but chunked is known here (RFC 9112, Section 6.1)")
	errTrailerNames    = refusal(400, "Trailer names a field that frames the message (RFC 9110, Section 6.5.1)")
	errExpect          = refusal(http.StatusExpectationFailed, "Expect is not 100-continue (RFC 9110, Section 10.1.1)")
	errHeadTime        = refusal(http.StatusRequestTimeout, "the request's head took longer than limits.header_timeout allows")
	errHeadCut         = refusal(400, "the request ended in the middle of its head (RFC 9112, Section 8)")
	errTooMany         = refusal(http.StatusTooManyRequests, "the client has as many connections open as limits.connections_per_client allows")

	errChunkSize    = refusal(400, "the size of a chunk is malformed (RFC 9112, Section 7.1)")
	errChunkExt     = refusal(400, "a chunk extension is malformed or too long (RFC 9112, Section 7.1.1)")
	errChunkEnd     = refusal(400, "a line of a chunked body does not end in CRLF (RFC 9112, Section 7.1)")
	errTrailer      = refusal(400, "the trailer section is malformed (RFC 9112, Section 7.1.2)")
	errTrailerSize  = refusal(http.StatusRequestHeaderFieldsTooLarge, "the trailer section is too large")
	errBodyRate     = edge.ErrBodyRate
	errDisagreement = errors.New("http1: net/http ended a request elsewhere than it ends")
)

const (
	// refuseTime bounds the writing of a refusal, and then the reading of what the
	// client still sends: a connection closed with bytes unread is reset, and the
	// client may lose the answer (RFC 9112, Section 9.6).
	refuseTime = 500 * time.Millisecond
	// refuseBytes bounds that reading in bytes.
	refuseBytes = 256 << 10
)

// refuse answers the request that is being read, whose head began at start,
// and ends the connection. It returns what net/http gets to see of it: the
// end.
func (c *Conn) refuse(f *fault.Error, start time.Time) error {
	r := edge.Refused{Client: addrPort(c.Conn.RemoteAddr()), Start: start, Err: f}
	if b := c.buf[c.r:c.w]; c.head.method.end > 0 && c.head.target.end <= len(b) {
		r.Method, r.Target = string(c.head.method.of(b)), string(c.head.target.of(b))
	}
	if c.phase == between && c.head.line > 0 && f != errVersion && f != errRequestLineForm {
		r.Proto = "HTTP/1." + string(rune('0'+c.head.minor))
	}
	answer := c.s.Refuse(r)
	_ = c.Conn.SetWriteDeadline(time.Now().Add(refuseTime))
	if _, err := c.Conn.Write(answer); err == nil {
		c.linger()
	}
	c.drop()
	return io.EOF
}

// linger ends the sending and reads what the client still sends, for a bounded
// time.
func (c *Conn) linger() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.Conn.SetReadDeadline(time.Now().Add(refuseTime))
	_, _ = io.CopyN(io.Discard, c.Conn, refuseBytes) // until the end, or the time is up
}

func addrPort(a net.Addr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	p, _ := netip.ParseAddrPort(a.String())
	return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
}
