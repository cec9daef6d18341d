package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fwdproxy/accesslog"
	"fwdproxy/acl"
	"fwdproxy/auth"
	"fwdproxy/cache"
	"fwdproxy/compress"
	"fwdproxy/forward"
	"fwdproxy/intercept"
	"fwdproxy/internal/edge"
	"fwdproxy/internal/quota"
	"fwdproxy/internal/unit"
	"fwdproxy/policy"
	"fwdproxy/reverse"
	"fwdproxy/upstream"
)

// live is one compiled policy with the stages that it set up. It is immutable;
// a reload makes the next one, and requests in flight keep theirs.
type live struct {
	policy   *policy.Policy
	loaded   time.Time
	upstream *upstream.Transport
	cache    *cache.Transport
	door     *edge.Door
	forward  *forward.Settings
	reverse  *reverse.Settings

	announcers []netip.Prefix // who begins connections with a PROXY header
}

// engine holds what outlives a reload, and the live policy.
type engine struct {
	mode    string // "forward" or "reverse"
	cache   *cache.Cache
	tunnels *edge.Tunnels
	quotas  *quota.Table
	mirrors *reverse.Mirrors
	shadow  *candidate // nil without --shadow
	own     ownAddrs
	insides *insides // serves what comes out of intercepted tunnels; nil offline
	metrics *accesslog.Metrics
	log     *slog.Logger

	downloads downloads
	rejected  intercept.Rejected // who did not take our certificates

	accessMu sync.RWMutex // held for writing while a reload replaces the log
	access   *accesslog.Logger
	stdout   io.Writer
	stderr   io.Writer

	current  atomic.Pointer[live]
	reloadMu sync.Mutex
}

// build sets the stages up for the policy. What the policy leaves as it is,
// connections to next hops above all, is taken over from old, which may be nil.
func (e *engine) build(p *policy.Policy, old *live) (*live, error) {
	c := p.Config
	l := &live{policy: p, loaded: time.Now(), announcers: unit.Networks(c.Forward.ProxyProtocol)}
	if old != nil {
		p.ACL.Inherit(old.policy.ACL)
	}
	if old != nil && old.policy.UpstreamFiles == p.UpstreamFiles && reflect.DeepEqual(old.policy.Config.Upstream, c.Upstream) && reflect.DeepEqual(old.policy.Config.Pools, c.Pools) {
		l.upstream = old.upstream
	} else {
		up, err := upstream.New(c.Upstream, c.Pools)
		if err != nil {
			return nil, err
		}
		if l.upstream = up; old != nil {
			up.Inherit(old.upstream)
		}
	}
	kept, next := c.Cache, http.RoundTripper(l.upstream)
	if e.mode == modeReverse {
		kept, next = kept.ForReverse(), compress.New(c.Reverse.Compress, next)
	}
	l.cache = e.cache.Transport(kept, c.Name, next)
	l.door = &edge.Door{
		Mode:       e.mode,
		Name:       c.Name,
		Limits:     c.Limits,
		ACL:        p.ACL,
		Cached:     l.cache,
		Direct:     l.upstream,
		Unresolved: slices.ContainsFunc(c.Upstream.Parents, func(p upstream.ParentConfig) bool { return p.Resolves }),
		Tunnels:    e.tunnels,
		Quotas:     e.quotas,
		Tunnel:     c.Forward.Tunnel,
		Candidate:  e.shadow.differences(),
		Log:        e.record,
		Now:        time.Now,
	}
	switch e.mode {
	case modeReverse:
		l.announcers = unit.Networks(c.Reverse.ProxyProtocol)
		if len(c.Reverse.Sites) == 0 {
			return nil, fmt.Errorf("%s: --reverse needs at least one [[reverse.site]] and its [[pool]]; see docs/policy.md", p.Source())
		}
		l.reverse = &reverse.Settings{Door: l.door, Sites: reverse.NewSites(c.Reverse.Sites), Trusted: reverse.NewTrusted(c.Reverse.Trusted), Mirrors: e.mirrors, Firewalls: p.WAF,
			Encodings: c.Reverse.Compress.Encodings, Sticky: &reverse.Sticky{Cookie: l.upstream.StickyCookie, Value: l.upstream.StickyValue}}
	default:
		if p.Auth != nil {
			var was *auth.Checker
			if old != nil {
				was = old.door.Auth
			}
			l.door.Auth = auth.New(c.Forward.Auth, p.Auth, was)
		}
		l.door.Guard = e.guard(p.ACL)
		l.door.Intercept = e.interception(l, old)
		l.forward = &forward.Settings{Door: l.door, Dial: l.upstream.Dial, PAC: forward.NewPAC(c.Forward.PAC)}
	}
	return l, nil
}

// watchPeers begins the checks of the policy's pools, once it is in force. The
// forward proxy asks no pool.
func (e *engine) watchPeers(l *live) {
	if e.mode == modeReverse {
		l.upstream.Watch(e.log)
	}
}

// guard refuses addresses that no rule can open: the proxy's own, and private
// ones where the policy says so.
func (e *engine) guard(rules *acl.Engine) func(netip.AddrPort) error {
	return func(a netip.AddrPort) error {
		if err := e.own.check(a); err != nil {
			return err
		}
		return rules.Destination(a.Addr())
	}
}

