package edge

import (
	"net/http"
	"net/netip"
	"time"

	"fwdproxy/acl"
	"fwdproxy/auth"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
	"fwdproxy/internal/target"
)

// ask returns what d's policy says of the request at the address that was
// used; the zero AddrPort stands for one that only a parent proxy knows.
func (x *Exchange) ask(d *Door, t target.Target, at netip.AddrPort, now time.Time, who auth.Identity) (acl.Verdict, error) {
	j := d.Judge(d.As(Question(x.r, t, now), who))
	if j.Err != nil {
		return j.Verdict, j.Err
	}
	if !at.IsValid() {
		at = hop.Unknown
	}
	return j.Address(at)
}

// again asks d's policy, which may be another than the exchange began with,
// about a tunnel that is open, by all that its verdict hung on: it returns the
// refusal where one that began now would not come to be.
func (x *Exchange) again(d *Door, now time.Time) error {
	who := d.known(x)
	at, _ := x.hop.Answered()
	if _, err := x.ask(d, x.target, at, now, who); err != nil {
		return err
	}
	switch {
	case x.r.Method != http.MethodConnect || !d.Tunnel.Peeks(x.target.Port):
		return nil
	case x.hello != nil:
		return x.judgeHello(d, *x.hello, now, who)
	}
	return &fault.Error{Kind: fault.RequestDenied, Rule: "forward.tunnel.peek",
		Details: "the tunnel's server name is to be looked at, and what began it has passed unseen"}
}

// known returns who asks as d's files have it: nobody, for a user that they do
// not know and that no certificate names.
func (d *Door) known(x *Exchange) auth.Identity {
	user := x.who.User
	if user == "" || d.Auth == nil || !x.shown && !d.Auth.Directory().Knows(user) {
		return auth.Identity{}
	}
	return d.Auth.Directory().Identity(user)
}
