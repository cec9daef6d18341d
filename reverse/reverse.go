// Package reverse is the front door before servers of one's own: it finds the
// site and pool of a request by host and path, and hands it to the same policy,
// cache and upstream as the forward one.
//
// It believes nobody about who forwarded the request but the hops that the
// policy trusts.
package reverse

import (
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"

	"fwdproxy/compress"
	"fwdproxy/internal/edge"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/target"
	"fwdproxy/waf"
)

// Settings is what the front door works with under one policy. It is
// immutable.
type Settings struct {
	Door    *edge.Door
	Sites   *Sites
	Trusted Trusted
	Mirrors *Mirrors
	Sticky  *Sticky
	// Firewalls are those of sites with waf.
	Firewalls *waf.Set
	// Encodings are the content codings of sites with compress, the best first.
	Encodings []string
	Roll      func() float64 // a number in [0, 1) by chance; nil is the usual source
}

func (s *Settings) roll() float64 {
	if s.Roll != nil {
		return s.Roll()
	}
	return rand.Float64()
}

// Handler serves the sites.
type Handler struct {
	current func() *Settings
}

// New returns a Handler that asks current for the settings once for each
// request.
func New(current func() *Settings) *Handler { return &Handler{current: current} }

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := h.current()
	who := s.Trusted.ask(r)
	if len(who.hops) > 0 {
		r = r.WithContext(r.Context()) // a copy
		r.RemoteAddr = netip.AddrPortFrom(who.client, 0).String()
	}
	x := s.Door.Begin(w, r)
	defer x.End()
	if err := s.serve(x, r, who); err != nil {
		w.Header().Set("Connection", "close")
		x.Fail(err)
	}
}

func (s *Settings) serve(x *edge.Exchange, r *http.Request, who asker) error {
	if r.Method == http.MethodConnect {
		return &fault.Error{Kind: fault.RequestDenied, Status: http.StatusMethodNotAllowed, Details: "these are sites; they open no tunnels"}
	}
	if err := x.Check(); err != nil {
		return err
	}
	t, err := siteTarget(r, who.scheme)
	if err != nil {
		return fault.New(fault.RequestError, err.Error(), nil)
	}
	if hasDotSegment(r.URL.EscapedPath()) {
		return fault.New(fault.RequestError, "the path has a dot segment, which two servers could resolve differently", nil)
	}
	decided := t
	decided.Port = edge.ListenAddr(r).Port() // the one in Host is the client's word alone
	if err := x.Decide(decided); err != nil {
		x.LogURL(t.Origin() + r.URL.RequestURI())
		return err
	}
	out := x.Outgoing(t)
	if res := localAnswer(x, out); res != nil {
		x.Respond(res)
		return nil
	}
	asked := Asked{Scheme: t.Scheme, Host: t.Host, Path: out.URL.EscapedPath(), Query: out.URL.RawQuery, Method: r.Method, Header: r.Header}
	site := s.Sites.Find(asked)
	if site == nil {
		return fault.New(fault.DestinationNotFound, "there is no site here for this host and path", nil)
	}
	if site.Pool == "" {
		x.Respond(site.answer(r, &asked))
		return nil
	}
	return s.pass(x, out, r, site, &asked, who)
}

// pass hands the request to a pool of the site.
func (s *Settings) pass(x *edge.Exchange, out, in *http.Request, site *Site, asked *Asked, who asker) error {
	if err := s.inspect(x, out, in, site); err != nil {
		x.Fail(err)
		return nil
	}
	path, err := site.peerPath(asked)
	if err != nil {
		return fault.New(fault.RequestError, err.Error(), nil)
	}
	choice := site.choose(in, s.roll)
	x.UsePool(choice.pool, path, choice.name(site))
	forwarded(out.Header, who.chain(), out.Host, asked.Scheme)
	choice.mark(out.Header, site)
	bound := s.Sticky.bind(out, in, choice.pool)
	x.StickTo(bound.value)
	if err := site.injected(out.Context(), s.roll); err != nil {
		x.Fail(err)
		return nil
	}
	if edge.IsUpgrade(out) {
		x.Upgrade(out)
		return nil
	}
	again := s.mirror(site, out, path)
	if site.Compress {
		x.Encode(compress.Prepare(out, s.Encodings))
	}
	res := x.RoundTrip(out)
	choice.remember(res, site, asked.Scheme)
	bound.remember(x, res, asked.Scheme)
	x.Respond(res)
	again.send()
	return nil
}

// localAnswer returns the answer to what is about no site's resource, nil for
// every other request: "*" is the server as a whole, which is this one, and
// nothing but OPTIONS can ask about it (RFC 9112, Section 3.2.4).
func localAnswer(x *edge.Exchange, out *http.Request) *http.Response {
	switch {
	case out.URL.Path != "*":
		return x.LocalAnswer(out)
	case out.Method == http.MethodOptions:
		return x.Options()
	}
	return x.Refusal(fault.New(fault.RequestError, "only OPTIONS can ask about *", nil))
}

// siteTarget reads the target of a request to a server: the absolute-form's
// authority, which wins (RFC 9112, Section 3.2.2), or Host. The port is the
// listener's business, not the site's. A scheme that a trusted hop says counts
// more than that of the connection.
func siteTarget(r *http.Request, scheme string) (target.Target, error) {
	switch {
	case scheme != "":
	case r.TLS != nil:
		scheme = "https"
	default:
		scheme = "http"
	}
	if r.URL.IsAbs() {
		t, err := target.FromURL(r.URL)
		t.Scheme = scheme
		return t, err
	}
	return target.FromAuthority(r.Host, scheme)
}

// hasDotSegment reports whether a segment of the escaped path is "." or "..",
// plain or percent-encoded, with or without parameters behind it.
func hasDotSegment(path string) bool {
	path = strings.NewReplacer("%2e", ".", "%2E", ".", "%2f", "/", "%2F", "/", "%5c", "/", "%5C", "/", "\\", "/").Replace(path)
	for segment := range strings.SplitSeq(path, "/") {
		segment, _, _ = strings.Cut(segment, ";")
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// claims are the fields in which a client could say what is the proxy's to
// say.
var claims = map[string]bool{
	"forwarded": true, "x-forwarded": true, "x-forwarded-for": true, "x-forwarded-by": true, "x-forwarded-host": true,
	"x-forwarded-port": true, "x-forwarded-proto": true, "x-forwarded-protocol": true, "x-forwarded-scheme": true,
	"x-forwarded-ssl": true, "x-forwarded-server": true, "x-forwarded-prefix": true, "x-real-ip": true,
	"fwdproxy-site": true, "x-original-url": true, "x-original-host": true, "x-rewrite-url": true, "x-url-scheme": true, "front-end-https": true,
}

// forwarded tells the peer who asked for what, in place of whatever the client
// said about it.
func forwarded(h http.Header, chain, authority, scheme string) {
	for name := range h {
		// A peer behind CGI's rules, or WSGI's, cannot tell "_" from "-" in a name.
		if claims[strings.ReplaceAll(strings.ToLower(name), "_", "-")] {
			delete(h, name)
		}
	}
	if chain != "" {
		h.Set("X-Forwarded-For", chain)
	}
	h.Set("X-Forwarded-Host", authority)
	h.Set("X-Forwarded-Proto", scheme)
}
