package edge

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"fwdproxy/acl"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
)

// ModifyRequest makes of the fields of an outgoing request what m says, which
// may be nil, and tells the next hop and the cache what they have to know of it.
// It has to be called for each request: what a client sends by itself may keep
// its response apart as well.
func (d *Door) ModifyRequest(m *acl.Modification, h http.Header, to *hop.Hop) {
	m.Request(h)
	to.Apart = d.ACL.Apart(m, h)
	if m == nil {
		return
	}
	if m.Bypass != "" {
		to.Bypass = "modify " + m.Bypass
	}
	to.MaxStored = m.MaxResponse
	if ranges := h["Range"]; m.MaxResponse > 0 && strings.Contains(strings.Join(ranges, ","), ",") {
		// The response would not say in its head how large the whole is; a server may
		// leave Range aside (RFC 9110, Section 14.2).
		delete(h, "Range")
		delete(h, "If-Range")
	}
}

// modifyResponse makes of the response what the policy's tables say, or returns
// the refusal of one that is larger than they allow.
func (x *Exchange) modifyResponse(res *http.Response) error {
	m := x.modified
	if m == nil {
		return nil
	}
	if m.MaxResponse > 0 && res.StatusCode != http.StatusSwitchingProtocols && x.r.Method != http.MethodHead {
		size, known := wholeSize(res)
		if size > m.MaxResponse || !known && res.StatusCode == http.StatusPartialContent {
			return &fault.Error{Kind: fault.ResponseBodySize, Rule: "modify " + m.MaxBy,
				Details: "the answer is larger than the policy allows"}
		}
		if !known {
			res.Body = &boundedBody{ReadCloser: res.Body, left: m.MaxResponse, by: m.MaxBy}
		}
	}
	m.Response(res.Header)
	m.Removes(res.Trailer)
	return nil
}

// wholeSize returns how large the representation is that the response brings,
// or brings a part of (RFC 9110, Section 14.4), as far as its head says.
func wholeSize(res *http.Response) (size int64, known bool) {
	if res.StatusCode == http.StatusNotModified {
		return 0, true
	}
	if res.StatusCode != http.StatusPartialContent {
		return res.ContentLength, res.ContentLength >= 0
	}
	said := res.Header["Content-Range"]
	if len(said) != 1 || !strings.HasPrefix(said[0], "bytes ") {
		return 0, false
	}
	n, err := strconv.ParseUint(said[0][strings.LastIndexByte(said[0], '/')+1:], 10, 63)
	return int64(n), err == nil
}

// boundedBody fails when more comes than may, so that what was cut off never
// looks complete.
type boundedBody struct {
	io.ReadCloser
	left int64
	by   string
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n, err = int(b.left), fmt.Errorf("the answer is larger than max_response of %q allows", b.by)
	}
	b.left -= int64(n)
	return n, err
}
