package reverse

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"fwdproxy/internal/hop"
)

const (
	// mirrorBody is the largest request body that is copied.
	mirrorBody = 1 << 20
	// mirrorsOpen bounds the copies under way; what comes beyond is not copied.
	mirrorsOpen = 64
	// mirrorTime bounds one copy, its answer included.
	mirrorTime = 30 * time.Second
	// mirrorAnswer is how much of an answer is read, so that its connection can be
	// used again.
	mirrorAnswer = 1 << 20
)

// Mirrors sends copies of requests. It outlives reloads.
type Mirrors struct {
	slots  chan struct{}
	counts [3]atomic.Uint64
}

// What became of requests that were to be copied.
const (
	MirrorSent = iota
	MirrorFailed
	MirrorDropped // for want of room, or of the whole body
)

// NewMirrors returns Mirrors with nothing under way.
func NewMirrors() *Mirrors { return &Mirrors{slots: make(chan struct{}, mirrorsOpen)} }

// Count returns how many copies came to what: MirrorSent and so on.
func (m *Mirrors) Count(what int) uint64 { return m.counts[what].Load() }

// mirrored is a copy of one request, to be sent once that is answered. Nil is
// none.
type mirrored struct {
	m    *Mirrors
	next http.RoundTripper
	pool string
	path string
	req  *http.Request
	body *copiedBody
}

// mirror makes a copy of a request, if it is of the site's share.
func (s *Settings) mirror(site *Site, out *http.Request, path string) *mirrored {
	c := site.Mirror
	if c == nil || s.roll()*100 >= c.Percent {
		return nil
	}
	again := &mirrored{m: s.Mirrors, next: s.Door.Direct, pool: c.Pool, path: path, req: out.Clone(context.WithoutCancel(out.Context()))}
	again.req.Body = nil
	if out.Body != nil && out.Body != http.NoBody {
		again.body = &copiedBody{ReadCloser: out.Body}
		out.Body = again.body
	}
	return again
}

// send sends the copy, in the background.
func (a *mirrored) send() {
	if a == nil {
		return
	}
	if a.body != nil {
		whole, ok := a.body.whole()
		if !ok {
			a.m.counts[MirrorDropped].Add(1)
			return
		}
		a.req.Body, a.req.ContentLength = io.NopCloser(bytes.NewReader(whole)), int64(len(whole))
		delete(a.req.Header, "Expect")
	}
	select {
	case a.m.slots <- struct{}{}:
		go a.play()
	default:
		a.m.counts[MirrorDropped].Add(1)
	}
}

func (a *mirrored) play() {
	defer func() { <-a.m.slots }()
	ctx, cancel := context.WithTimeout(hop.With(a.req.Context(), &hop.Hop{Pool: a.pool, Path: a.path}), mirrorTime)
	defer cancel()
	res, err := a.next.RoundTrip(a.req.WithContext(ctx))
	if err != nil {
		a.m.counts[MirrorFailed].Add(1)
		return
	}
	_, _ = io.CopyN(io.Discard, res.Body, mirrorAnswer)
	res.Body.Close()
	a.m.counts[MirrorSent].Add(1)
}

// copiedBody keeps what is read of a body, up to a bound.
type copiedBody struct {
	io.ReadCloser
	kept  bytes.Buffer
	over  bool // there was more than the bound
	ended atomic.Bool
}

func (b *copiedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if !b.over {
		if b.kept.Len()+n > mirrorBody {
			b.over, b.kept = true, bytes.Buffer{}
		} else {
			b.kept.Write(p[:n])
		}
	}
	if err == io.EOF {
		b.ended.Store(true)
	}
	return n, err
}

// whole returns the body, if all of it was read and kept.
func (b *copiedBody) whole() ([]byte, bool) {
	if !b.ended.Load() || b.over {
		return nil, false
	}
	return b.kept.Bytes(), true
}
