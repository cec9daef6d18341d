package edge

import (
	"net"
	"time"

	"fwdproxy/acl"
	"fwdproxy/auth"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/target"
	"fwdproxy/tunnel"
)

// helloTimeout is how long a client may take to begin TLS.
const helloTimeout = 10 * time.Second

// checkHello reads the client's ClientHello, of which early came already, and
// holds the name in it against the policy. It returns all that was read, or
// the refusal, of which the client was told as far as TLS can.
func (x *Exchange) checkHello(client net.Conn, early []byte) ([]byte, error) {
	h, read, err := tunnel.ReadHello(client, early, time.Now().Add(helloTimeout))
	if err != nil {
		return nil, fault.New(clientGone, "", err)
	}
	x.rec.SNI, x.hello = h.ServerName, &h
	if err := x.judgeHello(x.door, h, x.start, x.who); err != nil {
		tunnel.Refuse(client, h)
		return nil, err
	}
	return read, nil
}

// judgeHello decides about a tunnel by what its client said to begin TLS, under
// d's policy.
func (x *Exchange) judgeHello(d *Door, h tunnel.Hello, now time.Time, who auth.Identity) error {
	c := d.Tunnel
	switch {
	case !h.TLS:
		return unless(c.NotTLS, "not_tls", "what the client sends is not TLS")
	case h.ServerName == "" && x.target.Addr.IsValid():
		return nil // an address has no server name (RFC 6066, Section 3)
	case h.ServerName == "":
		return unless(c.NoSNI, "no_sni", "the client names no server in TLS")
	}
	name, addr, err := target.ParseHost(h.ServerName)
	if err != nil || addr.IsValid() {
		return &fault.Error{Kind: fault.RequestDenied, Rule: "forward.tunnel.other_sni", Details: "the server name in TLS is malformed"}
	}
	if name == x.target.Host {
		return nil
	}
	if !x.target.Addr.IsValid() {
		rule, allowed := "other_sni", c.OtherSNI
		if h.ECH {
			rule, allowed = "ech", c.ECH
		}
		if err := unless(allowed, rule, "the server name in TLS is not the host of the CONNECT"); err != nil {
			return err
		}
	}
	// As if the server name had been the host of the CONNECT.
	at, _ := x.hop.Answered()
	_, err = x.ask(d, target.Target{Host: name, Port: x.target.Port}, at, now, who)
	return err
}

// unless returns the refusal, if the policy's word is not "allow".
func unless(word, key, details string) error {
	if word == acl.Allow.String() {
		return nil
	}
	return &fault.Error{Kind: fault.RequestDenied, Rule: "forward.tunnel." + key, Details: details}
}
