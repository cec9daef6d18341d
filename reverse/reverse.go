// Package reverse is the front door before servers of one's own: it finds the
// site and pool of a request by host and path, and hands it to the same policy,
// cache and upstream as the forward one.
//
// It believes nothing that a client says about who forwarded the request.
package reverse

import (
	"net/http"
	"strings"

	"fwdproxy/internal/edge"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/target"
)

// Settings is what the front door works with under one policy. It is
// immutable.
type Settings struct {
	Door  *edge.Door
	Sites *Sites
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
	x := s.Door.Begin(w, r)
	defer x.End()
	if err := s.serve(x, r); err != nil {
		w.Header().Set("Connection", "close")
		x.Fail(err)
	}
}

func (s *Settings) serve(x *edge.Exchange, r *http.Request) error {
	if r.Method == http.MethodConnect {
		return &fault.Error{Kind: fault.RequestDenied, Status: http.StatusMethodNotAllowed, Details: "these are sites; they open no tunnels"}
	}
	if err := x.Check(); err != nil {
		return err
	}
	t, err := siteTarget(r)
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
	site, ok := s.Sites.Find(t.Host, out.URL.EscapedPath())
	if !ok {
		return fault.New(fault.DestinationNotFound, "there is no site here for this host and path", nil)
	}
	x.UsePool(site.Pool)
	forwarded(out, r, t)
	if edge.IsUpgrade(out) {
		x.Upgrade(out)
		return nil
	}
	x.Respond(x.RoundTrip(out))
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
// listener's business, not the site's.
func siteTarget(r *http.Request) (target.Target, error) {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
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
	"x-original-url": true, "x-original-host": true, "x-rewrite-url": true, "x-url-scheme": true, "front-end-https": true,
}

// forwarded tells the peer who asked for what, in place of whatever the client
// said about it.
func forwarded(out, in *http.Request, t target.Target) {
	for name := range out.Header {
		// A peer behind CGI's rules, or WSGI's, cannot tell "_" from "-" in a name.
		if claims[strings.ReplaceAll(strings.ToLower(name), "_", "-")] {
			delete(out.Header, name)
		}
	}
	if client := edge.ClientAddr(in); client.IsValid() {
		out.Header.Set("X-Forwarded-For", client.String())
	}
	out.Header.Set("X-Forwarded-Host", t.Authority())
	out.Header.Set("X-Forwarded-Proto", t.Scheme)
}
