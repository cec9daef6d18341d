package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"os"
	"sync"
	"syscall"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/header"
)

// maxInterim bounds the 1xx answers to one request; one more is a 502.
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
	name     string  // in the log
	peer     *peer   // whose active count the exchange holds; nil for an origin
	parent   *parent // that is asked in absolute-form; nil where the origin or a peer is asked
	reused   bool
	once     bool // it is not kept
	answered bool // a byte of the answer came
	since    time.Time
	patience time.Duration // to the head of an answer

	mu         sync.Mutex
	canceled   bool // both deadlines stay in the past
	writesOver bool // the write deadline stays in the past
	headCame   bool // of the final answer
}

func newConn(t *Transport, key string, raw, secure net.Conn, addr netip.AddrPort, name string) *conn {
	r := readers.Get().(*bufio.Reader)
	r.Reset(secure)
	t.open.Add(1)
	return &conn{t: t, key: key, raw: raw, net: secure, r: r, addr: addr, name: name, patience: t.cfg.ResponseTimeout.D()}
}

// close ends the connection. It is called once.
func (c *conn) close() {
	c.leave()
	c.net.Close()
	c.returnReader()
	c.t.open.Add(-1)
}

func (c *conn) returnReader() {
	c.r.Reset(nil)
	readers.Put(c.r)
	c.r = nil
}

func (c *conn) leave() {
	if c.peer != nil {
		c.peer.leave()
		c.peer = nil
	}
}

// release keeps the connection for the next request.
func (c *conn) release() {
	if c.once {
		c.close()
		return
	}
	c.leave()
	_ = c.net.SetDeadline(time.Time{})
	c.answered, c.writesOver, c.headCame = false, false, false
	c.t.idle.put(c)
}

// alive reports whether a kept connection can take a request: the other side
// did not close it, and nothing came that nobody asked for, which would be
// taken for the next answer (RFC 9112, Section 9.3 and 11.2).
func (c *conn) alive() bool {
	if c.r.Buffered() > 0 || !quiet(c.raw) {
		return false
	}
	if c.net == c.raw {
		return true
	}
	// TLS may have read further than what it handed out. With its deadline in the
	// past it looks only at that.
	_ = c.net.SetReadDeadline(time.Unix(1, 0))
	var b [1]byte
	n, err := c.net.Read(b[:])
	_ = c.net.SetReadDeadline(time.Time{})
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// quiet reports whether there is nothing to read on the socket, no end
// either.
func quiet(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	var peek error
	err = rc.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, peek = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return true
	})
	return err == nil && peek == syscall.EAGAIN
}

// cutOff reports whether TLS ended without a closure alert.
func (c *conn) cutOff() bool {
	secure, ok := c.net.(*tls.Conn)
	if !ok {
		return false
	}
	under, ok := secure.NetConn().(*endSeen)
	return !ok || under.end.Load()
}

// interrupt unblocks whoever reads or writes, for good.
func (c *conn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.canceled = true
	_ = c.net.SetDeadline(time.Unix(1, 0))
}

func (c *conn) interrupted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.canceled
}

// interruptWrite unblocks whoever writes, until the connection is released.
func (c *conn) interruptWrite() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writesOver = true
	_ = c.net.SetWriteDeadline(time.Unix(1, 0))
}

func (c *conn) readBy(d time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.canceled {
		_ = c.net.SetReadDeadline(d)
	}
}

// awaitHead starts the time in which the head of the answer must come, unless
// it came already.
func (c *conn) awaitHead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.canceled && !c.headCame {
		_ = c.net.SetReadDeadline(time.Now().Add(c.patience))
	}
}

func (c *conn) writeBy(d time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.canceled && !c.writesOver {
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
		up.settle()
		if cause := up.failure(); cause != nil {
			err = cause // what broke the request's own body says more
		}
		c.close()
		return nil, transportFault(ctx, err)
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		return c.switched(req, res, stop), nil
	}
	return c.response(req, res, f, up, stop), nil
}

// send writes the request's head, and its body from a goroutine of its own, so
// that an early answer is seen.
func (c *conn) send(req *http.Request, head []byte) (*upload, error) {
	c.writeBy(time.Now().Add(c.patience))
	if _, err := c.net.Write(head); err != nil {
		closeBody(req)
		return nil, err
	}
	if !hasBody(req) {
		closeBody(req)
		c.awaitHead()
		return nil, nil
	}
	c.readBy(time.Time{})
	return startUpload(c, req), nil
}

// receive reads heads up to the final one and passes interim ones on.
func (c *conn) receive(req *http.Request, up *upload) (*http.Response, error) {
	trace := httptrace.ContextClientTrace(req.Context())
	for range maxInterim + 1 {
		res, err := readHead(c.r, c.t.cfg, &c.answered)
		if err != nil {
			return nil, err
		}
		switch {
		case res.StatusCode == http.StatusContinue:
			up.decide(uploadGoes)
		case res.StatusCode == http.StatusSwitchingProtocols:
			return res, c.mayBeSwitched(req, res, up)
		case res.StatusCode >= 200:
			c.mu.Lock()
			c.headCame = true
			c.mu.Unlock()
			up.decide(uploadRefused)
			return res, nil
		case trace != nil && trace.Got1xxResponse != nil:
			if err := trace.Got1xxResponse(res.StatusCode, textproto.MIMEHeader(res.Header)); err != nil {
				return nil, err
			}
		}
	}
	return nil, fault.New(fault.ProtocolError, "the next hop sent too many interim answers", nil)
}

// mayBeSwitched returns what speaks against a 101: it was not asked for, or the
// request is not over (RFC 9110, Section 7.8).
func (c *conn) mayBeSwitched(req *http.Request, res *http.Response, up *upload) error {
	protocol := header.Upgrade(res.Header)
	switch {
	case header.Upgrade(req.Header) == "":
		return fault.New(fault.ProtocolError, "the next hop switched protocols without being asked", nil)
	case protocol == "" || !header.HasToken(req.Header, "Upgrade", protocol):
		return fault.New(fault.UpgradeFailed, "the next hop switched to a protocol that was not asked for", nil)
	case !up.settle():
		return fault.New(fault.UpgradeFailed, "the next hop switched protocols in the middle of a request", nil)
	}
	return nil
}
