package cache

import (
	"crypto/rand"
	"io"
	"strings"

	"fwdproxy/cache/store"
)

// multipartBody returns the spans of a body of size bytes as multipart/byteranges
// (RFC 9110, Section 14.6), its length, and its Content-Type. Each span is opened
// when its turn comes, the first at once.
func multipartBody(body store.Body, spans []span, size int64, contentType string) (io.ReadCloser, int64, string, error) {
	boundary := rand.Text()
	var steps []opener
	var length int64
	text := func(s string) {
		length += int64(len(s))
		steps = append(steps, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil })
	}
	first, err := body.Open(spans[0].off, spans[0].n)
	if err != nil {
		return nil, 0, "", err
	}
	for i, s := range spans {
		head := "\r\n--" + boundary + "\r\n"
		if contentType != "" {
			head += "Content-Type: " + contentType + "\r\n"
		}
		text(head + "Content-Range: " + contentRange(s, size) + "\r\n\r\n")
		length += s.n
		steps = append(steps, func() (io.ReadCloser, error) {
			if i == 0 {
				return first, nil
			}
			return body.Open(s.off, s.n)
		})
	}
	text("\r\n--" + boundary + "--\r\n")
	return &chain{steps: steps}, length, "multipart/byteranges; boundary=" + boundary, nil
}

// opener opens one stretch of a chain.
type opener func() (io.ReadCloser, error)

// chain reads one stretch after the other and opens each when it comes to it.
type chain struct {
	steps []opener
	cur   io.ReadCloser
	err   error
}

func (c *chain) Read(p []byte) (int, error) {
	for c.err == nil {
		if c.cur == nil {
			if len(c.steps) == 0 {
				c.err = io.EOF
				break
			}
			open := c.steps[0]
			c.steps = c.steps[1:]
			if c.cur, c.err = open(); c.err != nil {
				c.cur = nil
				break
			}
		}
		n, err := c.cur.Read(p)
		if err == io.EOF {
			c.cur.Close()
			c.cur, err = nil, nil
			if n == 0 {
				continue
			}
		}
		c.err = err
		return n, err
	}
	return 0, c.err
}

// Close closes the stretch that is open.
func (c *chain) Close() error {
	if c.cur != nil {
		c.cur.Close()
	}
	c.cur, c.steps, c.err = nil, nil, io.ErrClosedPipe
	return nil
}
