package edge

import (
	"cmp"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"fwdproxy/internal/header"
)

// Writer is the response of one exchange on its way to the client: it counts
// what goes out, adds Via, sends each piece at once and gives a slow reader a
// bounded time. It never lets net/http guess a Content-Type.
type Writer struct {
	http.ResponseWriter
	ctl     *http.ResponseController
	name    string        // for Via
	timeout time.Duration // for one write
	body    *requestBody  // nil: the request has none
	last    bool          // no other request may follow on the connection
	status  int           // 0 until the final head is written
	bytes   int64
	err     error             // the first failed write
	pass    func(n int) error // counts and slows bytes that go out; nil: nobody does
}

func newWriter(w http.ResponseWriter, name string, timeout time.Duration) *Writer {
	return &Writer{ResponseWriter: w, ctl: http.NewResponseController(w), name: name, timeout: timeout}
}

// WriteHeader sends the head. Of the informational ones only the caller's own
// fields go out; 101 is final. When the answer comes before the end of the
// request's body the connection ends with it, so that what is left of the body
// is never read as a request (RFC 9112, Section 9.6).
func (w *Writer) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.extend()
	if status < 200 && status != http.StatusSwitchingProtocols {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.status = status
	h := w.Header()
	header.AppendVia(h, 1, 1, w.name)
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil
	}
	if w.last || w.body != nil && !w.body.ended.Load() {
		h["Connection"] = []string{"close"}
	}
	w.ResponseWriter.WriteHeader(status)
	if _, ok := h["Content-Length"]; !ok {
		w.Flush() // the first piece of a stream may be long in coming
	}
}

// Write sends p to the client before it returns, so that a slow origin's
// stream arrives as it comes.
func (w *Writer) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.pass != nil {
		if err := w.pass(len(p)); err != nil {
			return 0, cmp.Or(w.err, err)
		}
	}
	w.extend()
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	if err == nil {
		err = w.ctl.Flush()
	}
	if err != nil && w.err == nil {
		w.err = err
	}
	return n, err
}

// ReadFrom sends a piece of a file, in the time of one write, and where the
// connection allows it with sendfile(2). Anything else is copied in pieces, each
// of which is sent at once.
func (w *Writer) ReadFrom(src io.Reader) (int64, error) {
	piece, ok := src.(*io.LimitedReader)
	if ok {
		_, ok = piece.R.(*os.File)
	}
	to, can := w.ResponseWriter.(io.ReaderFrom)
	if !ok || !can || w.pass != nil {
		return copyPieces(w, src)
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.extend()
	n, err := to.ReadFrom(piece)
	w.bytes += n
	if err == nil {
		err = w.ctl.Flush()
	}
	if err != nil && w.err == nil {
		w.err = err
	}
	return n, err
}

// Flush sends what net/http still holds, the head included.
func (w *Writer) Flush() {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if err := w.ctl.Flush(); err != nil && w.err == nil {
		w.err = err
	}
}

// takeOver takes the connection from net/http: the plain one, where something
// stood before it, and what was read from it beyond the request.
func (w *Writer) takeOver() (net.Conn, []byte, error) {
	conn, buffered, err := w.ctl.Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, err := buffered.Reader.Peek(buffered.Reader.Buffered())
	early = append([]byte(nil), early...)
	if framed, ok := conn.(interface{ Unwrap() (net.Conn, []byte) }); ok {
		plain, more := framed.Unwrap()
		conn, early = plain, append(early, more...)
	}
	return conn, early, err
}

// reset breaks the connection so that the client sees it even where the end of
// the connection is the end of the body, as for HTTP/1.0.
func (w *Writer) reset() {
	conn, _, err := w.takeOver()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

func (w *Writer) extend() {
	// A connection without deadlines (a test's recorder) has nothing to extend.
	_ = w.ctl.SetWriteDeadline(time.Now().Add(w.timeout))
}
