package edge

import (
	"bufio"
	"net"
	"net/http"
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
	status  int           // 0 until the final head is written
	bytes   int64
	err     error // the first failed write
}

func newWriter(w http.ResponseWriter, name string, timeout time.Duration) *Writer {
	return &Writer{ResponseWriter: w, ctl: http.NewResponseController(w), name: name, timeout: timeout}
}

// WriteHeader sends the head. Of the informational ones only the caller's own
// fields go out; 101 is final.
func (w *Writer) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.status = status
		h := w.Header()
		header.AppendVia(h, 1, 1, w.name)
		if _, ok := h["Content-Type"]; !ok {
			h["Content-Type"] = nil
		}
	}
	w.extend()
	w.ResponseWriter.WriteHeader(status)
}

// Write sends p to the client before it returns, so that a slow origin's
// stream arrives as it comes.
func (w *Writer) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
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

// Flush sends what net/http still holds, the head included.
func (w *Writer) Flush() {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if err := w.ctl.Flush(); err != nil && w.err == nil {
		w.err = err
	}
}

// Hijack hands the connection over, with what was read from it beyond the
// request's head.
func (w *Writer) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.ctl.Hijack() }

func (w *Writer) extend() {
	// A connection without deadlines (a test's recorder) has nothing to extend.
	_ = w.ctl.SetWriteDeadline(time.Now().Add(w.timeout))
}
