// Package edge is what the two front doors do alike with one request: give it
// an id and a record, hold it to the limits, ask for the verdict, hand it to
// the cache and the upstream, write the answer, and log it once.
//
// How the target is found, and in forward mode the dispatching, is the front
// door's own.
package edge

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"fwdproxy/accesslog"
	"fwdproxy/acl"
	"fwdproxy/auth"
	"fwdproxy/cache"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/header"
	"fwdproxy/internal/hop"
	"fwdproxy/internal/quota"
	"fwdproxy/internal/target"
	"fwdproxy/tunnel"
)

// Door is what a front door works with under one policy. It is immutable: a
// reload makes a new one, and each exchange keeps the one that it began with.
type Door struct {
	Mode   string // "forward" or "reverse"
	Name   string // the pseudonym in Via, Cache-Status and Proxy-Status
	Limits Limits
	ACL    *acl.Engine
	Cached http.RoundTripper          // the cache in front of the upstream
	Direct http.RoundTripper          // the upstream alone, for upgrades
	Guard  func(netip.AddrPort) error // may this address be dialled at all; nil permits what the rules allow
	// Unresolved says that a parent proxy looks names up, so that addresses that
	// nobody here knows may be used where no rule hangs on them.
	Unresolved bool
	Auth       *auth.Checker           // tells who asks; nil where nobody can say it
	Tunnels    *Tunnels                // shared by all doors
	Quotas     *quota.Table            // likewise
	Tunnel     tunnel.Config           // what CONNECT may do; its times hold for WebSockets too
	Candidate  *Candidate              // asked beside the rules, and decides nothing; nil where there is none
	Intercept  *Interception           // how TLS is intercepted; nil where no rule does that
	Log        func(*accesslog.Record) // called once for each exchange
	Now        func() time.Time        // the clock of the log
}

// Exchange is one request and its answer.
type Exchange struct {
	door    *Door
	w       *Writer
	r       *http.Request
	start   time.Time
	rec     accesslog.Record
	target  target.Target // as Decide was asked about it
	inside  *Inside       // the tunnel that the request came out of; nil for none
	who     auth.Identity // of this request, whatever came before it on the connection
	shown   bool          // who was said by the client's certificate
	looks   bool          // the tunnel is intercepted
	hop     hop.Hop
	hello   *tunnel.Hello // what began the tunnel, where it was looked at
	outcome cache.Outcome
	reqBody *requestBody
	resBody *responseBody
	verdict atomic.Pointer[acl.Verdict]    // the latest; a fetch in the background may still ask
	asked   atomic.Pointer[netip.AddrPort] // the address it is about, noted for the candidate alone
	quota   *quota.Hold                    // what it takes of the policy's limits; nil for nothing
	panic   bool                           // the handling panicked

	modified *acl.Modification // what the policy makes of request and response; nil for nothing
}

// Begin opens the exchange for a request that net/http has read. End must
// follow.
func (d *Door) Begin(w http.ResponseWriter, r *http.Request) *Exchange {
	x := &Exchange{door: d, r: r, start: d.Now(), w: newWriter(w, d.Name, d.Limits.WriteTimeout.D())}
	x.rec = accesslog.Record{
		Time:      x.start,
		RequestID: requestID(),
		Mode:      d.Mode,
		Client:    netip.AddrPortFrom(ClientAddr(r), clientPort(r)),
		Method:    r.Method,
		URL:       r.RequestURI,
		Proto:     r.Proto,
		Referer:   r.Referer(),
		UserAgent: r.UserAgent(),
		Tag:       accesslog.TagNone,
	}
	x.inside = insideOf(r.Context())
	// A proxy keeps no connection open with an HTTP/1.0 client (RFC 9112, Section
	// 9.3).
	x.w.last = !r.ProtoAtLeast(1, 1)
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		// Else net/http would read the rest of the body away from whoever reads it,
		// or wait for it, before it writes the head of an answer.
		_ = x.w.ctl.EnableFullDuplex()
		x.reqBody = newRequestBody(r, x.w.ctl, d.Limits)
		x.w.body = x.reqBody
	}
	return x
}

