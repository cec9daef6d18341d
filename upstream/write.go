package upstream

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/header"
)

// continueWait is how long a body waits for 100 Continue before it goes out
// all the same (RFC 9110, Section 10.1.1).
const continueWait = time.Second

// encodeHead returns the request's head as it goes out: generated, never
// echoed, with one Host and one framing.
func encodeHead(req *http.Request) ([]byte, error) {
	bad := func(what string) error { return fault.New(fault.RequestError, what, nil) }
	if !isToken(req.Method) {
		return nil, bad("the method is malformed")
	}
	path := requestTarget(req)
	if !isVisible(path) || !isVisible(req.Host) || req.Host == "" {
		return nil, bad("the request's target or host is malformed")
	}
	b := make([]byte, 0, 1024)
	b = append(b, req.Method...)
	b = append(b, ' ')
	b = append(b, path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, req.Host...)
	b = append(b, "\r\n"...)
	upgrade := header.Upgrade(req.Header)
	for _, name := range slices.Sorted(maps.Keys(req.Header)) {
		if ours[name] {
			continue
		}
		for _, value := range req.Header[name] {
			if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
				return nil, bad(fmt.Sprintf("the field %q is malformed", name))
			}
			b = appendField(b, name, value)
		}
	}
	if upgrade != "" && httpguts.ValidHeaderFieldValue(upgrade) {
		b = appendField(b, "Connection", "Upgrade")
		b = appendField(b, "Upgrade", upgrade)
	}
	switch hasBody := req.Body != nil && req.Body != http.NoBody; {
	case hasBody && req.ContentLength < 0:
		b = appendField(b, "Transfer-Encoding", "chunked")
	case hasBody, req.Method == http.MethodPost, req.Method == http.MethodPut, req.Method == http.MethodPatch:
		b = appendField(b, "Content-Length", strconv.FormatInt(max(0, req.ContentLength), 10))
	}
	return append(b, "\r\n"...), nil
}

// ours are the fields that are made here, not copied.
var ours = map[string]bool{
	"Host": true, "Content-Length": true, "Transfer-Encoding": true, "Connection": true, "Upgrade": true,
	"Trailer": true, "Te": true, "Keep-Alive": true, "Proxy-Connection": true, "Proxy-Authorization": true,
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// requestTarget is the origin-form, or "*" for an OPTIONS of a whole server
// (RFC 9112, Section 3.2.4).
func requestTarget(req *http.Request) string {
	u := req.URL
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

func isToken(s string) bool {
	for i := range len(s) {
		if !httpguts.IsTokenRune(rune(s[i])) {
			return false
		}
	}
	return s != ""
}

// upload is a request's body on its way out. A nil upload is that of a request
// without one.
type upload struct {
	c    *conn
	body io.ReadCloser
	left int64 // of Content-Length; -1 for chunks
	goon chan struct{}
	once sync.Once
	quit chan struct{}
	done chan struct{}
	err  error // of reading the body; set when done is closed
	sent bool  // all of it went out
}

func startUpload(c *conn, req *http.Request) *upload {
	u := &upload{
		c: c, body: req.Body, left: req.ContentLength,
		goon: make(chan struct{}), quit: make(chan struct{}), done: make(chan struct{}),
	}
	if !header.HasToken(req.Header, "Expect", "100-continue") {
		u.proceed()
	}
	go u.run()
	return u
}

// proceed lets the body go out.
func (u *upload) proceed() {
	if u != nil {
		u.once.Do(func() { close(u.goon) })
	}
}

func (u *upload) run() {
	defer close(u.done)
	wait := time.NewTimer(continueWait)
	defer wait.Stop()
	select {
	case <-u.goon:
	case <-wait.C:
	case <-u.quit:
		return
	}
	err := u.copy()
	var read *bodyError
	switch {
	case err == nil:
		u.sent = true
		u.body.Close()
		u.c.readBy(time.Now().Add(u.c.t.cfg.ResponseTimeout.D()))
	case errors.As(err, &read):
		u.err = read.err
		u.c.interrupt()
	default:
		// The next hop takes no more; it may have answered why.
		u.c.readBy(time.Now().Add(u.c.t.cfg.ResponseTimeout.D()))
	}
}

// bodyError is an error of reading the body, not of sending it.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return e.err.Error() }

func (u *upload) copy() error {
	buf := make([]byte, 32<<10)
	for {
		n, err := u.body.Read(buf)
		if n > 0 {
			if werr := u.write(buf[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return u.finish()
		}
		if err != nil {
			return &bodyError{err}
		}
	}
}

func (u *upload) write(p []byte) error {
	u.c.writeBy(time.Now().Add(u.c.t.cfg.ReadTimeout.D()))
	if u.left < 0 {
		b := make([]byte, 0, len(p)+16)
		b = strconv.AppendInt(b, int64(len(p)), 16)
		b = append(b, "\r\n"...)
		b = append(b, p...)
		_, err := u.c.net.Write(append(b, "\r\n"...))
		return err
	}
	if int64(len(p)) > u.left {
		return &bodyError{fault.New(fault.RequestError, "the request's body is longer than its Content-Length", nil)}
	}
	u.left -= int64(len(p))
	_, err := u.c.net.Write(p)
	return err
}

func (u *upload) finish() error {
	switch {
	case u.left > 0:
		return &bodyError{fault.New(fault.RequestError, "the request's body is shorter than its Content-Length", io.ErrUnexpectedEOF)}
	case u.left < 0:
		_, err := io.WriteString(u.c.net, "0\r\n\r\n")
		return err
	}
	return nil
}

// complete reports whether all went out already.
func (u *upload) complete() bool {
	if u == nil {
		return true
	}
	select {
	case <-u.done:
		return u.sent
	default:
		return false
	}
}

// abandon stops the upload, waits until nobody reads the body any more, and
// returns what was wrong with the body, if anything.
func (u *upload) abandon(req *http.Request) error {
	if u == nil {
		closeBody(req)
		return nil
	}
	select {
	case <-u.done:
	default:
		close(u.quit)
		u.c.interrupt()
	}
	u.body.Close()
	<-u.done
	return u.err
}
