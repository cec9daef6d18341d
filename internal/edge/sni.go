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
	if _, err := x.judgeHello(x.door, h, x.start, x.who, *x.verdict.Load()); err != nil {
		tunnel.Refuse(client, h)
		return nil, err
	}
	return read, nil
}

// judgeHello decides about a tunnel by what its client said to begin TLS, under
// d's policy, which said outer of the CONNECT. It returns the server name where
// that is another than the CONNECT's host.
func (x *Exchange) judgeHello(d *Door, h tunnel.Hello, now time.Time, who auth.Identity, outer acl.Verdict) (name string, err error) {
	c := d.Tunnel
	switch {
	case !h.TLS:
		return "", unless(c.NotTLS, "not_tls", "what the client sends is not TLS")
	case h.ServerName == "" && x.target.Addr.IsValid():
		return "", nil // an address has no server name (RFC 6066, Section 3)
	case h.ServerName == "":
		return "", unless(c.NoSNI, "no_sni", "the client names no server in TLS")
	}
	name, addr, err := target.ParseHost(h.ServerName)
	if err != nil || addr.IsValid() {
		return "", &fault.Error{Kind: fault.RequestDenied, Rule: "forward.tunnel.other_sni", Details: "the server name in TLS is malformed"}
	}
	if name == x.target.Host {
		return "", nil
	}
	if !x.target.Addr.IsValid() {
		rule, allowed := "other_sni", c.OtherSNI
		if h.ECH {
			rule, allowed = "ech", c.ECH
		}
		if err := unless(allowed, rule, "the server name in TLS is not the host of the CONNECT"); err != nil {
			return "", err
		}
	}
	return name, x.judgeName(d, name, now, who, outer)
}

// judgeName asks the rules about the server name as if it had been the host of
// the CONNECT, at the address that was dialled. Where only one of the two is to
// be intercepted, the other would be the way around that, or to it.
func (x *Exchange) judgeName(d *Door, name string, now time.Time, who auth.Identity, outer acl.Verdict) error {
	j := d.Judge(x.questionOf(d, target.Target{Host: name, Port: x.target.Port}, now, who))
	if j.Err != nil {
		return j.Err
	}
	intercepted := outer.Action == acl.Intercept
	at := x.answered()
	if intercepted && !at.IsValid() {
		// No address is known yet, nor needed: each request inside is asked about.
		if j.Verdict.Action != acl.Intercept || j.Verdict.ActionPending {
			return errTwoMinds
		}
		if d == x.door {
			x.permit(j)
		}
		return nil
	}
	v, err := j.at(at)
	if err == nil && (v.Action == acl.Intercept) != intercepted {
		return errTwoMinds
	}
	return err
}

var errTwoMinds = &fault.Error{Kind: fault.RequestDenied, Rule: "forward.tunnel.other_sni",
	Details: "of the host of the CONNECT and the server name in TLS one is to be intercepted and the other is not"}

// unless returns the refusal, if the policy's word is not "allow".
func unless(word, key, details string) error {
	if word == acl.Allow.String() {
		return nil
	}
	return &fault.Error{Kind: fault.RequestDenied, Rule: "forward.tunnel." + key, Details: details}
}