// ClientAddr returns the address that the request's connection comes from; the
// zero Addr when it has none.
func ClientAddr(r *http.Request) netip.Addr {
	a, _ := netip.ParseAddrPort(r.RemoteAddr)
	return a.Addr().Unmap().WithZone("")
}

func clientPort(r *http.Request) uint16 {
	a, _ := netip.ParseAddrPort(r.RemoteAddr)
	return a.Port()
}

func requestID() string { return string(appendID(nil)) }

func appendID(b []byte) []byte {
	var random [8]byte
	binary.BigEndian.PutUint64(random[:], rand.Uint64())
	return hex.AppendEncode(b, random[:])
}

// Writer returns the client's side of the exchange.
func (x *Exchange) Writer() *Writer { return x.w }

// Check holds the request's head against the limits and the pseudonym: what
// WithRefusal says, too many fields, a body declared too large, an expectation that nobody knows
// (RFC 9110, Section 10.1.1), a request that came through here before (RFC
// 9110, Section 7.6.3).
func (x *Exchange) Check() error {
	if err, ok := x.r.Context().Value(refusalKey{}).(*fault.Error); ok {
		return err
	}
	l := x.door.Limits
	fields := 0
	for _, lines := range x.r.Header {
		fields += len(lines)
	}
	switch {
	case fields > l.HeaderCount:
		return &fault.Error{Kind: fault.RequestError, Status: http.StatusRequestHeaderFieldsTooLarge,
			Details: "the request has more header fields than limits.header_count allows"}
	case l.BodySize > 0 && x.r.ContentLength > int64(l.BodySize):
		return tooLarge()
	case slices.ContainsFunc(header.Tokens(x.r.Header, "Expect"), unknownExpectation):
		return &fault.Error{Kind: fault.RequestError, Status: http.StatusExpectationFailed, Details: "the request expects what is not known here"}
	case header.Passed(x.r.Header, x.door.Name):
		return fault.New(fault.LoopDetected, "the request came through this proxy before; a proxy or server sends it back", nil)
	}
	return nil
}

func unknownExpectation(s string) bool { return !strings.EqualFold(s, "100-continue") }

// Decide asks the policy whether the client may reach the target. It returns
// nil when it may as far as the name tells and the limits leave something;
// what depends on the address is decided for each address before it is used.
func (x *Exchange) Decide(t target.Target) error {
	x.target = t
	if err := x.identify(); err != nil {
		return err
	}
	q := x.question(t)
	j := x.door.Judge(q)
	x.verdict.Store(&j.Verdict)
	if j.Err != nil {
		return j.Err
	}
	if err := x.takeQuota(q); err != nil {
		return err
	}
	x.permit(j)
	x.modified = x.door.ACL.Modify(q)
	return nil
}

// permit lets the next hop use the addresses that j allows.
func (x *Exchange) permit(j Judgement) {
	x.hop.Permit = func(a netip.AddrPort) error {
		if x.door.Candidate != nil {
			x.asked.Store(&a)
		}
		v, err := j.Address(a)
		x.verdict.Store(&v)
		return err
	}
}

// identify finds out who asks: by the request's credentials (RFC 9110, Section
// 11.7.2), or else by the client's certificate.
func (x *Exchange) identify() (err error) {
	if x.inside != nil {
		x.who, x.shown = x.inside.Who, x.inside.shown
		x.rec.User = x.who.User
		return nil
	}
	if x.door.Auth == nil {
		return nil
	}
	x.who, err = x.door.Auth.Check(x.r.Header["Proxy-Authorization"], x.rec.Client.Addr(), x.start)
	if err == nil && x.who.User == "" && x.r.TLS != nil && len(x.r.TLS.VerifiedChains) > 0 {
		if user := auth.CertificateUser(x.r.TLS.PeerCertificates[0]); user != "" {
			x.who, x.shown = x.door.Auth.Directory().Identity(user), true
		}
	}
	x.rec.User = x.who.User
	return err
}

func (x *Exchange) question(t target.Target) acl.Request {
	return x.questionOf(x.door, t, x.start, x.who)
}

