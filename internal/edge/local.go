package edge

import (
	"net/http"
	"strconv"

	"fwdproxy/internal/fault"
)

// LocalAnswer returns the answer to a TRACE or an OPTIONS that may go no
// further, nil for every other request; it counts Max-Forwards down on out
// (RFC 9110, Section 7.6.2).
func (x *Exchange) LocalAnswer(out *http.Request) *http.Response {
	if out.Method == http.MethodTrace {
		return x.Refusal(&fault.Error{Kind: fault.RequestDenied, Status: http.StatusMethodNotAllowed,
			Details: "TRACE is not allowed here, since it shows a client's secrets to whoever asks"})
	}
	// As it came: Connection must not nominate it away.
	limit := x.r.Header["Max-Forwards"]
	if out.Method != http.MethodOptions || len(limit) == 0 {
		return nil
	}
	n, err := strconv.ParseUint(limit[0], 10, 31)
	if err != nil {
		return x.Refusal(fault.New(fault.RequestError, "Max-Forwards is not a number", err))
	}
	if n == 0 {
		return x.Options()
	}
	out.Header["Max-Forwards"] = []string{strconv.FormatUint(n-1, 10)}
	return nil
}

// Options is the answer to an OPTIONS about the proxy itself (RFC 9110,
// Section 9.3.7).
func (x *Exchange) Options() *http.Response {
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Allow": {x.allow()}, "Content-Length": {"0"}},
		Body:   http.NoBody, Request: x.r,
	}
}

func (x *Exchange) allow() string {
	if x.door.Mode == modeReverse {
		return "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
	}
	return "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT"
}
