package main

import "net/netip"

// doors is the plain and the TLS listeners of the front door.
type doors struct {
	plain, secure *listeners
}

// change is a set of listeners that prepare opened, on their way to be served.
type change struct {
	doors         *doors
	plain, secure map[string]*limitListener
	wantPlain     []string
	wantSecure    []string
}

// prepare opens what the addresses have more than is open now. When one fails,
// none stays open.
func (d *doors) prepare(plain, secure []string) (*change, error) {
	c := &change{doors: d, wantPlain: plain, wantSecure: secure}
	var err error
	if c.plain, err = d.plain.prepare(plain); err != nil {
		return nil, err
	}
	if c.secure, err = d.secure.prepare(secure); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// commit serves what was opened, and stops accepting elsewhere.
func (c *change) commit() {
	c.doors.plain.commit(c.wantPlain, c.plain)
	c.doors.secure.commit(c.wantSecure, c.secure)
}

// close gives up what was opened.
func (c *change) close() {
	for _, opened := range []map[string]*limitListener{c.plain, c.secure} {
		for _, l := range opened {
			l.Close()
		}
	}
}

// connections returns how many are open now.
func (d *doors) connections() int { return len(d.plain.room.places) }

// addrs returns the addresses really listened on.
func (d *doors) addrs() []netip.AddrPort { return append(d.plain.addrs(), d.secure.addrs()...) }
