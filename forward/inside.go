package forward

import (
	"net/http"

	"fwdproxy/internal/edge"
)

// inside serves a request that came out of an intercepted tunnel. It is one to
// a server as far as its client knows, and so does not pass goproxy.
func inside(x *edge.Exchange, r *http.Request, in *edge.Inside) {
	x.LogURL(in.Target.Origin() + r.URL.RequestURI())
	fail := func(err error) {
		x.Writer().Header().Set("Connection", "close")
		x.Fail(err)
	}
	if in.Failure != nil {
		fail(in.Failure)
		return
	}
	if err := x.Check(); err != nil {
		x.Fail(err)
		return
	}
	t, err := in.Find(r)
	if err != nil {
		fail(err)
		return
	}
	if err := x.Decide(t); err != nil {
		x.Fail(err)
		return
	}
	out := x.Outgoing(t)
	answer := x.LocalAnswer(out)
	switch {
	case answer != nil:
		x.Respond(answer)
	case edge.IsUpgrade(out):
		x.Upgrade(out)
	default:
		x.Respond(x.RoundTrip(out))
	}
}
