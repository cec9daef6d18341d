package main

import (
	"net"
	"net/netip"
	"sync"
)

// clients counts the open connections of each client address.
type clients struct {
	mu   sync.Mutex
	open map[netip.Prefix]int
}

// begin counts one more, unless that would pass limit; 0 allows any number.
// When it returns true, end must follow.
func (c *clients) begin(conn net.Conn, limit int) bool {
	key := clientOf(conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if limit > 0 && c.open[key] >= limit {
		return false
	}
	c.open[key]++
	return true
}

func (c *clients) end(conn net.Conn) {
	key := clientOf(conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[key]--; c.open[key] <= 0 {
		delete(c.open, key)
	}
}

// clientOf returns the address that connections are counted by: of IPv6 the
// /64, all of which one client can have.
func clientOf(conn net.Conn) netip.Prefix {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	a := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // of a valid address it cannot fail
	return p
}
