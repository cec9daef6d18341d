package edge

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/header"
)

// drainTime is how long, after an answer that came before the end of the
// request's body, the rest is still read and dropped: a connection closed with
// bytes unread is reset, and the client may lose the answer (RFC 9112, Section
// 9.6).
const drainTime = 500 * time.Millisecond

// requestBody is a client's request body: counted, bounded in size, and each
// piece of it in time. The upstream may read it while the front door already
// answers, and even close it while it reads.
type requestBody struct {
	src     io.Reader
	ctl     *http.ResponseController
	timeout time.Duration
	limit   int64             // 0: none
	expects bool              // the first Read makes net/http send 100 Continue
	pass    func(n int) error // counts and slows what was read; nil: nobody does
	read    atomic.Int64
	ended   atomic.Bool // its end was read: what follows on the connection is another request

	mu  sync.Mutex // held by whoever reads
	err error      // why nothing can be read any more

	state sync.Mutex // guards over, and the connection's read deadline
	over  bool
}

func newRequestBody(r *http.Request, ctl *http.ResponseController, l Limits) *requestBody {
	return &requestBody{
		src: r.Body, ctl: ctl, timeout: l.BodyTimeout.D(), limit: int64(l.BodySize),
		expects: r.ProtoAtLeast(1, 1) && header.HasToken(r.Header, "Expect", "100-continue"),
	}
}

var errBodyClosed = errors.New("edge: read from a request body that was closed")

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.readPiece(p)
	// Outside of the lock, which whoever ends the reading waits for.
	if b.pass != nil && n > 0 {
		err = cmp.Or(err, b.pass(n))
	}
	return n, err
}

func (b *requestBody) readPiece(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil && !b.begin() {
		b.err = errBodyClosed
	}
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.src.Read(p)
	total := b.read.Add(int64(n))
	switch {
	case b.limit > 0 && total > b.limit:
		n, b.err = 0, tooLarge()
	case err == io.EOF:
		b.err = err
		b.ended.Store(true)
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.err = &fault.Error{Kind: fault.RequestError, Status: http.StatusRequestTimeout,
			Details: "the request's body paused for longer than limits.body_timeout allows", Err: err}
	case errors.As(err, new(*fault.Error)):
		b.err = err // of the framing, which says more
	case err != nil:
		b.err = fault.New(fault.RequestError, "the request's body ended early or is malformed", err)
	}
	return n, b.err
}

// begin gives the next piece its time, unless the body is over.
func (b *requestBody) begin() bool {
	b.state.Lock()
	defer b.state.Unlock()
	if !b.over {
		_ = b.ctl.SetReadDeadline(time.Now().Add(b.timeout))
	}
	return !b.over
}

// Close ends the reading at the piece that is being waited for. It does not
// cut that wait short: net/http would take it for the client's leaving and
// cancel the request, whose answer may still be on its way. It leaves the rest
// of the body to net/http, which drains it when the exchange is over.
func (b *requestBody) Close() error {
	b.state.Lock()
	defer b.state.Unlock()
	b.over = true
	return nil
}

// finish ends the reading at once and waits for whoever reads: from then on
// net/http has the connection for itself. It has drain to read the rest of the
// body in.
func (b *requestBody) finish(drain time.Duration) {
	b.state.Lock()
	b.over = true
	if b.ended.Load() {
		b.state.Unlock()
		return
	}
	_ = b.ctl.SetReadDeadline(time.Unix(1, 0))
	b.state.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if drain > 0 {
		_ = b.ctl.SetReadDeadline(time.Now().Add(drain))
	}
}

// failure returns what was wrong with the body, nil while nothing is.
func (b *requestBody) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == io.EOF || b.err == errBodyClosed {
		return nil
	}
	return b.err
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

// WriteTo lets a stored body go out as its store sends it. What fails and is not
// the client's fault is the body's.
func (b *responseBody) WriteTo(w io.Writer) (int64, error) {
	from, ok := b.ReadCloser.(io.WriterTo)
	if !ok {
		return copyPieces(w, b)
	}
	n, err := from.WriteTo(w)
	if to, ok := w.(*Writer); err != nil && (!ok || to.err == nil) {
		b.err = err
	}
	return n, err
}
