package edge

import (
	"net/http"
	"net/netip"
	"strconv"

	"fwdproxy/acl"
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

// Judge decides whether the client may reach the target with the method.
func (d *Door) Judge(client netip.Addr, method string, t target.Target) Judgement {
	q := acl.Request{Client: client, Method: method, Host: t.Host, HostAddr: t.Addr, Port: t.Port}
	v := d.ACL.Decide(q)
	if v.Action != acl.Allow && (!v.Pending || d.Mode == modeReverse) {
		return Judgement{Verdict: v, Err: denied(v)}
	}
	if method == http.MethodConnect && !d.Tunnel.Allows(t.Port) {
		return Judgement{Verdict: v, Err: &fault.Error{Kind: fault.RequestDenied, Rule: "forward.tunnel.ports",
			Details: "CONNECT to port " + strconv.Itoa(int(t.Port)) + " is not allowed"}}
	}
	j := Judgement{Verdict: v, Address: func(a netip.AddrPort) (acl.Verdict, error) {
		if a == hop.Unknown {
			return v, d.unknown(v)
		}
		if d.Guard != nil {
			if err := d.Guard(a); err != nil {
				return v, err
			}
		}
		if !v.Pending {
			return v, nil
		}
		q := q
		q.Addr = a.Addr().Unmap()
		v := d.ACL.Decide(q)
		if v.Pending || v.Action != acl.Allow {
			return v, denied(v)
		}
		return v, nil
	}}
	if t.Addr.IsValid() {
		j.Verdict, j.Err = j.Address(netip.AddrPortFrom(t.Addr, t.Port))
	}
	return j
}

// unknown decides where only a parent proxy learns the address: what hangs on
// it stays refused, and everything where no such parent is in the policy.
func (d *Door) unknown(v acl.Verdict) error {
	if v.Pending || !d.Unresolved {
		return denied(v)
	}
	return nil
}

func denied(v acl.Verdict) error {
	return &fault.Error{Kind: fault.RequestDenied, Rule: v.Rule, Details: "the proxy's policy does not allow it"}
}
