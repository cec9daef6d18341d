package reverse

import (
	"bytes"
	"io"
	"net/http"
	"net/netip"

	"fwdproxy/accesslog"
	"fwdproxy/internal/edge"
	"fwdproxy/internal/fault"
	"fwdproxy/waf"
)

// WAFRule is the rule in the log and on the page of what a firewall blocked;
// its own rules are the log's alone.
const WAFRule = "reverse.waf"

// inspect has the site's firewall look at a request, in which out is what the
// next hop shall get and in what the client sent.
func (s *Settings) inspect(x *edge.Exchange, out, in *http.Request, site *Site) error {
	if !site.guarded() {
		return nil
	}
	q := waf.Request{Request: in, ID: x.ID(), Client: x.Client(), Listen: edge.ListenAddr(in), Block: site.WAF == waf.Block}
	if out.Body != nil {
		q.Body = out.Body
	}
	found, head, err := s.Firewalls.For(site.Name).Inspect(q)
	note := &accesslog.WAF{Site: site.label(), Verdict: verdict(found, site.WAF), Rules: found.Rules, Message: found.Message, Score: found.Score}
	x.NoteWAF(note)
	if err != nil {
		return err
	}
	if len(head) > 0 {
		out.Body = looked{io.MultiReader(bytes.NewReader(head), out.Body), out.Body}
		delete(out.Header, "Expect") // the client was told to go on
	}
	if note.Verdict == accesslog.WAFBlock {
		return &fault.Error{Kind: fault.RequestDenied, Rule: WAFRule, Details: "the web application firewall does not allow it"}
	}
	return nil
}

// looked is a request body of which the beginning was read already.
type looked struct {
	io.Reader
	io.Closer
}

func verdict(f waf.Finding, mode string) string {
	switch {
	case f.Against && mode == waf.Block:
		return accesslog.WAFBlock
	case f.Against:
		return accesslog.WAFDetect
	case len(f.Rules) > 0:
		return accesslog.WAFMatch
	}
	return accesslog.WAFPass
}

// label names the site in the log and in metrics.
func (s *Site) label() string {
	if s.Name != "" {
		return s.Name
	}
	return s.Hosts[0] + s.path
}

// Firewall returns what the site's firewall would say about a request without
// a body, for explaining; nil where there is none.
func (s *Settings) Firewall(site *Site, r *http.Request, client netip.Addr, listen netip.AddrPort) (*accesslog.WAF, error) {
	if site == nil || !site.guarded() {
		return nil, nil
	}
	q := waf.Request{Request: r, ID: "explain", Client: netip.AddrPortFrom(client, 0), Listen: listen, Block: site.WAF == waf.Block}
	found, _, err := s.Firewalls.For(site.Name).Inspect(q)
	return &accesslog.WAF{Site: site.label(), Verdict: verdict(found, site.WAF), Rules: found.Rules, Message: found.Message, Score: found.Score}, err
}
