package edge

import (
	"cmp"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"fwdproxy/acl"
	"fwdproxy/auth"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
	"fwdproxy/internal/target"
)

// Judgement is what the policy says about one request, for enforcing and for
// explaining alike.
type Judgement struct {
	Verdict acl.Verdict // by the name alone, or by the address where the host is one
	Err     error       // the refusal, when that decides it; the request goes no further

	// Address decides about one destination address: the guard and, where the
	// verdict is pending, the rules. Nil when Err is not.
	Address func(netip.AddrPort) (acl.Verdict, error)
}

// modeReverse is the mode in which the name is all that the rules get to know:
// the addresses are those of a pool, which the rules are not about, and what
// hangs on an address stays refused.
const modeReverse = "reverse"

// Question returns what the policy is asked about a request to the target that
// net/http has read.
func Question(r *http.Request, t target.Target, now time.Time) acl.Request {
	q := acl.Request{Client: ClientAddr(r), Method: r.Method, Host: t.Host, HostAddr: t.Addr, Port: t.Port,
		Header: r.Header, Listen: ListenAddr(r), Now: now}
	if r.Method != http.MethodConnect {
		q.Scheme, q.Path, q.Query = t.Scheme, r.URL.EscapedPath(), r.URL.RawQuery
		if q.Path == "" {
			q.Path = "/"
		}
	}
	return q
}

// As puts who asks into the question; nobody is asked to say it where the door
// knows no way to.
func (d *Door) As(q acl.Request, who auth.Identity) acl.Request {
	q.User, q.Groups, q.MayIdentify = who.User, who.Groups, d.Auth != nil && d.Auth.Asks()
	return q
}

// ListenAddr returns the address that the request's client connected to; the
// zero AddrPort when it is not known.
func ListenAddr(r *http.Request) netip.AddrPort {
	switch a := r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.TCPAddr:
		return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	case net.Addr:
		at, _ := netip.ParseAddrPort(a.String())
		return at
	}
	return netip.AddrPort{}
}

// Judge decides about a request, of which no address is known yet unless its
// host is one.
func (d *Door) Judge(q acl.Request) Judgement {
	v := d.ACL.Decide(q)
	if !v.Action.Permits() && !v.Challenge && (!v.Pending || d.Mode == modeReverse) {
		return Judgement{Verdict: v, Err: d.denied(v, &q)}
	}
	// What nobody may do, nobody is asked for credentials for.
	if err := d.never(&q); err != nil {
		return Judgement{Verdict: v, Err: err}
	}
	if v.Challenge && !v.Pending {
		return Judgement{Verdict: v, Err: d.denied(v, &q)}
	}
	j := Judgement{Verdict: v, Address: func(a netip.AddrPort) (acl.Verdict, error) {
		if a == hop.Unknown {
			return v, d.unknown(v, &q)
		}
		if d.Guard != nil {
			if err := d.Guard(a); err != nil {
				return v, err
			}
		}
		if !v.Pending && !v.ShadowPending && !v.ActionPending {
			return v, nil
		}
		q := q
		q.Addr = a.Addr().Unmap()
		v := d.ACL.Decide(q)
		if v.Pending || !v.Action.Permits() {
			return v, d.denied(v, &q)
		}
		return v, nil
	}}
	if q.HostAddr.IsValid() {
		j.Verdict, j.Err = j.Address(netip.AddrPortFrom(q.HostAddr, q.Port))
	}
	return j
}

// never returns the refusal of what no rule can allow, as far as that is known.
func (d *Door) never(q *acl.Request) error {
	if q.Method == http.MethodConnect && !d.Tunnel.Allows(q.Port) {
		return &fault.Error{Kind: fault.RequestDenied, Rule: "forward.tunnel.ports",
			Details: "CONNECT to port " + strconv.Itoa(int(q.Port)) + " is not allowed"}
	}
	if q.HostAddr.IsValid() && d.Guard != nil {
		return d.Guard(netip.AddrPortFrom(q.HostAddr, q.Port))
	}
	return nil
}

// unknown decides where only a parent proxy learns the address: what hangs on
// it stays refused, and everything where no such parent is in the policy.
func (d *Door) unknown(v acl.Verdict, q *acl.Request) error {
	if v.Pending || !d.Unresolved {
		return d.denied(v, q)
	}
	return nil
}

// denied returns the refusal that the verdict's rule wants.
func (d *Door) denied(v acl.Verdict, q *acl.Request) error {
	if v.Challenge && d.Auth != nil && d.Auth.Asks() {
		return d.Auth.Required(v.Rule)
	}
	f := &fault.Error{Kind: fault.RequestDenied, Rule: v.Rule, Details: "the proxy's policy does not allow it"}
	a := v.Answer
	if a == nil {
		return f
	}
	f.Status, f.Details = a.Status, cmp.Or(a.Message, f.Details)
	if q.Path == "" {
		return f // a tunnel
	}
	t := target.Target{Scheme: q.Scheme, Host: q.Host, Addr: q.HostAddr, Port: q.Port}
	asked := t.Origin() + q.Path
	if q.Query != "" {
		asked += "?" + q.Query
	}
	if f.Location = a.Redirect(asked, q.Host); f.Location != "" {
		f.Status = http.StatusFound
	}
	return f
}
