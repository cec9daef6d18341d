// Package forward is the front door for clients that set the proxy as their
// HTTP_PROXY: it reads the target from the request, asks for the verdict, and
// dispatches through goproxy to the cache, or opens a tunnel.
//
// It never serves a request whose target it had to guess.
package forward

import (
	"context"
	"net/http"

	"github.com/elazarl/goproxy"

	"fwdproxy/internal/edge"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/header"
	"fwdproxy/internal/target"
)

// Settings is what the front door works with under one policy. It is
// immutable.
type Settings struct {
	Door *edge.Door
	Dial edge.Dial
	PAC  PAC
}

// Handler serves forward proxy requests.
type Handler struct {
	current func() *Settings
	proxy   *goproxy.ProxyHttpServer
}

// New returns a Handler that asks current for the settings once for each
// request.
func New(current func() *Settings) *Handler {
	h := &Handler{current: current, proxy: goproxy.NewProxyHttpServer()}
	h.proxy.Logger = silent{}
	h.proxy.KeepAcceptEncoding = true
	// Every request names its own RoundTripper and CONNECT never gets there, so
	// that goproxy's transport, which skips verification and reads the
	// environment's proxies, has nothing to do.
	h.proxy.Tr = nil
	h.proxy.ConnectDial = nil
	h.proxy.NonproxyHandler = http.HandlerFunc(notAProxyRequest)
	h.proxy.OnRequest().DoFunc(dispatch)
	return h
}

// silent drops goproxy's own log, which holds whole URLs; ours is the access
// log.
type silent struct{}

func (silent) Printf(string, ...any) {}

type exchangeKey struct{}

func exchangeOf(r *http.Request) *edge.Exchange {
	x, _ := r.Context().Value(exchangeKey{}).(*edge.Exchange)
	return x
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := h.current()
	x := s.Door.Begin(w, r)
	defer x.End()
	if in := x.Inside(); in != nil {
		inside(x, r, in)
		return
	}
	if r.Method == http.MethodConnect {
		s.connect(x, r)
		return
	}
	if err := x.Check(); err != nil {
		x.Fail(err)
		return
	}
	if asksPAC(r) {
		s.servePAC(x, r)
		return
	}
	if r.URL.IsAbs() && header.Upgrade(r.Header) != "" {
		upgrade(x, r)
		return
	}
	h.proxy.ServeHTTP(x.Writer(), r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))
}

// notAProxyRequest answers a request in origin-form: someone who takes the
// proxy for a web server (RFC 9112, Section 3.2.2).
func notAProxyRequest(_ http.ResponseWriter, r *http.Request) {
	exchangeOf(r).Fail(fault.New(fault.RequestError,
		"this is a proxy: set it as HTTP proxy, or ask for a whole URL; it serves no pages of its own but /proxy.pac", nil))
}

// decide returns the request for the next hop, or the answer that ends it here.
func decide(x *edge.Exchange, r *http.Request) (out *http.Request, answer *http.Response) {
	t, err := target.FromURL(r.URL)
	if err != nil {
		return nil, x.Refusal(fault.New(fault.RequestError, err.Error(), nil))
	}
	if err := x.Decide(t); err != nil {
		x.LogURL(t.Origin() + r.URL.RequestURI())
		return nil, x.Refusal(err)
	}
	out = x.Outgoing(t)
	return out, x.LocalAnswer(out)
}

// upgrade serves a request that asks to switch protocols. It does not pass
// goproxy, whose relay knows no idle time and no shutdown.
func upgrade(x *edge.Exchange, r *http.Request) {
	out, answer := decide(x, r)
	switch {
	case answer != nil:
		x.Respond(answer)
	case edge.IsUpgrade(out):
		x.Upgrade(out)
	default:
		x.Respond(x.RoundTrip(out))
	}
}

// dispatch is goproxy's hook for a request in absolute-form: it decides and
// names the cache as what sends it on.
func dispatch(r *http.Request, ctx *goproxy.ProxyCtx) (*http.Request, *http.Response) {
	x := exchangeOf(r)
	out, answer := decide(x, r)
	if answer != nil {
		return r, answer
	}
	ctx.RoundTripper = goproxy.RoundTripperFunc(func(*http.Request, *goproxy.ProxyCtx) (*http.Response, error) {
		return x.RoundTrip(out), nil
	})
	return out, nil
}

// connect opens a tunnel (RFC 9110, Section 9.3.6). Whatever follows a refused
// CONNECT on the connection is not read as a request.
func (s *Settings) connect(x *edge.Exchange, r *http.Request) {
	w := x.Writer()
	refuse := func(err error) {
		w.Header().Set("Connection", "close")
		x.Fail(err)
	}
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		refuse(fault.New(fault.RequestError, "a CONNECT has no body", nil))
		return
	}
	if err := x.Check(); err != nil {
		refuse(err)
		return
	}
	t, err := target.FromAuthority(r.RequestURI, "")
	if err != nil {
		refuse(fault.New(fault.RequestError, err.Error(), nil))
		return
	}
	x.LogURL(t.HostPort())
	if err := x.Decide(t); err != nil {
		refuse(err)
		return
	}
	end, err := x.BeginTunnel()
	if err != nil {
		refuse(err)
		return
	}
	defer end()
	// A client may half-close right behind its first bytes; net/http takes that
	// for a client that left. The dial has its own bound.
	if err := x.Connect(x.Context(context.WithoutCancel(r.Context())), s.Dial); err != nil {
		refuse(err)
	}
}
