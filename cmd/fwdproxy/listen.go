package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"

	"fwdproxy/http1"
)

// room is the places for client connections, which all listeners share.
type room struct {
	framing *http1.Server
	clients *clients
	places  chan struct{}
	*announcers
}

func newRoom(framing *http1.Server, connections int, who *announcers) *room {
	return &room{framing: framing, clients: &clients{open: map[netip.Prefix]int{}}, places: make(chan struct{}, connections), announcers: who}
}

// leave gives a connection's place back.
func (r *room) leave(c net.Conn) {
	<-r.places
	if over, ok := c.(interface{ OverLimit() bool }); !ok || !over.OverLimit() {
		r.clients.end(c)
	}
}

// connState is for the http.Server that has the connections.
func (r *room) connState(c net.Conn, state http.ConnState) {
	http1.ConnState(c, state)
	if state == http.StateClosed || state == http.StateHijacked {
		r.leave(c)
	}
}

// limitListener hands out a connection, framed, only while a place is free; a
// place is given back by the server's ConnState.
type limitListener struct {
	net.Listener
	*room
	once      sync.Once
	closed    chan struct{}
	announced chan net.Conn // those whose PROXY header was read
}

func (r *room) listener(l net.Listener) *limitListener {
	return &limitListener{Listener: l, room: r, closed: make(chan struct{}), announced: make(chan net.Conn)}
}

func (l *limitListener) Accept() (net.Conn, error) {
	for {
		// The place comes after the connection: a listener that waits for clients
		// must not hold one that another could use.
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.places <- struct{}{}:
		case <-l.closed:
			c.Close()
			return nil, net.ErrClosed
		}
		if !l.include(c) {
			return l.admit(c), nil
		}
		go l.introduce(c)
	}
}

// admit frames a connection that has a place.
func (l *limitListener) admit(c net.Conn) net.Conn {
	if !l.clients.begin(c, l.framing.Limits().ConnectionsPerClient) {
		return l.framing.WrapOverLimit(c)
	}
	return l.framing.Wrap(c)
}

// introduce reads the header of a connection that has a place, which may take
// its time, and hands it out beside the others.
func (l *limitListener) introduce(c net.Conn) {
	c, ok := l.read(c, l.framing.Limits().HeaderTimeout.D())
	if !ok {
		<-l.places
		return
	}
	framed := l.admit(c)
	select {
	case l.announced <- framed:
	case <-l.closed:
		framed.Close()
		l.leave(framed)
	}
}

// Close may be called twice: the server knows the listener by two names.
func (l *limitListener) Close() (err error) {
	l.once.Do(func() {
		close(l.closed)
		err = l.Listener.Close()
	})
	return err
}

// listeners is the set of addresses one http.Server serves, which a reload can
// change. Its zero value is not usable.
type listeners struct {
	srv    *http.Server
	room   *room
	secure *secure // nil for plain ones
	key    string  // in the policy, for errors
	failed chan<- error

	mu   sync.Mutex
	open map[string]*limitListener
}

func newListeners(srv *http.Server, room *room, key string, failed chan<- error) *listeners {
	return &listeners{srv: srv, room: room, key: key, failed: failed, open: map[string]*limitListener{}}
}

// prepare opens what addrs has more than is open now. Nothing is served before
// commit; when one address fails, none stays open.
func (ls *listeners) prepare(addrs []string) (added map[string]*limitListener, err error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	added = map[string]*limitListener{}
	for _, a := range addrs {
		if ls.open[a] != nil || added[a] != nil {
			continue
		}
		var lc net.ListenConfig
		l, err := lc.Listen(context.Background(), "tcp", a)
		if err != nil {
			for _, l := range added {
				l.Close()
			}
			return nil, listenError(ls.key, a, err)
		}
		added[a] = ls.room.listener(l)
	}
	return added, nil
}

// commit serves what prepare opened and stops accepting where addrs has no
// address any more; connections that are open stay.
func (ls *listeners) commit(addrs []string, added map[string]*limitListener) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	wanted := map[string]bool{}
	for _, a := range addrs {
		wanted[a] = true
	}
	for a, l := range ls.open {
		if !wanted[a] {
			delete(ls.open, a)
			l.Close()
		}
	}
	for a, l := range added {
		ls.open[a] = l
		go func() {
			err := ls.serve(l)
			select {
			case <-l.closed:
			default:
				if !errors.Is(err, http.ErrServerClosed) {
					ls.failed <- fmt.Errorf("%s: %s: %w", ls.key, a, err)
				}
			}
		}()
	}
}

func (ls *listeners) serve(l *limitListener) error {
	if ls.secure != nil {
		return ls.srv.Serve(ls.secure.over(l))
	}
	// It ends when l is closed, as the server closes it.
	go func() { _ = ls.srv.Serve(&readyListener{limitListener: l, ready: l.announced}) }()
	return ls.srv.Serve(l)
}

// addrs returns the addresses really listened on.
func (ls *listeners) addrs() []netip.AddrPort {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var out []netip.AddrPort
	for _, l := range ls.open {
		if a, err := netip.ParseAddrPort(l.Addr().String()); err == nil {
			out = append(out, a)
		}
	}
	return out
}

func listenError(key, addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("cannot listen on %s: it is taken, perhaps by another fwdproxy; stop that or change %s", addr, key)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("cannot listen on %s: ports below 1024 need more rights; change %s or grant cap_net_bind_service", addr, key)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("cannot listen on %s: this machine does not have that address; change %s", addr, key)
	}
	return fmt.Errorf("cannot listen on %s (%s): %w", addr, key, err)
}
