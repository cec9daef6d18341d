package edge

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"fwdproxy/internal/fault"
)

// requestBody is a client's request body: counted, bounded in size, and each
// piece of it in time. The upstream may read it while the front door already
// answers.
type requestBody struct {
	io.ReadCloser
	ctl     *http.ResponseController
	timeout time.Duration
	limit   int64 // 0: none
	read    atomic.Int64
}

func (b *requestBody) Read(p []byte) (int, error) {
	_ = b.ctl.SetReadDeadline(time.Now().Add(b.timeout))
	n, err := b.ReadCloser.Read(p)
	total := b.read.Add(int64(n))
	if b.limit > 0 && total > b.limit {
		return 0, tooLarge()
	}
	if err != nil {
		// Past its end net/http reads ahead to notice a client that leaves; a
		// deadline left behind would look to it like one.
		_ = b.ctl.SetReadDeadline(time.Time{})
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return n, tooLarge()
		}
		if err != io.EOF {
			return n, &fault.Error{Kind: fault.RequestError, Status: http.StatusBadRequest,
				Details: "the request's body ended early or is malformed", Err: err}
		}
	}
	return n, err
}

func (b *requestBody) Close() error {
	_ = b.ctl.SetReadDeadline(time.Time{})
	return b.ReadCloser.Close()
}

func tooLarge() *fault.Error {
	return &fault.Error{Kind: fault.RequestError, Status: http.StatusRequestEntityTooLarge,
		Details: "the request's body is larger than limits.body_size allows"}
}

// responseBody remembers how reading the next hop's body ended, so that a
// broken one breaks the client's too instead of looking complete (RFC 9112,
// Section 8).
type responseBody struct {
	io.ReadCloser
	err error
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}
