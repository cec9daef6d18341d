package edge

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"fwdproxy/accesslog"
	"fwdproxy/acl"
	"fwdproxy/auth"
	"fwdproxy/cache"
	"fwdproxy/internal/header"
	"fwdproxy/internal/hop"
	"fwdproxy/internal/target"
)

// hot answers requests whose heads are the same byte for byte, as an Exchange
// would. What those bytes decide is worked out once; what hangs on the client,
// the clock or the store is asked anew each time.
type hot struct {
	door   *Door
	cached *cache.Hot
	asked  acl.Request      // without client, listener and time
	rec    accesslog.Record // what is the same in each
	now    atomic.Pointer[spelled]
}

// hotJoined is the size in bytes of the largest body that is copied behind its
// head, so that one plain write sends both.
const hotJoined = 16 << 10

// spelled is the answer as it is for one second.
type spelled struct {
	age, ttl int64
	head     []byte
	joined   []byte // head and body; nil for a large body
	member   string // of Cache-Status
}

// newHot returns what answers the head, or nil where only an Exchange can tell
// what the answer is.
func (d *Door) newHot(head []byte, client, listen netip.AddrPort, now time.Time) *hot {
	stored, ok := d.Cached.(interface {
		Hot(*http.Request, time.Time) *cache.Hot
	})
	if !ok || d.Mode == modeReverse || d.Auth != nil || d.Candidate != nil || d.ACL.Limited() {
		return nil
	}
	r, err := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(head), len(head)))
	if err != nil || !ordinary(r) {
		return nil
	}
	r.RemoteAddr = client.String()
	x := &Exchange{door: d, r: r, start: now}
	t, err := target.FromURL(r.URL)
	if err != nil || x.Check() != nil {
		return nil
	}
	h := &hot{door: d, asked: d.As(Question(r, t, now), auth.Identity{})}
	out := x.Outgoing(t)
	x.hop.Permit = func(a netip.AddrPort) error { return d.Guard(a) }
	if h.cached = stored.Hot(out.WithContext(hop.With(out.Context(), &x.hop)), now); h.cached == nil {
		return nil
	}
	if _, ok := h.allowed(client, listen, now); !ok {
		return nil
	}
	status, fields, _ := h.cached.Response(now)
	h.rec = accesslog.Record{
		Mode: d.Mode, Method: r.Method, URL: x.rec.URL, Proto: r.Proto, Referer: r.Referer(), UserAgent: r.UserAgent(),
		Tag: accesslog.Tag(cache.Hit), Status: status, NextHop: "NONE", ContentType: fields.Get("Content-Type"),
	}
	h.spell(now)
	return h
}

// ordinary reports whether nothing in the request needs more than a look at
// the store: absolute-form, HTTP/1.1, and no field but those that select a
// variant or say how fresh it has to be.
func ordinary(r *http.Request) bool {
	if !r.URL.IsAbs() || r.Proto != "HTTP/1.1" || r.ContentLength != 0 || len(r.TransferEncoding) > 0 || r.Close ||
		r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	for name, lines := range r.Header {
		switch name {
		case "Connection", "Proxy-Connection":
			for _, l := range lines {
				if !strings.EqualFold(l, "keep-alive") {
					return false
				}
			}
		case "Upgrade", "Te", "Trailer", "Expect", "Range", "Authorization", "Proxy-Authorization", "Max-Forwards", "Via", "Keep-Alive", "Content-Length":
			return false
		default:
			if strings.HasPrefix(name, "If-") {
				return false
			}
		}
	}
	return true
}

