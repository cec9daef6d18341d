package tunnel

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"time"
)

const (
	// maxHello bounds what is read before the ClientHello is whole; TLS itself
	// allows 64 KiB for one, browsers send about two.
	maxHello = 64 << 10
	// extensionECH is encrypted_client_hello (RFC 9849). Browsers send it to every
	// server, with nothing in it where they know no key.
	extensionECH = 0xfe0d
	// recordHandshake begins every TLS connection (RFC 8446, Section 5.1).
	recordHandshake = 0x16
)

// Hello is what a client says to begin TLS, unencrypted.
type Hello struct {
	TLS        bool   // false: what the client sent is no ClientHello, or nothing came in time
	ServerName string // SNI, as sent; "" when there is none
	ECH        bool   // an encrypted ClientHello is offered, or pretended
}

// ReadHello reads what the client sends up to the end of its ClientHello, of
// which early came already, until the deadline. All that was read is
// returned, to go on to the server as it is. The error is that of reading.
func ReadHello(conn net.Conn, early []byte, deadline time.Time) (Hello, []byte, error) {
	t := &tap{conn: conn, read: slices.Clone(early)}
	_ = conn.SetReadDeadline(deadline)
	defer func() { _ = conn.SetReadDeadline(time.Time{}) }()
	var h Hello
	err := tls.Server(t, &tls.Config{GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
		h = Hello{TLS: true, ServerName: i.ServerName, ECH: slices.Contains(i.Extensions, extensionECH)}
		return nil, errHelloRead
	}}).Handshake()
	switch {
	case errors.Is(err, errHelloRead), t.failed == nil, errors.Is(t.failed, io.EOF), errors.Is(t.failed, os.ErrDeadlineExceeded), errors.Is(t.failed, errNoHello):
		return h, t.read, nil // what is no ClientHello is not an error of the connection
	}
	return h, t.read, t.failed
}

var (
	errHelloRead = errors.New("the ClientHello is read")
	errNoHello   = errors.New("this is no ClientHello")
)

// tap is the connection for a TLS server that gets no further than the
// ClientHello: it keeps what is read, and sends nothing.
type tap struct {
	conn   net.Conn
	read   []byte // all of it
	given  int
	failed error
}

func (t *tap) Read(p []byte) (int, error) {
	if t.given == len(t.read) && t.failed == nil {
		t.fill()
	}
	if len(t.read) > 0 && t.read[0] != recordHandshake {
		t.failed = errNoHello
	}
	if t.failed != nil {
		return 0, t.failed
	}
	n := copy(p, t.read[t.given:])
	t.given += n
	return n, nil
}

func (t *tap) fill() {
	if len(t.read) >= maxHello {
		t.failed = errNoHello
		return
	}
	t.read = slices.Grow(t.read, 4<<10)
	n, err := t.conn.Read(t.read[len(t.read):min(cap(t.read), maxHello)])
	t.read = t.read[:len(t.read)+n]
	if n == 0 {
		t.failed = err
	}
}

func (t *tap) Write(p []byte) (int, error)      { return len(p), nil }
func (t *tap) Close() error                     { return nil }
func (t *tap) LocalAddr() net.Addr              { return t.conn.LocalAddr() }
func (t *tap) RemoteAddr() net.Addr             { return t.conn.RemoteAddr() }
func (t *tap) SetDeadline(time.Time) error      { return nil }
func (t *tap) SetReadDeadline(time.Time) error  { return nil }
func (t *tap) SetWriteDeadline(time.Time) error { return nil }

// accessDenied is the fatal alert access_denied (RFC 8446, Section 6.2) in a
// record of its own.
var accessDenied = []byte{0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x31}

// Refuse tells a client that began TLS that it may not, and closes.
func Refuse(conn net.Conn, h Hello) {
	if h.TLS {
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write(accessDenied) // who does not take it sees the end
	}
	conn.Close()
}
