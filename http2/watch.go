package http2

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"fwdproxy/internal/edge"
)

// watch is the connection below net/http's HTTP/2 server: it looks at the
// heads of the frames that pass and ends the connection of a client that sends
// more of what costs it nothing than any client has reason to (RFC 9113,
// Section 10.5). It changes no byte.
type watch struct {
	net.Conn
	limits *edge.Limits
	tls    *tls.ConnectionState // nil without TLS

	in, out frames
	mu      sync.Mutex // guards the budget: reading and writing are two goroutines
	budget  budget
}

// ConnectionState returns what the handshake agreed on.
func (w *watch) ConnectionState() tls.ConnectionState {
	if w.tls == nil {
		return tls.ConnectionState{Version: tls.VersionTLS13}
	}
	return *w.tls
}

var errFlood = errors.New("http2: the client floods the connection")

// Read fails once the client has spent its budget.
func (w *watch) Read(p []byte) (int, error) {
	w.mu.Lock()
	spent, until := w.budget.spent, time.Time{}
	if w.budget.block {
		until = w.budget.begun.Add(w.limits.HeaderTimeout.D())
	}
	w.mu.Unlock()
	if spent {
		return 0, errFlood
	}
	if !until.IsZero() {
		_ = w.Conn.SetReadDeadline(until)
		defer func() { _ = w.Conn.SetReadDeadline(time.Time{}) }()
	}
	n, err := w.Conn.Read(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.in.feed(p[:n], func(f frame) { w.budget.received(f, now) })
	if w.budget.spent {
		return 0, errFlood
	}
	return n, err
}

func (w *watch) Write(p []byte) (int, error) {
	w.mu.Lock()
	now := time.Now()
	w.out.feed(p, func(f frame) { w.budget.sent(f, now) })
	w.mu.Unlock()
	return w.Conn.Write(p)
}

// Frame types and flags (RFC 9113, Section 6).
const (
	prefaceLength = 24 // RFC 9113, Section 3.4

	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameContinuation = 0x9

	flagEndStream  = 0x1
	flagEndHeaders = 0x4
)

// Error codes (RFC 9113, Section 7).
const (
	codeProtocol     = 0x1
	codeFlowControl  = 0x3
	codeStreamClosed = 0x5
)

// frame is the head of a frame, with the error code of RST_STREAM.
type frame struct {
	length      int
	kind, flags byte
	code        uint32
}

// frames finds the heads in a stream of bytes (RFC 9113, Section 4.1).
type frames struct {
	head [9 + 4]byte
	have int
	left int // of the payload, or of the client's preface
}

// feed calls seen for each frame whose head, and error code, is complete.
func (s *frames) feed(p []byte, seen func(frame)) {
	for len(p) > 0 {
		if s.have == 0 && s.left > 0 {
			n := min(s.left, len(p))
			s.left -= n
			p = p[n:]
			continue
		}
		n := copy(s.head[s.have:s.need()], p)
		s.have += n
		p = p[n:]
		if s.have < s.need() {
			continue
		}
		f := s.frame()
		s.left = f.length - (s.have - 9)
		s.have = 0
		seen(f)
	}
}

// need is how many bytes have to be there before the frame is seen.
func (s *frames) need() int {
	if s.have >= 9 && s.head[3] == frameReset && s.length() >= 4 {
		return 13
	}
	return 9
}

func (s *frames) length() int { return int(s.head[0])<<16 | int(s.head[1])<<8 | int(s.head[2]) }

func (s *frames) frame() frame {
	f := frame{length: s.length(), kind: s.head[3], flags: s.head[4]}
	if s.have == 13 {
		f.code = uint32(s.head[9])<<24 | uint32(s.head[10])<<16 | uint32(s.head[11])<<8 | uint32(s.head[12])
	}
	return f
}