func (x *Exchange) questionOf(d *Door, t target.Target, now time.Time, who auth.Identity) acl.Request {
	q := d.As(Question(x.r, t, now), who)
	// What the server at the other end of a tunnel could ask as well, a client
	// does not tell a proxy (RFC 9110, Section 11.7).
	q.MayIdentify = q.MayIdentify && x.inside == nil
	return q
}

// UsePool sends the request to the pool called name instead of to the origin
// that its URL names. The pool is asked for path, escaped and with the query,
// unless that is ""; apart keeps what the cache stores of it from what other
// pools answer for the same URL.
func (x *Exchange) UsePool(name, path, apart string) {
	x.hop.Pool, x.hop.Path = name, path
	x.hop.KeepApart(apart)
}

// Encode has the pool's answer encoded, as hop.Hop.Encode says.
func (x *Exchange) Encode(coding string) { x.hop.Encode = coding }

// StickTo asks for the peer of the pool that the token stands for.
func (x *Exchange) StickTo(token string) { x.hop.Sticky = token }

// Answered returns the log's name of the next hop that answered; "" where none
// was asked.
func (x *Exchange) Answered() string {
	_, name := x.hop.Answered()
	return name
}

// ID returns the request's id, by which the log and pages name it.
func (x *Exchange) ID() string { return x.rec.RequestID }

// Client returns the address of the client in the log.
func (x *Exchange) Client() netip.AddrPort { return x.rec.Client }

// NoteWAF logs what the web application firewall said.
func (x *Exchange) NoteWAF(w *accesslog.WAF) { x.rec.WAF = w }

// LogURL sets the URL in the log's form: the canonical one.
func (x *Exchange) LogURL(s string) { x.rec.URL = s }

// Context returns a context in which the target may be dialled, for a tunnel.
func (x *Exchange) Context(parent context.Context) context.Context {
	via := http.Header{"Via": slices.Clone(x.r.Header["Via"])}
	header.AppendVia(via, x.r.ProtoMajor, x.r.ProtoMinor, x.door.Name)
	x.hop.Via = strings.Join(via["Via"], ", ")
	return hop.With(parent, &x.hop)
}

// Outgoing returns the request as the next hop shall get it: target and Host
// agree, hop-by-hop fields are gone, Via is there, the body is bounded.
func (x *Exchange) Outgoing(t target.Target) *http.Request {
	u := &url.URL{
		Scheme: t.Scheme, Host: t.Authority(),
		Path: x.r.URL.Path, RawPath: x.r.URL.RawPath,
		RawQuery: x.r.URL.RawQuery, ForceQuery: x.r.URL.ForceQuery,
	}
	if u.Path == "" {
		u.Path = "/"
		if x.r.Method == http.MethodOptions && u.RawQuery == "" && !u.ForceQuery {
			u.Path = "*" // RFC 9112, Section 3.2.4
		}
	}
	x.LogURL(u.String())

	x.hop.Client = x.rec.Client.Addr()
	ctx := hop.With(x.r.Context(), &x.hop)
	ctx = cache.WithOutcome(ctx, &x.outcome)
	if x.r.ProtoAtLeast(1, 1) {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: x.informational})
	}
	out := x.r.WithContext(ctx)
	out.URL, out.Host, out.RequestURI = u, u.Host, ""
	out.Header = x.r.Header.Clone()
	header.RemoveHopByHop(out.Header)
	if asksWebSocket(x.r) {
		out.Header["Connection"] = []string{"Upgrade"}
		out.Header["Upgrade"] = []string{"websocket"}
	}
	header.AppendVia(out.Header, x.r.ProtoMajor, x.r.ProtoMinor, x.door.Name)
	x.hop.Via = strings.Join(out.Header["Via"], ", ")
	x.door.ModifyRequest(x.modified, out.Header, &x.hop)
	out.Close = false
	out.Trailer = nil
	out.Body, out.ContentLength = nil, 0
	delete(out.Header, "Expect")
	if x.reqBody != nil {
		out.Body, out.ContentLength = x.reqBody, x.r.ContentLength
		if x.reqBody.expects {
			out.Header["Expect"] = []string{"100-continue"}
		}
	}
	return out
}

