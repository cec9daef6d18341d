package cache

import (
	"encoding/binary"
	"io"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"fwdproxy/cache/store"
	"fwdproxy/internal/hop"
)

// generations counts the changes of what is stored, over all keys that share a
// slot.
type generations [4096]atomic.Uint64

func (g *generations) of(k store.Key) *atomic.Uint64 {
	return &g[binary.LittleEndian.Uint16(k[6:])%uint16(len(g))]
}

// watched is a store that counts its changes. What it drops by itself for want
// of room is no change: it could still be served.
type watched struct {
	store.Store
	changes *generations
}

func (w watched) Put(k store.Key, head []byte, body [][]byte) error {
	defer w.changes.of(k).Add(1)
	return w.Store.Put(k, head, body)
}

func (w watched) SetHead(k store.Key, o store.Object, head []byte) error {
	defer w.changes.of(k).Add(1)
	return w.Store.SetHead(k, o, head)
}

func (w watched) Delete(k store.Key) {
	defer w.changes.of(k).Add(1)
	w.Store.Delete(k)
}

// Hot is a stored response that answers one request, and every other with the
// same bytes, as RoundTrip would, for as long as Current says so.
type Hot struct {
	Body []byte         // nil for HEAD; read-only
	Addr netip.AddrPort // where it came from, which the client must be permitted

	t            *Transport
	key, variant store.Key
	// The changes as they were before it was looked up.
	keyChanges, variantChanges, purges uint64

	rec  *record
	dir  requestDirectives
	size int64
}

// maxHot is the size in bytes of the largest body that a Hot has.
const maxHot = 1 << 20

// Hot returns what answers the request at once, a GET or HEAD without a
// condition and without Range, whose hop permits what it is to permit. It
// returns nil where anything else than a whole, plain and fresh response may
// come of it, or a rule has a say.
func (t *Transport) Hot(req *http.Request, now time.Time) *Hot {
	q := &query{req: req, ctx: req.Context(), hop: hop.From(req.Context()), view: t.view(req.URL)}
	if t.cfg.off() || q.hop == nil || q.hop.Bypass != "" || q.view.rule != nil || bypasses(req) || hasConditions(req.Header) || len(req.Header["Range"]) > 0 {
		return nil
	}
	q.dir = parseRequest(req.Header)
	q.setKey()
	c := t.cache
	h := &Hot{t: t, key: q.key, dir: q.dir, purges: c.purges.seq.Load(), keyChanges: c.changes.of(q.key).Load()}
	// The variant's key is known only after a look-up, its changes have to be read
	// before one.
	first := t.lookup(q, now)
	if first.entry == nil {
		return nil
	}
	h.variant = first.entry.key
	h.variantChanges = c.changes.of(h.variant).Load()
	fd := t.lookup(q, now)
	e := fd.entry
	if e == nil || e.key != h.variant || fd.ruling.purged() || e.parts != nil || e.obj.Size > maxHot || !e.serves(req.Method, req.Header) {
		return nil
	}
	if h.rec = e.rec; !h.plain(now) || !h.Current(now) {
		return nil
	}
	h.Addr, h.size = e.rec.addr, e.obj.Size
	if req.Method == http.MethodGet && h.size > 0 {
		body, err := e.obj.Body.Open(0, h.size)
		if err != nil {
			return nil
		}
		defer body.Close()
		h.Body = make([]byte, h.size)
		if _, err = io.ReadFull(body, h.Body); err != nil {
			return nil
		}
	}
	return h
}

// plain reports whether the response has a body that its length frames, a Date
// of its own, and nothing that a rule made of it.
func (h *Hot) plain(now time.Time) bool {
	switch h.rec.status {
	case http.StatusNoContent, http.StatusResetContent, http.StatusNotModified, http.StatusPartialContent:
		return false
	}
	return http.StatusText(h.rec.status) != "" && h.rec.bentBy(now) == 0 && len(h.rec.header["Date"]) == 1 && h.rec.staleSince == nil
}

// Current reports whether RoundTrip would still answer with it: nothing was
// stored, removed or purged since that could be about it, and it is fresh
// enough for the request.
func (h *Hot) Current(now time.Time) bool {
	c := h.t.cache
	if c.changes.of(h.key).Load() != h.keyChanges || c.changes.of(h.variant).Load() != h.variantChanges || c.purges.seq.Load() != h.purges {
		return false
	}
	d := decide(h.dir, h.rec, true, now)
	return d.Action == Serve && d.Reason == Fresh && !d.Refresh
}

// Used tells the store that it was served, so that it stays.
func (h *Hot) Used() {
	if s, ok := h.t.cache.store.(watched).Store.(interface{ Used(store.Key) }); ok {
		s.Used(h.key)
		s.Used(h.variant)
	}
}

// Seconds returns the two numbers in the response that change with time: its
// age and how long it stays fresh.
func (h *Hot) Seconds(now time.Time) (age, ttl int64) {
	return int64(h.rec.age(now) / time.Second), wholeSeconds(h.rec.ttl(now))
}

// Response returns status and header of the response, and our member of its
// Cache-Status.
func (h *Hot) Response(now time.Time) (status int, header http.Header, member string) {
	header = h.rec.header.Clone()
	setAge(header, h.rec, now)
	header["Content-Length"] = []string{decimal(h.size)}
	st := statusOfHit(h.rec, now)
	member = st.String(h.t.name)
	h.t.sign(header, member)
	return h.rec.status, header, member
}

func statusOfHit(r *record, now time.Time) status {
	return status{hit: true, ttl: r.ttl(now), hasTTL: true}
}