// allowed asks the policy. It is false where the request is refused, or the
// answer hangs on more than is known here.
func (h *hot) allowed(client, listen netip.AddrPort, now time.Time) (acl.Verdict, bool) {
	d, q := h.door, h.asked
	q.Client, q.Listen, q.Now = client.Addr(), listen, now
	v := d.ACL.Decide(q)
	if v.Action != acl.Allow || v.Pending || v.Challenge || v.ShadowPending || d.Guard == nil || d.ACL.Modifies(q) {
		return v, false
	}
	if q.HostAddr.IsValid() && d.Guard(netip.AddrPortFrom(q.HostAddr, q.Port)) != nil {
		return v, false
	}
	return v, d.Guard(h.cached.Addr) == nil
}

// size is about how many bytes h takes, its key aside.
func (h *hot) size() int64 {
	n := int64(len(h.cached.Body))
	if n <= hotJoined {
		n *= 2
	}
	return hotBeside + n
}

// spell writes the answer as it is now.
func (h *hot) spell(now time.Time) *spelled {
	status, fields, member := h.cached.Response(now)
	header.AppendVia(fields, 1, 1, h.door.Name)
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 " + strconv.Itoa(status) + " " + http.StatusText(status) + "\r\n")
	_ = fields.Write(&b) // to memory
	b.WriteString("\r\n")
	s := &spelled{head: b.Bytes(), member: member}
	if len(h.cached.Body) <= hotJoined {
		s.joined = append(b.Bytes(), h.cached.Body...)
	}
	s.age, s.ttl = h.cached.Seconds(now)
	h.now.Store(s)
	return s
}

// scratch is what one answer needs while it is given.
type scratch struct {
	rec    accesslog.Record
	id     [16]byte
	pieces [2][]byte
	left   net.Buffers // of pieces
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// answer writes the answer if the policy and the store still give it. The
// error is the client's, who then got a part of it at most.
func (h *hot) answer(w net.Conn, client, listen netip.AddrPort) (bool, error) {
	d := h.door
	start := d.Now()
	if !h.cached.Current(start) {
		return false, nil
	}
	v, ok := h.allowed(client, listen, start)
	if !ok {
		return false, nil
	}
	s := h.now.Load()
	if age, ttl := h.cached.Seconds(start); s.age != age || s.ttl != ttl {
		s = h.spell(start)
	}
	h.cached.Used()
	c := scratches.Get().(*scratch)
	defer scratches.Put(c)
	n, err := h.send(w, s, c)

	c.rec = h.rec
	// Log keeps nothing of the record, so the id may lie where the next will.
	appendID(c.id[:0])
	c.rec.RequestID = unsafe.String(&c.id[0], len(c.id))
	c.rec.Time, c.rec.Client, c.rec.CacheStatus = start, client, s.member
	c.rec.Duration = d.Now().Sub(start)
	c.rec.Rule, c.rec.Verdict = v.Rule, v.Action.String()
	if v.Shadow.Rule != "" {
		c.rec.Shadow, c.rec.ShadowVerdict = v.Shadow.Rule, v.Shadow.Action.String()
	}
	c.rec.BytesOut = max(0, n-int64(len(s.head)))
	if err != nil {
		c.rec.Error, c.rec.ErrorCause = clientGone, err.Error()
	}
	d.ACL.Count(v, start)
	d.Log(&c.rec)
	return true, err
}

// send writes head and body: one write, unless the client is slow. Each piece
// of slowPiece bytes then has the time of one write, as in Writer.
func (h *hot) send(w net.Conn, s *spelled, c *scratch) (sent int64, err error) {
	timeout := h.door.Limits.WriteTimeout.D()
	if s.joined != nil {
		_ = w.SetWriteDeadline(time.Now().Add(timeout))
		n, err := w.Write(s.joined)
		return int64(n), err
	}
	defer clear(c.pieces[:])
	c.pieces = [2][]byte{s.head, h.cached.Body}
	c.left = c.pieces[:]
	for {
		_ = w.SetWriteDeadline(time.Now().Add(timeout))
		n, err := c.left.WriteTo(w) // goes on where it stopped
		if sent += n; n < slowPiece || !errors.Is(err, os.ErrDeadlineExceeded) {
			return sent, err
		}
	}
}
