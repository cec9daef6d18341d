// Package proxyproto reads the header with which a load balancer begins a
// connection, to say whose it is: the PROXY protocol of HAProxy, versions 1
// and 2.
//
// It reads no byte behind the header, so that the connection stays what it is.
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

const (
	signature1 = "PROXY "
	signature2 = "\r\n\r\n\x00\r\nQUIT\n"
	// most1 is the longest line of version 1, its end included.
	most1 = 107
	// most2 bounds what follows the first 16 bytes in version 2: addresses and
	// what else is told, certificates for one.
	most2 = 4 << 10
)

// errNone says what to do, since it is nearly always one side's configuration.
var errNone = errors.New("the connection does not begin with a PROXY header; have the sender send one, or take it out of proxy_protocol")

// Read reads the header, and returns the client that it names: the zero
// AddrPort where it is the sender's own connection, a health check for one, or
// one that has no IP address.
func Read(r io.Reader) (netip.AddrPort, error) {
	head := make([]byte, len(signature2), most1)
	if n, err := io.ReadFull(r, head); err != nil {
		if n > 0 && !bytes.HasPrefix([]byte(signature2), head[:n]) && !bytes.HasPrefix(head[:n], []byte(signature1)) && !strings.HasPrefix(signature1, string(head[:n])) {
			return netip.AddrPort{}, errNone
		}
		return netip.AddrPort{}, fmt.Errorf("no whole PROXY header came: %w", err)
	}
	switch {
	case string(head) == signature2:
		return read2(r)
	case bytes.HasPrefix(head, []byte(signature1)):
		return read1(r, head)
	}
	return netip.AddrPort{}, errNone
}

// read1 reads on to the end of the line, one byte at a time: what follows is
// not ours.
func read1(r io.Reader, head []byte) (netip.AddrPort, error) {
	for !bytes.HasSuffix(head, []byte("\n")) {
		if len(head) == most1 {
			return netip.AddrPort{}, errors.New("the line of the PROXY header does not end")
		}
		head = head[:len(head)+1]
		if _, err := io.ReadFull(r, head[len(head)-1:]); err != nil {
			return netip.AddrPort{}, fmt.Errorf("no whole PROXY header came: %w", err)
		}
	}
	return parse1(string(head))
}

func parse1(line string) (netip.AddrPort, error) {
	malformed := fmt.Errorf("the PROXY header %q is malformed", line)
	line, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		return netip.AddrPort{}, malformed
	}
	part := strings.Split(line, " ")
	if part[1] == "UNKNOWN" {
		return netip.AddrPort{}, nil // what follows is to be ignored
	}
	if len(part) != 6 || part[1] != "TCP4" && part[1] != "TCP6" {
		return netip.AddrPort{}, malformed
	}
	from, ok1 := address1(part[1], part[2], part[4])
	_, ok2 := address1(part[1], part[3], part[5])
	if !ok1 || !ok2 {
		return netip.AddrPort{}, malformed
	}
	return from, nil
}

func address1(family, host, port string) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(host)
	if err != nil || a.Zone() != "" || a.Is4() != (family == "TCP4") {
		return netip.AddrPort{}, false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), true
}

// read2 reads what follows the signature.
func read2(r io.Reader) (netip.AddrPort, error) {
	var fixed [4]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return netip.AddrPort{}, fmt.Errorf("no whole PROXY header came: %w", err)
	}
	command, family, size := fixed[0], fixed[1], int(binary.BigEndian.Uint16(fixed[2:]))
	if size > most2 {
		return netip.AddrPort{}, fmt.Errorf("the PROXY header has %d bytes, more than %d", size, most2)
	}
	rest := make([]byte, size)
	if _, err := io.ReadFull(r, rest); err != nil {
		return netip.AddrPort{}, fmt.Errorf("no whole PROXY header came: %w", err)
	}
	const local, proxied = 0x20, 0x21
	switch command {
	case local:
		return netip.AddrPort{}, nil // what follows is to be ignored
	case proxied:
		return parse2(family, rest)
	}
	return netip.AddrPort{}, fmt.Errorf("the PROXY header has version and command %#x", command)
}

// parse2 reads addresses; what follows them is not looked at.
func parse2(family byte, rest []byte) (netip.AddrPort, error) {
	size, octets := 0, 0
	switch family {
	case 0x00: // unspecified
	case 0x11, 0x12: // TCP and UDP over IPv4: the client's address is either's
		size, octets = 12, 4
	case 0x21, 0x22:
		size, octets = 36, 16
	case 0x31, 0x32: // Unix sockets
		size = 216
	default:
		return netip.AddrPort{}, fmt.Errorf("the PROXY header has family and protocol %#x", family)
	}
	if len(rest) < size {
		return netip.AddrPort{}, fmt.Errorf("the PROXY header has %d bytes, too few for its addresses", len(rest))
	}
	if octets == 0 {
		return netip.AddrPort{}, nil
	}
	from, _ := netip.AddrFromSlice(rest[:octets])
	return netip.AddrPortFrom(from.Unmap(), binary.BigEndian.Uint16(rest[2*octets:])), nil
}
