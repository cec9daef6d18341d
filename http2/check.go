package http2

import (
	"net/http"
	"strings"

	"fwdproxy/internal/edge"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/header"
	"fwdproxy/internal/target"
)

// What is refused here, each with the rule that says so. net/http resets the
// streams of what it finds itself: pseudo-fields that are missing, double,
// unknown or behind others, names with capitals, control characters, Host beside
// another :authority; and answers Connection and its kin with 400.
var (
	errMethod       = refusal(400, ":method is no token (RFC 9110, Section 9.1)")
	errPath         = refusal(400, ":path is malformed (RFC 9113, Section 8.3.1)")
	errPathLength   = refusal(http.StatusRequestURITooLong, ":path is longer than limits.request_line allows")
	errAuthority    = refusal(400, ":authority is not one host with or without a port (RFC 9113, Section 8.3.1)")
	errScheme       = refusal(400, ":scheme is http on a connection that is secured (RFC 9113, Section 8.3.1)")
	errLength       = refusal(400, "Content-Length is not one plain number (RFC 9110, Section 8.6)")
	errNoBody       = refusal(400, "Content-Length stands in a request that has no body (RFC 9113, Section 8.1.1)")
	errConnectBody  = refusal(400, "a CONNECT has no body (RFC 9113, Section 8.5)")
	errValue        = refusal(400, "a field's value begins or ends with a blank (RFC 9113, Section 8.2.1)")
	errFraming      = refusal(400, "a field's name could be taken for one that frames the message")
	errNotConnect   = refusal(400, ":protocol stands in a request that is no CONNECT (RFC 8441, Section 4)")
	errOtherProto   = refusal(http.StatusNotImplemented, "no :protocol but websocket is known here (RFC 8441, Section 4)")
	errHeadersCount = refusal(http.StatusRequestHeaderFieldsTooLarge, "the request has more header fields than limits.header_count allows")
)

// check holds a request that net/http took for well formed to what HTTP/1.1 is
// held to here.
func check(r *http.Request, l *edge.Limits, scheme, protocol string) *fault.Error {
	switch {
	case !header.IsToken(r.Method):
		return errMethod
	case protocol != "" && r.Method != http.MethodConnect:
		return errNotConnect
	case protocol != "" && !isWebSocket(protocol):
		return errOtherProto
	case !target.IsHostField(r.Host):
		return errAuthority
	}
	if r.Method != http.MethodConnect || protocol != "" {
		if err := checkPath(r, l); err != nil {
			return err
		}
	}
	if err := checkFields(r.Header, l); err != nil {
		return err
	}
	return checkLength(r)
}

func checkPath(r *http.Request, l *edge.Limits) *fault.Error {
	path := r.RequestURI
	if len(path) > int(l.RequestLine) {
		return errPathLength
	}
	if path == "*" && r.Method != http.MethodOptions {
		return errPath
	}
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c == 0x7f || c == '#' {
			return errPath
		}
	}
	return nil
}

func checkFields(h http.Header, l *edge.Limits) *fault.Error {
	count := 0
	for name, lines := range h {
		if count += len(lines); count > l.HeaderCount {
			return errHeadersCount
		}
		if strings.EqualFold(name, "content_length") || strings.EqualFold(name, "transfer_encoding") {
			return errFraming
		}
		for _, v := range lines {
			if header.Trim(v) != v {
				return errValue
			}
		}
	}
	return nil
}

// checkLength holds Content-Length to the form that HTTP/1.1 is held to; that
// it is what DATA frames bring is for net/http to see, save where there are none.
func checkLength(r *http.Request) *fault.Error {
	lines, ok := r.Header["Content-Length"]
	if !ok {
		return nil
	}
	if r.Method == http.MethodConnect {
		return errConnectBody
	}
	v := lines[0]
	if len(lines) > 1 || v == "" || len(v) > 18 || v[0] == '0' && len(v) > 1 {
		return errLength
	}
	for i := range len(v) {
		if v[i] < '0' || v[i] > '9' {
			return errLength
		}
	}
	if v != "0" && r.ContentLength == 0 {
		return errNoBody
	}
	return nil
}
