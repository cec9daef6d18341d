// Package hop carries, in a request's context, what the front door and the
// next hop tell each other about one exchange: which addresses the policy lets
// this request reach, and which one answered.
//
// It owns no policy and does no I/O.
package hop

import (
	"context"
	"net/netip"
	"strconv"
	"sync"
)

// Unknown stands for the address of a host that only a parent proxy looks up.
// Nothing has it, since its port is 0.
var Unknown = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)

// Hop is the next hop of one request. The front door makes it; upstream fills
// it in; cache reads it to know where a stored response came from.
type Hop struct {
	// Permit says whether this request may use the destination address; it is
	// asked for every address before a dial, before a pooled connection is
	// reused and before a stored response is. It is asked about Unknown where only
	// a parent proxy knows the address. Nil refuses every address.
	Permit func(netip.AddrPort) error
	// Pool names the [[pool]] that serves the request; "" means the origin that
	// the URL names.
	Pool string
	// Path is what the pool is asked for, escaped path and query, in place of what
	// the URL says; "" means the URL's.
	Path string
	// Encode is the content coding that the pool's answer shall get where it has
	// none and is worth it, "identity" for none; "" leaves every answer as it is.
	Encode string
	// Via is what this proxy says in Via on behalf of the request, where it has
	// to ask a parent proxy for a tunnel; "" says nothing.
	Via string
	// Client is the address that asks; a pool may choose the peer by it. The zero
	// Addr is nobody's.
	Client netip.Addr
	// Sticky is the token of the peer that the client is bound to; "" is none.
	Sticky string
	// Apart keeps responses apart in the cache: one that came to a request with
	// another text is neither served nor shared, though URL and fields may agree.
	Apart string
	// Bypass names what sends the request past the cache; "" is nothing.
	Bypass string
	// MaxStored is the largest body in bytes that is stored for the request's sake;
	// 0 leaves that to the cache.
	MaxStored int64

	mu   sync.Mutex
	addr netip.AddrPort
	name string
}

type key struct{}

// With returns a context that carries h.
func With(ctx context.Context, h *Hop) context.Context {
	return context.WithValue(ctx, key{}, h)
}

// From returns the context's Hop, or nil.
func From(ctx context.Context) *Hop {
	h, _ := ctx.Value(key{}).(*Hop)
	return h
}

// Fork returns a Hop that asks for the same and has no address yet, for a
// fetch that may outlive the request that began it.
func (h *Hop) Fork() *Hop {
	if h == nil {
		return &Hop{}
	}
	return &Hop{Permit: h.Permit, Pool: h.Pool, Path: h.Path, Encode: h.Encode, Via: h.Via, Client: h.Client, Sticky: h.Sticky,
		Apart: h.Apart, Bypass: h.Bypass, MaxStored: h.MaxStored}
}

// KeepApart adds to Apart. No text in it can be read as two others.
func (h *Hop) KeepApart(by string) {
	if by != "" {
		h.Apart += strconv.Itoa(len(by)) + " " + by
	}
}

// Used records the address that answered and its name in the log
// ("DIRECT/192.0.2.1", "app/127.0.0.1:9000"). A nil Hop ignores it.
func (h *Hop) Used(addr netip.AddrPort, name string) {
	if h == nil {
		return
	}
	h.mu.Lock()
	h.addr, h.name = addr, name
	h.mu.Unlock()
}

// Answered returns what Used recorded last; the zero AddrPort before that.
func (h *Hop) Answered() (addr netip.AddrPort, name string) {
	if h == nil {
		return netip.AddrPort{}, ""
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.addr, h.name
}
