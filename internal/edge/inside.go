package edge

import (
	"context"
	"net/http"

	"fwdproxy/auth"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/target"
)

// Inside is an intercepted tunnel, for the requests that come out of it.
type Inside struct {
	Target  target.Target // https, and what every request in it must be for
	Who     auth.Identity // as the CONNECT said it
	shown   bool          // Who, by the client's certificate
	Failure error         // why no request in it can be served; nil when they can
}

type insideKey struct{}

// WithInside returns the context of a connection that is the inside of a
// tunnel.
func WithInside(ctx context.Context, in *Inside) context.Context {
	return context.WithValue(ctx, insideKey{}, in)
}

func insideOf(ctx context.Context) *Inside {
	in, _ := ctx.Value(insideKey{}).(*Inside)
	return in
}

// Inside returns the tunnel that the request came out of, nil for none.
func (x *Exchange) Inside() *Inside { return x.inside }

// Find reads what a request in the tunnel is for, and holds it to the tunnel's
// target: what was decided, verified and minted was for that alone (RFC 9110,
// Section 7.4 and 15.5.20).
func (in *Inside) Find(r *http.Request) (target.Target, error) {
	t, err := target.FromAuthority(r.Host, "https")
	if r.URL.IsAbs() {
		t, err = target.FromURL(r.URL)
	}
	switch {
	case r.Method == http.MethodConnect:
		return t, fault.New(fault.RequestError, "a CONNECT in an intercepted tunnel leads nowhere", nil)
	case err != nil:
		return t, fault.New(fault.RequestError, err.Error(), nil)
	case t != in.Target:
		return t, &fault.Error{Kind: fault.RequestError, Status: http.StatusMisdirectedRequest,
			Details: "the request is for another host or port than the tunnel that it came through"}
	}
	if r.URL.Path == "*" {
		if r.Method != http.MethodOptions {
			return t, fault.New(fault.RequestError, "only OPTIONS can ask about *", nil)
		}
		r.URL.Path = "" // as in OPTIONS https://host, which means the same
	}
	return t, nil
}
