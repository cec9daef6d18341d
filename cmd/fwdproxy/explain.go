package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fwdproxy/accesslog"
	"fwdproxy/acl"
	"fwdproxy/auth"
	"fwdproxy/cache"
	"fwdproxy/cache/store"
	"fwdproxy/internal/edge"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
	"fwdproxy/internal/quota"
	"fwdproxy/internal/target"
	"fwdproxy/policy"
	"fwdproxy/reverse"
)

// explanation is what the proxy would do with a request, by the code that
// would do it.
type explanation struct {
	Method    string             `json:"method"`
	URL       string             `json:"url"`
	From      string             `json:"from"`
	User      string             `json:"user,omitempty"`
	Groups    []string           `json:"groups,omitempty"`
	Policy    string             `json:"policy"`
	Digest    string             `json:"policy_sha256"`
	Verdict   string             `json:"verdict"` // allow, deny, "pending" where the address decides, or "challenge" where it hangs on who asks
	Rule      string             `json:"rule"`
	Reason    string             `json:"reason,omitempty"`
	Rules     []acl.Step         `json:"rules"` // each that was considered, in order
	Tunnel    *tunnelVerdict     `json:"tunnel,omitempty"`
	Limits    []acl.LimitStep    `json:"limits,omitempty"`
	Modify    []acl.ModifyStep   `json:"modify,omitempty"`
	Addresses []addressVerdict   `json:"addresses,omitempty"`
	NextHop   string             `json:"next_hop,omitempty"`
	Resolve   string             `json:"resolve_error,omitempty"`
	WAF       *accesslog.WAF     `json:"waf,omitempty"`
	Cache     *cache.Explanation `json:"cache,omitempty"`
	Offline   bool               `json:"offline,omitempty"` // no proxy was running; the cache is empty
}

// verdictChallenge is a refusal with 407: the client is asked who it is.
const verdictChallenge = "challenge"

// tunnelVerdict is the decision about the CONNECT through which a client asks
// for an https URL: unless it is to intercept, the request is not seen at all.
type tunnelVerdict struct {
	Verdict string `json:"verdict"`
	Rule    string `json:"rule"`
}

