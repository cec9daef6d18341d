package upstream

import (
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/net/http/httpguts"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/header"
	"fwdproxy/internal/hop"
)

// outgoing is what the head of one request is made in.
type outgoing struct {
	head  []byte
	names []string
}

var outgoings = sync.Pool{New: func() any { return &outgoing{head: make([]byte, 0, 1024), names: make([]string, 0, 32)} }}

// outgoingMost is the size in bytes of the largest head whose room is kept.
const outgoingMost = 16 << 10

// release gives o back. Its head is not used any more.
func (o *outgoing) release() {
	if cap(o.head) <= outgoingMost {
		clear(o.names)
		outgoings.Put(o)
	}
}

// encodeHead returns the request's head as it goes out: generated, never
// echoed, with one Host and one framing. It is valid until o is used again.
func encodeHead(req *http.Request, o *outgoing) ([]byte, error) {
	bad := func(what string) error { return fault.New(fault.RequestError, what, nil) }
	if !header.IsToken(req.Method) || req.Method == http.MethodConnect {
		return nil, bad("the method is malformed, or none that is passed on")
	}
	path, host := requestTarget(req), req.Host
	if host == "" {
		host = req.URL.Host
	}
	if !isVisible(path) || !isVisible(host) || host == "" {
		return nil, bad("the request's target or host is malformed")
	}
	h, upgrade := req.Header, header.Upgrade(req.Header)
	if len(h["Connection"]) > 0 {
		h = h.Clone()
		header.RemoveHopByHop(h)
	}
	b := append(o.head[:0], req.Method...)
	b = append(b, ' ')
	b = append(b, path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, host...)
	b = append(b, "\r\n"...)
	o.names = slices.AppendSeq(o.names[:0], maps.Keys(h))
	slices.Sort(o.names)
	for _, name := range o.names {
		if ours[textproto.CanonicalMIMEHeaderKey(name)] || name == "Expect" && !hasBody(req) {
			continue
		}
		for _, value := range h[name] {
			if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
				return nil, bad(fmt.Sprintf("the field %q is malformed", name))
			}
			b = appendField(b, name, value)
		}
	}
	if upgrade != "" {
		if !httpguts.ValidHeaderFieldValue(upgrade) {
			return nil, bad("the field \"Upgrade\" is malformed")
		}
		b = appendField(b, "Connection", "Upgrade")
		b = appendField(b, "Upgrade", upgrade)
	}
	switch {
	case hasBody(req) && bodyLength(req) < 0:
		b = appendField(b, "Transfer-Encoding", "chunked")
	case hasBody(req):
		b = appendField(b, "Content-Length", strconv.FormatInt(bodyLength(req), 10))
	case req.Method == http.MethodPost, req.Method == http.MethodPut, req.Method == http.MethodPatch:
		b = appendField(b, "Content-Length", "0")
	}
	o.head = append(b, "\r\n"...)
	return o.head, nil
}

// ours are the fields that are made here, not copied.
var ours = map[string]bool{
	"Host": true, "Content-Length": true, "Transfer-Encoding": true, "Connection": true, "Upgrade": true,
	"Trailer": true, "Te": true, "Keep-Alive": true, "Proxy-Connection": true, "Proxy-Authorization": true,
	"Proxy-Authenticate": true, "Proxy-Authentication-Info": true, "Http2-Settings": true,
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// requestTarget is the origin-form, or "*" for an OPTIONS of a whole server
// (RFC 9112, Section 3.2.4), unless the front door asks for something else.
func requestTarget(req *http.Request) string {
	u := req.URL
	if h := hop.From(req.Context()); h != nil && h.Path != "" {
		return h.Path
	}
	if req.Method == http.MethodOptions && u.Path == "*" {
		return "*"
	}
	path := u.EscapedPath()
	if path == "" || path[0] != '/' {
		path = "/" + path
	}
	if u.RawQuery != "" || u.ForceQuery {
		path += "?" + u.RawQuery
	}
	return path
}

func isVisible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}
