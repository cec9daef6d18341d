package cache

import (
	"context"
	"net/http"
	"net/netip"
	"net/textproto"
	"slices"
	"sync"
	"time"

	"fwdproxy/cache/store"
	"fwdproxy/internal/hop"
)

// flight is one fetch that may be stored. It runs in a goroutine of its own,
// so that those who take part in it, the one that began it (its leader) and
// those that joined, can leave without the others noticing. When all have
// left it ends, and stores nothing.
type flight struct {
	t    *Transport
	key  store.Key
	view *view
	dir  requestDirectives // the leader's
	req  *http.Request     // what is sent
	hop  *hop.Hop          // the fetch's own
	mark mark              // when it began, and what of; with its tags once known
	base *entry            // what is stored already and may be freshened or stand in; may be nil
	ask  bool              // send the validators of base
	part *entry            // an incomplete response to complete; may be nil

	limit int64 // the largest body that is stored

	tooFew bool // a rule wants more requests before it stores

	// The book's lock guards these.
	open  bool     // may be joined
	void  bool     // an unsafe request came after it began: store nothing
	known bool     // the response's head is there
	names []string // that the response varies by, once known

	cancel     context.CancelFunc
	interim    chan interim  // 1xx responses, for the leader
	leaderGone chan struct{} // closed when nobody takes them
	ready      chan struct{} // closed when out is set

	mu       sync.Mutex
	refs     int // that take part
	waiting  int // of these, how many have not begun to read
	noLeader bool
	kept     bool // goes on to its end when nobody takes part any more
	ended    bool
	out      *landing
}

// interim is a 1xx response on its way to the leader.
type interim struct {
	code   int
	header textproto.MIMEHeader
	ack    chan error
}

// landing is what a flight came to, as soon as the response's head is there.
type landing struct {
	kind      landingKind
	err       error          // failed
	answered  int            // the status that came; 0 for none
	res       *http.Response // direct: the leader's alone; shared: the head that the leader passes on
	reader    *fillReader    // shared: the leader's
	fill      *fill          // shared
	rec       *record        // shared
	refusal   Refusal        // direct: why it is not stored
	entry     *entry         // unchanged: base with its freshened record
	setCookie []string       // unchanged: the leader's
	addr      netip.AddrPort
	hopName   string
}

type landingKind uint8

const (
	failed    landingKind = iota // no response
	faulted                      // a server error in place of which something stale may be served
	direct                       // a response that is not stored
	shared                       // a response that is stored as it arrives
	unchanged                    // what is stored is still good
)

// join takes part in a flight for the request; one that it must begin, where
// lead is true, or that another leads. What several responses to the URI are
// known to vary by is in names.
func (c *Cache) join(q *query, names []string, begin func() *flight) (f *flight, lead bool) {
	b := c.book(q.key)
	b.mu.Lock()
	defer b.mu.Unlock()
	if q.joins {
		for _, f := range b.flights[q.key] {
			if f.known {
				names = append(slices.Clip(names), f.names...)
			}
		}
		slices.Sort(names)
		names = slices.Compact(names)
		for _, f := range b.flights[q.key] {
			by := names
			if f.known {
				by = f.names
			}
			if f.open && f.answers(q, by) && !c.purges.judge(&f.mark, f.key, q.req.URL).purged() && f.enter() {
				return f, false
			}
		}
	}
	f = begin()
	b.flights[q.key] = append(b.flights[q.key], f)
	return f, true
}

// enter adds one that takes part.
func (f *flight) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended || (f.refs == 0 && !f.kept) {
		return false
	}
	f.refs++
	f.waiting++
	return true
}

// attach begins to read n bytes from off of the shared body, all that follow
// when n is negative; false when it is too late for that.
func (f *flight) attach(ctx context.Context, off, n int64) (*fillReader, bool) {
	r, ok := f.out.fill.reader(ctx, off, n, func() { f.release(0) })
	if ok {
		f.mu.Lock()
		f.waiting--
		f.sealIfDone()
		f.mu.Unlock()
	}
	return r, ok
}

// leave takes one out that has not begun to read.
func (f *flight) leave() { f.release(1) }

func (f *flight) release(waiting int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refs--
	f.waiting -= waiting
	f.sealIfDone()
	if f.refs > 0 || (f.kept && !f.ended) {
		return
	}
	if !f.ended && f.nearlyDone() {
		f.kept = true
		time.AfterFunc(finishFor, f.cancel) // nothing comes of it when the fetch has ended
		return
	}
	f.cancel()
}

// finishFor is how long a fetch that nobody wants any more may take to its end.
const finishFor = time.Minute

// nearlyDone says whether a fetch that nobody wants any more is worth its end.
func (f *flight) nearlyDone() bool {
	if f.out == nil || f.out.kind != shared {
		return false
	}
	n, kept := f.out.fill.progress()
	return kept && f.t.cfg.finishes(n, f.out.fill.size)
}

// keep lets the fetch go on to its end for the store's sake.
func (f *flight) keep() {
	f.mu.Lock()
	f.kept = true
	f.mu.Unlock()
}

func (f *flight) sealIfDone() {
	if f.ended && f.waiting == 0 && f.out.fill != nil {
		f.out.fill.seal()
	}
}

// leaderLeaves takes the leader out when its client is gone, with what it has
// not picked up.
func (f *flight) leaderLeaves() {
	close(f.leaderGone)
	f.mu.Lock()
	f.noLeader = true
	out := f.out
	f.mu.Unlock()
	switch {
	case out == nil:
		f.leave()
	case out.kind == shared:
		out.reader.Close()
	default:
		if out.kind == direct {
			out.res.Body.Close()
		}
		f.leave()
	}
}

// land publishes what came. The names are what a shared response varies by,
// and usable says whether others may be answered with it.
func (f *flight) land(out *landing, names []string, usable bool, leader context.Context) {
	out.addr, out.hopName = f.hop.Answered()
	b := f.t.cache.book(f.key)
	b.mu.Lock()
	f.known, f.names = true, names
	f.open = f.open && usable
	if out.rec != nil {
		f.mark = out.rec.mark
	}
	b.mu.Unlock()

	f.mu.Lock()
	followers := f.waiting > 1 || (f.noLeader && f.waiting > 0)
	if out.kind == shared && !f.noLeader {
		out.reader, _ = out.fill.reader(leader, 0, -1, func() { f.release(0) })
		f.waiting--
	}
	f.out = out
	orphan := out.kind == direct && f.noLeader
	f.mu.Unlock()
	close(f.ready)
	if orphan {
		out.res.Body.Close()
	}
	if followers && !usable && (out.kind == direct || out.kind == shared) {
		f.t.cache.setAlone(f.key, time.Now())
	}
}

// end takes the flight out of the book: from here on what it fetched is
// stored, or will never be.
func (f *flight) end() {
	b := f.t.cache.book(f.key)
	b.mu.Lock()
	f.open = false
	left := slices.DeleteFunc(b.flights[f.key], func(o *flight) bool { return o == f })
	if len(left) == 0 {
		delete(b.flights, f.key)
	} else {
		b.flights[f.key] = left
	}
	b.mu.Unlock()
	f.mu.Lock()
	f.ended = true
	f.sealIfDone()
	if f.refs == 0 {
		f.cancel()
	}
	f.mu.Unlock()
}
