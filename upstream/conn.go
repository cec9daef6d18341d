package upstream

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"sync"
	"syscall"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/header"
)

// maxInterim bounds the 1xx answers to one request.
const maxInterim = 16

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 16<<10) }}

// conn is one connection to a next hop. One exchange has it at a time.
type conn struct {
	t        *Transport
	key      string
	raw      net.Conn // the TCP connection
	net      net.Conn // raw, or TLS over it
	r        *bufio.Reader
	addr     netip.AddrPort
	name     string // in the log
	peer     *peer  // whose active count the exchange holds; nil for an origin
	reused   bool
	answered bool // a byte of the answer came
	since    time.Time

	mu       sync.Mutex
	canceled bool // the deadlines stay in the past
}

func newConn(t *Transport, key string, raw, secure net.Conn, addr netip.AddrPort, name string) *conn {
	r := readers.Get().(*bufio.Reader)
	r.Reset(secure)
	return &conn{t: t, key: key, raw: raw, net: secure, r: r, addr: addr, name: name}
}

// close ends the connection and gives its reader back. It is called once.
func (c *conn) close() {
	c.leave()
	c.net.Close()
	c.r.Reset(nil)
	readers.Put(c.r)
	c.r = nil
}

func (c *conn) leave() {
	if c.peer != nil {
		c.peer.active.Add(-1)
		c.peer = nil
	}
}

// release keeps the connection for the next request.
func (c *conn) release() {
	c.leave()
	_ = c.net.SetDeadline(time.Time{})
	c.answered = false
	c.t.idle.put(c)
}

// alive reports whether a kept connection can take a request: not closed by
// the other side, and nothing came that nobody asked for (RFC 9112, Section
// 9.3 and 11.2). Over TLS only the end can be told from the peek: session
// tickets may wait.
func (c *conn) alive() bool {
	if c.r.Buffered() > 0 {
		return false
	}
	sc, ok := c.raw.(syscall.Conn)
	if !ok {
		return true
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	ok = false
	err = rc.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		ok = err == syscall.EAGAIN || (err == nil && n > 0 && c.net != c.raw)
		return true
	})
	return ok && err == nil
}

// interrupt unblocks whoever reads or writes, for good.
func (c *conn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.canceled = true
	_ = c.net.SetDeadline(time.Unix(1, 0))
}

func (c *conn) readBy(d time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.canceled {
		_ = c.net.SetReadDeadline(d)
	}
}

func (c *conn) writeBy(d time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.canceled {
		_ = c.net.SetWriteDeadline(d)
	}
}

// exchange sends the request and reads the head of the final answer. On an
// error the connection is closed; else the answer's body gives it back.
func (c *conn) exchange(req *http.Request, head []byte) (*http.Response, error) {
	ctx := req.Context()
	stop := context.AfterFunc(ctx, c.interrupt)
	up, err := c.send(req, head)
	var res *http.Response
	var f framing
	if err == nil {
		res, err = c.receive(req, up)
	}
	if err == nil {
		f, err = frame(req.Method, res)
	}
	if err != nil {
		stop()
		c.interrupt()
		if cause := up.abandon(req); cause != nil {
			err = cause // what broke the request's own body says more
		}
		c.close()
		return nil, transportFault(ctx, err)
	}
	return c.response(req, res, f, up, stop), nil
}

// send writes the request's head, and its body from a goroutine of its own, so
// that an early answer is seen.
func (c *conn) send(req *http.Request, head []byte) (*upload, error) {
	c.writeBy(time.Now().Add(c.t.cfg.ResponseTimeout.D()))
	if _, err := c.net.Write(head); err != nil {
		return nil, err
	}
	if req.Body == nil || req.Body == http.NoBody {
		c.readBy(time.Now().Add(c.t.cfg.ResponseTimeout.D()))
		return nil, nil
	}
	c.readBy(time.Time{})
	return startUpload(c, req), nil
}

// receive reads heads up to the final one and passes interim ones on.
func (c *conn) receive(req *http.Request, up *upload) (*http.Response, error) {
	trace := httptrace.ContextClientTrace(req.Context())
	for range maxInterim {
		res, err := readHead(c.r, c.t.cfg, &c.answered)
		if err != nil {
			return nil, err
		}
		switch {
		case res.StatusCode == http.StatusContinue:
			up.proceed()
		case res.StatusCode == http.StatusSwitchingProtocols:
			if header.Upgrade(req.Header) == "" {
				return nil, fault.New(fault.ProtocolError, "the next hop switched protocols without being asked", nil)
			}
			return res, nil
		case res.StatusCode >= 200:
			return res, nil
		case trace != nil && trace.Got1xxResponse != nil:
			if err := trace.Got1xxResponse(res.StatusCode, textproto.MIMEHeader(res.Header)); err != nil {
				return nil, err
			}
		}
	}
	return nil, fault.New(fault.ProtocolError, "the next hop sent too many interim answers", nil)
}