func (e *engine) record(r *accesslog.Record) {
	e.metrics.Observe(r)
	e.withLog(func(l *accesslog.Logger) { l.Log(r) })
}

// withLog lends the access log that is in force: a reload does not close it
// meanwhile.
func (e *engine) withLog(use func(*accesslog.Logger)) {
	e.accessMu.RLock()
	defer e.accessMu.RUnlock()
	use(e.access)
}

// listen returns the addresses of the mode's front door, plain and with TLS.
func (l *live) listen(mode string) (plain, secure []string) {
	c := l.policy.Config
	if mode == modeReverse {
		return c.Reverse.Listen, c.Reverse.TLS.Listen
	}
	return c.Forward.Listen, c.Forward.TLS.Listen
}

// tls returns what the mode's TLS port is served with, nil without a
// certificate.
func (l *live) tls(mode string) *tls.Config {
	if mode == modeReverse {
		return l.policy.ReverseTLS
	}
	return l.policy.ForwardTLS
}

// reload loads the policy again and swaps it in whole. On any error the old
// one stays. It returns what changed, nothing where the files are the same.
func (e *engine) reload(embedded string, d *doors) (changes []string, err error) {
	e.reloadMu.Lock()
	defer e.reloadMu.Unlock()
	old := e.current.Load()
	defer func() {
		if err != nil {
			e.metrics.Reloaded(false)
			e.log.Error("reload failed; the old policy stays", "policy", old.policy.Source(), "error", err)
		}
	}()
	p, err := old.policy.Reload(embedded)
	if err == nil {
		p, err = e.complete(p, embedded)
	}
	if err != nil {
		return nil, err
	}
	if p.Digest == old.policy.Digest {
		e.metrics.Reloaded(true)
		return nil, nil
	}
	next, err := e.build(p, old)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && next.upstream != old.upstream {
			next.upstream.Close()
		}
	}()
	added, err := d.prepare(next.listen(e.mode))
	if err != nil {
		return nil, err
	}
	if err := e.replaceLog(old.policy.Config.Log, p.Config.Log); err != nil {
		added.close()
		return nil, err
	}
	open, denied := e.tunnels.Redecide(next.door)
	e.current.Store(next)
	added.commit()
	if next.upstream != old.upstream {
		old.upstream.Close()
		e.watchPeers(next)
	}
	e.metrics.Reloaded(true)
	go giveBack(max(p.ACL.ListBytes(), old.policy.ACL.ListBytes()))
	changes = difference(old.policy, p)
	if denied > 0 {
		fate := "kept"
		if next.door.Tunnel.CutsOnReload() {
			fate = "cut"
		}
		changes = append(changes, fmt.Sprintf("%d of %d open tunnels denied now, and %s", denied, open, fate))
	}
	e.log.Info("policy reloaded", "policy", p.Source(), "changes", strings.Join(changes, "; "))
	for _, w := range p.Warnings {
		e.log.Warn("policy", "warning", w.String())
	}
	if keys := needRestart(old.policy.Config, p.Config); len(keys) > 0 {
		e.log.Warn("these keys take effect at the next start", "keys", strings.Join(keys, " "))
	}
	return changes, nil
}

// replaceLog opens the access log that the policy now names, if it is another,
// and closes the one before it.
func (e *engine) replaceLog(was, is accesslog.Config) error {
	if was == is {
		return nil
	}
	l, err := accesslog.Open(is, e.stdout, e.stderr)
	if err != nil {
		return fmt.Errorf("log.access: %w", err)
	}
	e.accessMu.Lock()
	old := e.access
	e.access = l
	e.accessMu.Unlock()
	if err := old.Close(); err != nil {
		e.log.Error("cannot write the end of the old access log", "error", err)
	}
	return nil
}

// difference says in a few words what a reload changes.
func difference(a, b *policy.Policy) []string {
	out := a.ACL.Difference(b.ACL)
	va, vb := reflect.ValueOf(a.Config), reflect.ValueOf(b.Config)
	for i := range va.NumField() {
		if !reflect.DeepEqual(va.Field(i).Interface(), vb.Field(i).Interface()) {
			out = append(out, va.Type().Field(i).Tag.Get("toml")+" changed")
		}
	}
	if len(out) == 0 {
		out = append(out, "files that the policy names, or comments")
	}
	return out
}

// needRestart names the changed keys that a running process cannot take over.
func needRestart(a, b policy.Config) []string {
	var keys []string
	for _, k := range []struct {
		key     string
		changed bool
	}{
		{"cache.memory", a.Cache.Memory != b.Cache.Memory},
		{"cache.disk", a.Cache.Disk != b.Cache.Disk},
		{"admin.listen", a.Admin.Listen != b.Admin.Listen},
		{"limits.connections", a.Limits.Connections != b.Limits.Connections},
	} {
		if k.changed {
			keys = append(keys, k.key)
		}
	}
	return keys
}

var errNoPolicyFile = errors.New("the policy is the embedded default, which does not change; start with --policy FILE to reload")