// RoundTrip gets the answer to what Outgoing returned. A failure becomes the
// page that tells of it, so that it never returns an error.
func (x *Exchange) RoundTrip(out *http.Request) *http.Response {
	next := x.door.Cached
	if header.Upgrade(out.Header) != "" {
		next = x.door.Direct
	}
	res, err := next.RoundTrip(out)
	if err != nil {
		if x.reqBody != nil && errors.Is(err, context.Canceled) {
			// net/http cancels when it cannot read on; the body knows why.
			err = cmp.Or(x.reqBody.failure(), err)
		}
		return x.Refusal(err)
	}
	if err := x.modifyResponse(res); err != nil {
		res.Body.Close()
		return x.Refusal(err)
	}
	x.rec.Tag = accesslog.TagMiss
	if x.outcome.Result != "" {
		x.rec.Tag = accesslog.Tag(x.outcome.Result)
	}
	x.rec.CacheStatus = x.outcome.Status
	x.resBody = &responseBody{ReadCloser: res.Body}
	if res.StatusCode != http.StatusSwitchingProtocols {
		res.Body = x.resBody
	}
	return res
}

// Refusal returns err as the response that the client gets, and notes it for
// the log. Only here does an error get its status and page.
func (x *Exchange) Refusal(err error) *http.Response {
	f := fault.From(err)
	if errors.Is(err, context.Canceled) {
		// The client left; nobody reads the page, and the status is nginx's for the
		// log.
		f = &fault.Error{Kind: fault.ConnectionTerminated, Status: statusClientGone, Details: "the client closed the connection", Err: err}
		x.w.timeout = goneTimeout
	}
	x.rec.Error = string(f.Kind)
	if f.Err != nil {
		x.rec.ErrorCause = f.Err.Error()
	}
	x.rec.Rule = f.Rule
	switch f.Kind {
	case fault.RequestDenied, fault.DestinationIPProhibited, fault.ResponseBodySize:
		x.rec.Tag, x.rec.Verdict = accesslog.TagDenied, acl.Deny.String()
	case fault.RequestError, fault.LoopDetected, fault.DestinationNotFound:
		x.rec.Tag = accesslog.TagNone
	default:
		x.rec.Tag = accesslog.TagMiss
	}
	page := fault.Render(f, x.door.Name, x.r.Header["Accept"], x.rec.RequestID)
	if x.outcome.Status != "" {
		page.Header.Set("Cache-Status", x.outcome.Status)
	}
	if f.Kind == fault.RequestError || page.Status == statusClientGone {
		page.Header.Set("Connection", "close")
	}
	if page.Status == http.StatusMethodNotAllowed {
		page.Header.Set("Allow", x.allow()) // RFC 9110, Section 15.5.6
	}
	return pageResponse(page, x.r)
}

const (
	statusClientGone = 499
	// goneTimeout bounds the writing to a client that left, or only half did.
	goneTimeout = time.Second
)

// Respond writes a response to the client whole.
func (x *Exchange) Respond(res *http.Response) {
	defer res.Body.Close()
	h := x.w.Header()
	maps.Copy(h, res.Header)
	announceTrailers(h, res)
	x.w.WriteHeader(res.StatusCode)
	copyBody(x.w, res.Body)
	if len(res.Trailer) > 0 {
		x.w.Flush()
		maps.Copy(h, res.Trailer)
	}
}

// Fail answers with the page for err.
func (x *Exchange) Fail(err error) { x.Respond(x.Refusal(err)) }

// informational passes a 1xx response on (RFC 9110, Section 15.2). 100 is
// net/http's own to send, 101 is not interim. While a body is read that waited
// for 100, net/http may be sending just that, and another would run into it.
func (x *Exchange) informational(code int, h textproto.MIMEHeader) error {
	if code <= http.StatusSwitchingProtocols || code > 199 || x.w.status != 0 {
		return nil
	}
	if x.reqBody != nil && x.reqBody.expects && !x.reqBody.ended.Load() {
		return nil
	}
	out := x.w.Header()
	maps.Copy(out, h)
	header.RemoveHopByHop(out)
	x.modified.Removes(out)
	x.w.WriteHeader(code)
	clear(out)
	return nil
}
