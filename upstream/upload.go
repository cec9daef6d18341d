package upstream

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/header"
)

const (
	// continueWait is how long a body waits for 100 Continue before it goes out
	// all the same (RFC 9110, Section 10.1.1).
	continueWait = time.Second
	// uploadPiece is the most that goes out in one write and one chunk;
	// chunkSpace is what a chunk's size and CRLF take before it.
	uploadPiece = 32 << 10
	chunkSpace  = 10
)

var uploadBuffers = sync.Pool{New: func() any { b := make([]byte, chunkSpace+uploadPiece+2); return &b }}

// What an upload may be told.
const (
	uploadWaits   = iota // for 100 Continue
	uploadGoes           // out
	uploadRefused        // by a final answer; it is never read
)

// upload is a request's body on its way out. A nil upload is that of a request
// without one.
type upload struct {
	c         *conn
	body      io.Reader
	closeBody func()
	left      int64 // of Content-Length; -1 for chunks

	state   atomic.Int32
	decided chan struct{} // closed when state leaves uploadWaits
	last    atomic.Bool   // what is written now, or was, is the end of the body
	done    chan struct{} // closed when nothing of it is written any more
	sent    bool          // all of it went out; set when done is closed

	mu      sync.Mutex
	settled bool  // whatever reading the body returns now is our own doing
	broken  error // of reading the body
}

// bodyLength returns the length of the body of a request that has one, -1
// where it is not known: so says http.Request of a ContentLength of 0.
func bodyLength(req *http.Request) int64 {
	if req.ContentLength <= 0 {
		return -1
	}
	return req.ContentLength
}

// startUpload sends the body of a request that has one. It closes it.
func startUpload(c *conn, req *http.Request) *upload {
	u := &upload{
		c: c, body: req.Body, left: bodyLength(req),
		closeBody: sync.OnceFunc(func() { req.Body.Close() }),
		decided:   make(chan struct{}), done: make(chan struct{}),
	}
	if !header.HasToken(req.Header, "Expect", "100-continue") {
		u.decide(uploadGoes)
	}
	go u.run()
	return u
}

// decide ends the waiting for 100 Continue; only the first decision counts.
func (u *upload) decide(state int32) {
	if u != nil && u.state.CompareAndSwap(uploadWaits, state) {
		close(u.decided)
	}
}

func (u *upload) run() {
	defer u.closeBody()
	defer close(u.done)
	if u.state.Load() == uploadWaits {
		wait := time.NewTimer(continueWait)
		defer wait.Stop()
		select {
		case <-u.decided:
		case <-wait.C:
			u.decide(uploadGoes)
		}
	}
	if u.state.Load() == uploadRefused {
		return
	}
	err := u.copy()
	var broken *bodyError
	if errors.As(err, &broken) {
		u.breakOff(broken.err)
		return
	}
	// Where the next hop takes no more, it may have answered why.
	u.sent = err == nil
	u.c.awaitHead()
}

// breakOff notes why the body could not be read, and wakes whoever waits for
// the answer.
func (u *upload) breakOff(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.settled {
		u.broken = err
		u.c.interrupt()
	}
}

// bodyError is an error of reading the body, not of sending it.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return e.err.Error() }

func requestFault(details string, cause error) *bodyError {
	return &bodyError{fault.New(fault.RequestError, details, cause)}
}

func (u *upload) copy() error {
	buf := uploadBuffers.Get().(*[]byte)
	defer uploadBuffers.Put(buf)
	for u.left != 0 {
		n, err := u.body.Read((*buf)[chunkSpace : chunkSpace+uploadPiece])
		if err != nil && err != io.EOF {
			// What came with it stays here: it could make the body look complete.
			return unreadable(err)
		}
		if n > 0 {
			if werr := u.write(*buf, n); werr != nil {
				return werr
			}
		}
		switch {
		case err == io.EOF && u.left > 0:
			return requestFault("the request's body is shorter than its Content-Length", io.ErrUnexpectedEOF)
		case err == io.EOF && u.left < 0:
			u.last.Store(true)
			return u.send([]byte("0\r\n\r\n"))
		}
	}
	return nil
}

func unreadable(err error) *bodyError {
	var known *fault.Error
	if errors.As(err, &known) {
		return &bodyError{known}
	}
	return requestFault("the request's body broke off", err)
}

// write sends n bytes, which buf holds behind chunkSpace.
func (u *upload) write(buf []byte, n int) error {
	if u.left < 0 {
		size := strconv.AppendInt(make([]byte, 0, chunkSpace), int64(n), 16)
		size = append(size, "\r\n"...)
		start, end := chunkSpace-len(size), chunkSpace+n
		copy(buf[start:], size)
		return u.send(buf[start : end+copy(buf[end:], "\r\n")])
	}
	if int64(n) > u.left {
		return requestFault("the request's body is longer than its Content-Length", nil)
	}
	u.left -= int64(n)
	u.last.Store(u.left == 0)
	return u.send(buf[chunkSpace : chunkSpace+n])
}

func (u *upload) send(p []byte) error {
	u.c.writeBy(time.Now().Add(u.c.t.cfg.ReadTimeout.D()))
	_, err := u.c.net.Write(p)
	return err
}

// settle ends the upload and reports whether all of it went out. It waits for
// nobody who reads the body: that may take as long as the client pleases.
func (u *upload) settle() bool {
	if u == nil {
		return true
	}
	u.mu.Lock()
	u.settled = true
	u.mu.Unlock()
	u.decide(uploadRefused)
	select {
	case <-u.done:
		return u.sent
	default:
	}
	u.c.interruptWrite()
	if u.last.Load() {
		<-u.done
		return u.sent
	}
	go u.closeBody()
	return false
}

// failure returns what was wrong with the body, if anything.
func (u *upload) failure() error {
	if u == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.broken
}