// addressVerdict is the decision about one address that the host has.
type addressVerdict struct {
	Address string `json:"address"`
	Verdict string `json:"verdict"`
	Rule    string `json:"rule,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

func explainCommand() *cobra.Command {
	var file, from, user, method, listen, at string
	var fields []string
	var offline, asReverse bool
	cmd := &cobra.Command{
		Use:   "explain URL",
		Short: "Show the verdict, its rule, the addresses and the cache's decision for a URL",
		Long: `Show what the proxy does with a request for the URL: the verdict and the rule that
gave it, the addresses that would be dialled, the cache key, what is stored and
what the cache decides, and why. The running proxy answers, from the code and
the cache that serve requests. Where none runs, or with --offline, the policy
file is asked alone, with an empty cache. For a tunnel write host:port with
--method CONNECT.`,
		Args: one("URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := loadPolicy(file)
			if err != nil {
				return err
			}
			q := url.Values{"url": {args[0]}, "from": {from}, "user": {user}, "method": {method}, "listen": {listen}, "at": {at}, "header": fields}
			var ex explanation
			if !offline {
				err = adminCall(p, http.MethodGet, "/api/explain", q, &ex)
			}
			if offline || errors.Is(err, errNotRunning) {
				ex, err = explainOffline(p, modeOf(asReverse), q)
			}
			if err != nil {
				return err
			}
			ex.print(cmd.OutOrStdout(), p)
			return nil
		},
	}
	policyFlag(cmd, &file)
	cmd.Flags().StringVar(&from, "from", "127.0.0.1", "client `address` that asks")
	cmd.Flags().StringVar(&user, "user", "", "`name` of the user who asks, as in the files of [forward.auth] (default nobody)")
	cmd.Flags().StringVarP(&method, "method", "X", http.MethodGet, "request `method`")
	cmd.Flags().StringArrayVarP(&fields, "header", "H", nil, "request `field` as \"Name: value\"; may be given several times")
	cmd.Flags().StringVar(&listen, "listen", "", "`address` that the client connects to (default the first that the proxy listens on)")
	cmd.Flags().StringVar(&at, "at", "", "`time` of the request as in 2026-01-31T18:00:00+01:00 (default now)")
	cmd.Flags().BoolVar(&offline, "offline", false, "ask the policy file alone, not the running proxy")
	cmd.Flags().BoolVar(&asReverse, "reverse", false, "without a running proxy: explain the [reverse] side")
	return cmd
}

// explainOffline explains by the policy alone, with an empty cache.
func explainOffline(p *policy.Policy, mode string, q url.Values) (explanation, error) {
	e, done, err := offlineEngine(p, mode)
	if err != nil {
		return explanation{}, err
	}
	defer done()
	ex, err := e.explain(context.Background(), q)
	ex.Offline = true
	return ex, err
}

// offlineEngine builds the same engine that serve would, without listening;
// done must be called at the end.
func offlineEngine(p *policy.Policy, mode string) (e *engine, done func(), err error) {
	memory, err := store.NewMemory(0)
	if err != nil {
		return nil, nil, err
	}
	e = &engine{mode: mode, cache: cache.New(memory), tunnels: edge.NewTunnels(), quotas: quota.NewTable(), log: slog.New(slog.DiscardHandler)}
	l, err := e.build(p, nil)
	if err != nil {
		return nil, nil, err
	}
	e.current.Store(l)
	return e, func() { l.upstream.Close() }, nil
}

func (e *engine) explainRequest(r *http.Request) (explanation, error) {
	return e.explain(r.Context(), r.URL.Query())
}

func (e *engine) explain(ctx context.Context, q url.Values) (explanation, error) {
	l := e.current.Load()
	t, u, r, err := e.question(l, q)
	if err != nil {
		return explanation{}, err
	}
	ex := explanation{Method: r.Method, From: r.Client.String(), User: r.User, Groups: r.Groups, Policy: l.policy.Source(), Digest: l.policy.Digest, URL: t.HostPort()}
	if u != nil {
		ex.URL = u.String()
	}
	if u != nil && u.Scheme == "https" && e.mode == modeForward {
		// A client opens a tunnel for it, and says in there what it asks for.
		connect := r
		connect.Method, connect.Scheme, connect.Path, connect.Query, connect.Header = http.MethodConnect, "", "", "", nil
		var outer explanation
		outer.judge(l.door.Judge(connect))
		ex.Tunnel = &tunnelVerdict{outer.Verdict, outer.Rule}
	}
	j := l.door.Judge(r)
	_, ex.Rules = l.policy.ACL.Explain(r)
	ex.judge(j)
	if j.Err != nil {
		return ex, nil
	}
	fields, apart := http.Header(r.Header), ""
	ex.Limits = l.policy.ACL.ExplainLimits(r)
	ex.Modify = l.policy.ACL.ExplainModify(r)
	h := &hop.Hop{Permit: func(a netip.AddrPort) error { _, err := j.Address(a); return err }}
	if e.mode == modeReverse {
		asked := reverse.Asked{Scheme: t.Scheme, Host: t.Host, Path: u.EscapedPath(), Query: u.RawQuery, Method: r.Method, Header: r.Header}
		site := l.reverse.Sites.Find(asked)
		if ex.NextHop = site.Describe(asked); site == nil || site.Pool == "" {
			return ex, nil
		}
		if blocked, err := ex.guarded(l, site, r, u); blocked || err != nil {
			return ex, err
		}
		h.Pool = site.Pool
		fields, apart = l.reverse.Fields(site, asked, r.Client, t.Authority()), site.Apart()
	} else {
		ways, resolves := l.upstream.Route(t)
		ex.NextHop = strings.Join(ways, ", else ")
		if resolves {
			v, err := j.Address(hop.Unknown)
			ex.Addresses = []addressVerdict{verdictOn("looked up by the parent proxy", v, err)}
		} else {
			ex.resolve(ctx, l, t, j)
		}
	}
	if u != nil {
		fields = fields.Clone()
		l.door.ModifyRequest(l.policy.ACL.Modify(r), fields, h)
		h.KeepApart(apart)
		req := (&http.Request{Method: r.Method, URL: u, Host: u.Host, Header: fields}).WithContext(hop.With(ctx, h))
		c := l.cache.Explain(req, time.Now())
		ex.Cache = &c
	}
	return ex, nil
}

// guarded asks the site's firewall, and reports whether it blocks.
func (ex *explanation) guarded(l *live, site *reverse.Site, q acl.Request, u *url.URL) (blocked bool, err error) {
	r := &http.Request{Method: q.Method, URL: u, Host: u.Host, Header: http.Header(q.Header), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if ex.WAF, err = l.reverse.Firewall(site, r, q.Client, q.Listen); err != nil || ex.WAF == nil {
		return false, err
	}
	return ex.WAF.Verdict == accesslog.WAFBlock, nil
}

// question reads what the user asks about as the front door would.
func (e *engine) question(l *live, q url.Values) (target.Target, *url.URL, acl.Request, error) {
	fail := func(err error) (target.Target, *url.URL, acl.Request, error) {
		return target.Target{}, nil, acl.Request{}, err
	}
	from := cmp.Or(q.Get("from"), "127.0.0.1")
	client, err := netip.ParseAddr(from)
	if err != nil {
		return fail(fmt.Errorf("from: %q is not an IP address", from))
	}
	r := &http.Request{Method: cmp.Or(strings.ToUpper(q.Get("method")), http.MethodGet), Header: http.Header{}}
	t, u, err := explainTarget(r.Method, q.Get("url"))
	if err != nil {
		return fail(err)
	}
	for _, line := range q["header"] {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return fail(fmt.Errorf("header: %q is not a field; write \"Name: value\"", line))
		}
		r.Header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	now := time.Now()
	if at := q.Get("at"); at != "" {
		if now, err = time.Parse(time.RFC3339, at); err != nil {
			return fail(fmt.Errorf("at: %q is not a time; write it as 2026-01-31T18:00:00+01:00", at))
		}
	}
	r.URL = u
	question := edge.Question(r, t, now)
	question.Client = client.Unmap()
	listen := q.Get("listen")
	plain, secure := l.listen(e.mode)
	if addrs := append(slices.Clip(plain), secure...); listen == "" && len(addrs) > 0 {
		listen = addrs[0]
	} else if _, err := netip.ParseAddrPort(listen); listen != "" && err != nil {
		return fail(fmt.Errorf("listen: %q is not an address with a port", listen))
	}
	who, err := l.who(q.Get("user"))
	if err != nil {
		return fail(err)
	}
	question = l.door.As(question, who)
	question.Listen, _ = netip.ParseAddrPort(listen)
	if e.mode == modeReverse && question.Listen.IsValid() {
		question.Port = question.Listen.Port()
	}
	return t, u, question, nil
}

// who returns the user of that name with its groups, nobody for "".
func (l *live) who(user string) (auth.Identity, error) {
	switch {
	case user == "":
		return auth.Identity{}, nil
	case l.door.Auth == nil:
		return auth.Identity{}, fmt.Errorf("user: nobody can say who they are: the policy has no [forward.auth], or this is the reverse side")
	case !l.policy.Auth.Knows(user) && l.policy.Config.Forward.TLS.ClientCA == "": // a certificate can name anybody
		return auth.Identity{}, fmt.Errorf("user: there is no user %q in the files of [forward.auth]", user)
	}
	return l.policy.Auth.Identity(user), nil
}

// explainTarget reads what the user typed as the front door would read it.
func explainTarget(method, raw string) (target.Target, *url.URL, error) {
	if method == http.MethodConnect {
		t, err := target.FromAuthority(raw, "")
		return t, nil, err
	}
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil {
		return target.Target{}, nil, err
	}
	t, err := target.FromURL(u)
	if err != nil {
		return target.Target{}, nil, err
	}
	u.Scheme, u.Host, u.Fragment = t.Scheme, t.Authority(), ""
	if u.Path == "" {
		u.Path = "/"
	}
	return t, u, nil
}

func (ex *explanation) judge(j edge.Judgement) {
	ex.Verdict, ex.Rule, ex.Reason = j.Verdict.Action.String(), j.Verdict.Rule, j.Verdict.Reason
	if j.Err != nil {
		f := fault.From(j.Err)
		ex.Verdict, ex.Rule = acl.Deny.String(), f.Rule
		if f.Rule != j.Verdict.Rule {
			ex.Reason = f.Details // not a rule's own
		}
		if f.HTTPStatus() == http.StatusProxyAuthRequired {
			ex.Verdict = verdictChallenge
		}
	} else if j.Verdict.Pending {
		ex.Verdict = "pending"
	}
}

// resolve asks for the host's addresses and decides about each, as a dial
// would.
func (ex *explanation) resolve(ctx context.Context, l *live, t target.Target, j edge.Judgement) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	addrs, err := l.upstream.Resolve(ctx, t)
	if err != nil {
		ex.Resolve = fault.From(err).Details
		return
	}
	for _, a := range addrs {
		v, err := j.Address(a)
		ex.Addresses = append(ex.Addresses, verdictOn(a.Addr().String(), v, err))
	}
}

func verdictOn(address string, v acl.Verdict, err error) addressVerdict {
	av := addressVerdict{Address: address, Verdict: v.Action.String(), Rule: v.Rule, Reason: v.Reason}
	if err != nil {
		f := fault.From(err)
		av.Verdict, av.Rule, av.Reason = acl.Deny.String(), f.Rule, f.Details
		if f.HTTPStatus() == http.StatusProxyAuthRequired {
			av.Verdict = verdictChallenge
		}
	}
	return av
}

// print shows the explanation; asked is the policy that the user named.
func (ex explanation) print(w io.Writer, asked *policy.Policy) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("request", "%s %s from %s", ex.Method, ex.URL, ex.From)
	if ex.User != "" {
		line("user", "%s%s", ex.User, because(strings.Join(ex.Groups, ", ")))
	}
	line("policy", "%s", ex.Policy)
	for _, r := range ex.Rules {
		line("rule", "%q (%s): %s", r.Rule, r.Action, r.Outcome+because(r.Why))
	}
	line("verdict", "%s, by rule %q%s", ex.Verdict, ex.Rule, because(ex.Reason))
	if t := ex.Tunnel; t != nil {
		seen := "its requests are seen, and get the verdict above"
		if t.Verdict != acl.Intercept.String() {
			seen = "through a tunnel the request is not seen, and gets no verdict of its own"
		}
		line("tunnel", "%s, by rule %q: %s", t.Verdict, t.Rule, seen)
	}
	for _, s := range ex.Limits {
		line("limit", "%q (%s): %s", s.Limit, s.Allows, s.Outcome)
	}
	for _, s := range ex.Modify {
		line("modify", "%q (%s): %s", s.Table, s.Does, s.Outcome)
	}
	for _, a := range ex.Addresses {
		line("address", "%s: %s, by rule %q%s", a.Address, a.Verdict, a.Rule, because(a.Reason))
	}
	if ex.Resolve != "" {
		line("address", "unknown: %s", ex.Resolve)
	}
	if ex.NextHop != "" {
		line("next hop", "%s", ex.NextHop)
	}
	if ex.WAF != nil {
		line("firewall", "%s", describeWAF(ex.WAF))
	}
	if ex.Cache != nil {
		printCache(line, ex.Cache)
	}
	if ex.Digest != asked.Digest {
		line("note", "the running proxy has another policy in force than %s; --offline asks that", asked.Source())
	}
	if ex.Offline {
		line("note", "no running proxy was asked: the cache above is empty")
	}
}

// describeWAF says what a firewall found for people.
func describeWAF(w *accesslog.WAF) string {
	says := map[string]string{
		accesslog.WAFPass: "passes: no rule matches", accesslog.WAFMatch: "passes", accesslog.WAFDetect: "passes, and would be blocked by waf = \"block\"", accesslog.WAFBlock: "blocked with 403",
	}[w.Verdict]
	if len(w.Rules) == 0 {
		return says
	}
	ids := make([]string, len(w.Rules))
	for i, id := range w.Rules {
		ids[i] = strconv.Itoa(id)
	}
	return fmt.Sprintf("%s: anomaly score %d by rule %s: %s", says, w.Score, strings.Join(ids, ", "), w.Message)
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

func printCache(line func(name, format string, args ...any), c *cache.Explanation) {
	line("cache key", "%s", c.Key)
	if c.Rule != "" {
		line("cache rule", "%s", c.Rule)
	}
	if c.Bends != "" {
		line("not by RFC", "%s", c.Bends)
	}
	if len(c.Vary) > 0 {
		line("varies by", "%s", strings.Join(c.Vary, ", "))
	}
	if s := c.Stored; s != nil {
		line("stored", "status %d, %d bytes, from %s, received %s", s.Status, s.Size, s.Address, s.Received.Format(time.RFC3339))
		line("freshness", "lifetime %d s by %s, age %d s, ttl %d s", s.Lifetime, s.LifetimeSource, s.Age, s.TTL)
		if s.ETag != "" || s.LastModified != "" {
			line("validator", "%s", strings.TrimSpace(s.ETag+" "+s.LastModified))
		}
	}
	if c.Purged != "" {
		line("purged", "%s", c.Purged)
	}
	line("decision", "%s: %s", c.Decision, c.Reason)
}
