package conform

import (
	"bufio"
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// abortAfter is how long a response may take from its request.
const abortAfter = 10 * time.Second

// probePath is where the origin answers with the Via that it got.
const probePath = "/probe"

// Proxy is where the requests go.
type Proxy struct {
	Addr string
	// Origin is the origin's authority, which a forward proxy is told in each
	// request; empty for a reverse proxy, which knows it.
	Origin string

	abort time.Duration // abortAfter, less in tests
}

// Response is what a client got.
type Response struct {
	status  int
	header  head
	body    string
	interim []interim
}

type interim struct {
	status int
	header head
}

// target is the request target, and Host what the request must say.
func (p Proxy) target(path string) (target, host string) {
	if p.Origin == "" {
		return path, p.Addr
	}
	return "http://" + p.Origin + path, p.Origin
}

// Probe returns an error unless a request goes to the origin through a proxy:
// both sides must see a Via. A client that talks to the origin itself looks
// like a proxy that stores nothing.
func (p Proxy) Probe() error {
	target, host := p.target(probePath)
	res, err := p.exchange("GET", encode("GET "+target+" HTTP/1.1", head{{"Host", host}}))
	if err != nil {
		return err
	}
	if via, ok := res.header.get("Via"); res.status != 200 || !ok || res.body == "" {
		return fmt.Errorf("no proxy is between client and origin: status %d, Via %q in the response, %q at the origin", res.status, via, res.body)
	}
	return nil
}

// send makes request number n of the case; previous is the response before.
func (p Proxy) send(c *Case, id string, n int, previous *Response) (*Response, *Failure) {
	r := &c.Requests[n-1]
	path := "/test/" + id
	if r.Filename != "" {
		path += "/" + r.Filename
	}
	if r.QueryArg != "" {
		path += "?" + r.QueryArg
	}
	target, host := p.target(path)
	raw := encode(r.method()+" "+target+" HTTP/1.1", requestHead(c, n, host, previous))
	res, err := p.exchange(r.method(), append(raw, r.Body...))
	if err == nil {
		return res, nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, &Failure{Aborted, fmt.Sprintf("response %d: none within %v", n, abortAfter)}
	}
	return nil, &Failure{Broken, fmt.Sprintf("response %d: %v", n, err)}
}

// requestHead is what Node's fetch() sends, in its order. The Pragma and
// Cache-Control that mean nothing keep it from adding its own.
func requestHead(c *Case, n int, host string, previous *Response) head {
	r := &c.Requests[n-1]
	h := head{{"Host", host}, {"Connection", "keep-alive"}, {"Pragma", "foo"}, {"Cache-Control", "nothing-to-see-here"}}
	for _, f := range r.Header {
		value := f.Value
		if f.Dated {
			now := int(time.Now().UnixMilli())
			if previous != nil {
				if then, ok := previous.header.number("Server-Now"); ok {
					now = then
				}
			}
			value = dateAt(now, f.Offset)
			if slices.Contains(r.RFC850, strings.ToLower(f.Name)) {
				value = rfc850Date(time.UnixMilli(int64(now)).Add(time.Duration(f.Offset) * time.Second))
			}
		}
		h.join(f.Name, value)
	}
	h.add("Test-Name", c.Name)
	h.add("Test-ID", c.ID)
	h.add("Req-Num", strconv.Itoa(n))
	if r.Body != "" {
		h.setDefault("content-type", "text/plain;charset=UTF-8")
	}
	h.setDefault("Accept", "*/*")
	h.setDefault("Accept-Language", "*")
	h.add("Sec-Fetch-Mode", "cors")
	h.setDefault("User-Agent", "node")
	h.setDefault("Accept-Encoding", "gzip, deflate")
	if r.Body != "" {
		h.add("Content-Length", strconv.Itoa(len(r.Body)))
	}
	return h
}

// exchange sends the bytes on a connection of their own, never twice, and
// reads what comes back.
func (p Proxy) exchange(method string, raw []byte) (*Response, error) {
	abort := cmp.Or(p.abort, abortAfter)
	deadline := time.Now().Add(abort)
	conn, err := net.DialTimeout("tcp", p.Addr, abort)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if _, err := conn.Write(raw); err != nil {
		return nil, err
	}
	return readResponse(bufio.NewReader(conn), method)
}

func readResponse(r *bufio.Reader, method string) (*Response, error) {
	res := &Response{}
	for {
		start, h, err := readHead(r)
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the connection was closed without a response")
		}
		if err != nil {
			return nil, err
		}
		var major, minor int
		if _, err := fmt.Sscanf(start+" ", "HTTP/%d.%d %3d ", &major, &minor, &res.status); err != nil || res.status < 100 {
			return nil, fmt.Errorf("%q is no status line", start)
		}
		if res.status >= 200 || res.status == 101 {
			res.header = h
			break
		}
		res.interim = append(res.interim, interim{res.status, h})
	}
	if method == "HEAD" || res.status == 204 || res.status == 304 {
		// The head must be one that a client can parse all the same.
		if coding, ok := res.header.get("Transfer-Encoding"); ok && !strings.EqualFold(coding, "chunked") {
			return nil, fmt.Errorf("unknown transfer coding %q", coding)
		}
		return res, nil
	}
	body, err := readBody(r, res.header, true)
	res.body = body
	return res, err
}

// newID returns a UUID, whose 36 characters some cases rely on.
func newID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
