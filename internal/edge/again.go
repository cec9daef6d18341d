package edge

import (
	"net/http"
	"net/netip"
	"time"

	"fwdproxy/acl"
	"fwdproxy/auth"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
)

// at returns what is said at the address that was used; the zero AddrPort
// stands for one that only a parent proxy knows.
func (j Judgement) at(a netip.AddrPort) (acl.Verdict, error) {
	if !a.IsValid() {
		a = hop.Unknown
	}
	return j.Address(a)
}

// again asks d's policy, which may be another than the exchange began with,
// about a tunnel that is open, by all that its verdict hung on: it returns the
// refusal where one that began now would not come to be, or not as it is.
func (x *Exchange) again(d *Door, now time.Time) error {
	who := d.known(x)
	j := d.Judge(x.questionOf(d, x.target, now, who))
	if j.Err != nil {
		return j.Err
	}
	v, at := j.Verdict, x.answered()
	if at.IsValid() || !x.looks { // what is intercepted need not have reached its server
		var err error
		if v, err = j.at(at); err != nil {
			return err
		}
	}
	if x.r.Method != http.MethodConnect {
		return nil
	}
	noTLS := x.hello != nil && !x.hello.TLS
	if wanted := v.Action == acl.Intercept && !noTLS && !x.passes(d); wanted != x.looks {
		return &fault.Error{Kind: fault.RequestDenied, Rule: v.Rule, Details: "the rules have another mind about intercepting the tunnel"}
	}
	switch {
	case !x.looks && !d.Tunnel.Peeks(x.target.Port):
		return nil
	case x.hello != nil:
		_, err := x.judgeHello(d, *x.hello, now, who, v)
		return err
	}
	return &fault.Error{Kind: fault.RequestDenied, Rule: "forward.tunnel.peek",
		Details: "the tunnel's server name is to be looked at, and what began it has passed unseen"}
}

func (x *Exchange) answered() netip.AddrPort {
	at, _ := x.hop.Answered()
	return at
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
