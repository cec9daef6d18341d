package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"fwdproxy"
	"fwdproxy/accesslog"
	"fwdproxy/acl"
	"fwdproxy/admin"
	"fwdproxy/cache/store"
	"fwdproxy/forward"
	"fwdproxy/http1"
	"fwdproxy/http2"
	"fwdproxy/internal/edge"
	"fwdproxy/internal/quota"
	"fwdproxy/policy"
	"fwdproxy/reverse"
	"fwdproxy/upstream"
)

const (
	modeForward = "forward"
	modeReverse = "reverse"
)

func modeOf(reverse bool) string {
	if reverse {
		return modeReverse
	}
	return modeForward
}

func serveCommand() *cobra.Command {
	var file, shadow string
	var asReverse bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy (what fwdproxy does without a command)",
		Long: `Run the forward proxy, or with --reverse the reverse proxy, until SIGTERM or
SIGINT, which drain: requests and tunnels in flight finish within
limits.drain_timeout; a second signal cuts them. SIGHUP and a saved policy file
reload; a file with a problem keeps the old policy.

With --shadow a second policy file, a candidate, is asked about every request as
well and decides nothing: the access log, /api/shadow and the metrics tell where
it would have said otherwise.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := loadWith(policy.Load, file)
			if err != nil {
				return err
			}
			var beside *policy.Policy
			if shadow != "" {
				if beside, err = policy.Load(shadow, ""); err != nil {
					return fmt.Errorf("--shadow: %w", err)
				}
			}
			return serve(modeOf(asReverse), p, beside, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	policyFlag(cmd, &file)
	cmd.Flags().BoolVar(&asReverse, "reverse", false, "run the [reverse] side: sites and pools instead of a forward proxy")
	cmd.Flags().StringVar(&shadow, "shadow", "", "candidate policy `file` that is asked beside the policy and decides nothing")
	return cmd
}

// server is one running process.
type server struct {
	*engine
	front     *http.Server
	http2     *http2.Server
	doors     *doors
	admin     *http.Server // nil when off
	adminAddr netip.AddrPort
	hot       *edge.HotSet
	registry  *prometheus.Registry
	tiers     *tiers
	failed    chan error

	drainMu  sync.Mutex
	draining bool
}

func serve(mode string, p, shadow *policy.Policy, stdout, stderr io.Writer) error {
	s, err := start(mode, p, shadow, stdout, stderr)
	if err != nil {
		return err
	}
	s.announce(stderr)
	return s.run()
}

// hotShare is the part of cache.memory that copies of what is asked for all the
// time may take on top of it.
const hotShare = 16

// start sets everything up and listens; nothing is left behind on an error.
func start(mode string, p, shadow *policy.Policy, stdout, stderr io.Writer) (*server, error) {
	c := p.Config
	access, err := accesslog.Open(c.Log, stdout, stderr)
	if err != nil {
		return nil, fmt.Errorf("log.access: %w", err)
	}
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	stored, err := openTiers(c.Cache, logger)
	if err != nil {
		access.Close()
		return nil, err
	}
	registry := prometheus.NewRegistry()
	s := &server{
		engine: &engine{
			mode:    mode,
			cache:   stored.cache,
			tunnels: edge.NewTunnels(),
			quotas:  quota.NewTable(),
			mirrors: reverse.NewMirrors(),
			access:  access,
			stdout:  stdout,
			stderr:  stderr,
			metrics: accesslog.NewMetrics(registry),
			log:     logger,
		},
		hot:      edge.NewHotSet(int64(c.Cache.Memory) / hotShare),
		registry: registry,
		tiers:    stored,
		failed:   make(chan error, 8),
	}
	abort := func() {
		access.Close()
		_ = stored.close()
	}
	p.Copies().Clean()
	p, err = s.complete(p, fwdproxy.DefaultPolicy)
	if err != nil {
		abort()
		return nil, err
	}
	if shadow != nil {
		s.shadow = s.newCandidate(shadow)
		registerShadow(registry, s.shadow)
	}
	handler := s.handler()
	s.insides = newInsides(s.frontServer(handler), s.framing())
	first, err := s.build(p, nil)
	if err != nil {
		abort()
		return nil, err
	}
	s.current.Store(first)
	giveBack(p.ACL.ListBytes())
	s.openDoors(handler, c.Limits.Connections)
	added, err := s.doors.prepare(first.listen(mode))
	if err == nil {
		err = s.startAdmin(c.Admin)
		if err != nil {
			added.close()
		}
	}
	if err != nil {
		abort()
		return nil, err
	}
	s.registerGauges(stored.memory)
	registerDisk(s.registry, stored.disk)
	s.registerPurges()
	s.registry.MustRegister(interceptMetrics(&s.rejected))
	go func() {
		if err := s.insides.run(); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- err
		}
	}()
	added.commit()
	s.noteOwnAddrs()
	s.watchPeers(first)
	return s, nil
}

// framing is what stands before net/http on each connection, under the policy
// in force.
func (s *server) framing() *http1.Server {
	return &http1.Server{
		Limits: func() *edge.Limits { return &s.current.Load().door.Limits },
		Refuse: func(q edge.Refused) []byte { return s.current.Load().door.Refuse(q) },
		Answer: func(w net.Conn, head http1.Head) (bool, error) {
			return s.hot.Answer(s.current.Load().door, w, head.Raw)
		},
	}
}

// openDoors makes what serves clients: listeners, HTTP/1.1 and HTTP/2.
func (s *server) openDoors(handler http.Handler, connections int) {
	room := newRoom(s.framing(), connections, newAnnouncers(func() []netip.Prefix { return s.current.Load().announcers }, s.log))
	s.front = s.frontServer(handler)
	s.front.ConnState = room.connState
	s.http2 = &http2.Server{Limits: room.framing.Limits, Handler: handler, Absolute: s.mode == modeForward, ErrorLog: errorLog(s.log)}
	s.insides.http2 = s.http2
	s.doors = &doors{
		plain:  newListeners(s.front, room, s.mode+".listen", s.failed),
		secure: newListeners(s.front, room, s.mode+".tls.listen", s.failed),
	}
	s.doors.secure.secure = newSecure(func() *tls.Config { return s.current.Load().tls(s.mode) }, s.http2, s.log)
}

func (s *server) frontServer(handler http.Handler) *http.Server {
	return &http.Server{
		// Sizes and times are http1's to limit, which lets nothing through that
		// net/http would refuse.
		Handler:                      handler,
		MaxHeaderBytes:               2 << 20,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     errorLog(s.log),
	}
}

// handler returns the mode's front door.
func (s *server) handler() http.Handler {
	if s.mode == modeReverse {
		return reverse.New(func() *reverse.Settings { return s.current.Load().reverse })
	}
	return forward.New(func() *forward.Settings { return s.current.Load().forward })
}

func errorLog(l *slog.Logger) *log.Logger { return slog.NewLogLogger(l.Handler(), slog.LevelWarn) }

func (s *server) startAdmin(c admin.Config) error {
	if c.Listen == "" {
		return nil
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return listenError("admin.listen", c.Listen, err)
	}
	s.adminAddr, _ = netip.ParseAddrPort(l.Addr().String())
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.admin = &http.Server{
		Handler: admin.Handler(admin.Options{
			Gatherer: s.registry,
			Ready:    s.readiness,
			Reload:   s.reloadNow,
			Explain:  func(r *http.Request) (any, error) { return s.explainRequest(r) },
			Info:     s.info,
			Rules:    func() any { return s.current.Load().policy.ACL.Rules() },
			Shadow:   s.shadow.report(),
			PAC:      s.pac(),
			Authority: func() []byte {
				if a := s.current.Load().policy.Authority; a != nil {
					return a.Certificate()
				}
				return nil
			},
			Intercept: func() any { return s.rejected.List() },
			Pools:     s.pools,
			Drain:     s.drain,
			Purge:     func(r *http.Request) (any, error) { return s.purge(r) },
		}),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          errorLog(s.log),
	}
	go func() {
		if err := s.admin.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("admin.listen: %w", err)
		}
	}()
	return nil
}

func (s *server) registerGauges(memory *store.Memory) {
	gauge := func(name, help string, value func() float64) {
		s.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("fwdproxy_client_connections", "Client connections open now, tunnels not counted.", func() float64 { return float64(s.doors.connections()) })
	gauge("fwdproxy_tunnels", "Tunnels and WebSockets open now.", func() float64 { return float64(s.tunnels.Open()) })
	gauge("fwdproxy_limit_entries", "Clients, users and groups whose use of limits is remembered now.", func() float64 { return float64(s.quotas.Len()) })
	gauge("fwdproxy_cache_entries", "Entries in the memory cache: responses and their segments.", func() float64 { return float64(memory.Stats().Entries) })
	gauge("fwdproxy_cache_bytes", "Bytes that the memory cache has allocated for entries.", func() float64 { return float64(memory.Stats().Bytes) })
	s.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "fwdproxy_tunnels_cut_total", Help: "Tunnels and WebSockets that a reload of the policy cut.",
	}, func() float64 { return float64(s.tunnels.Cut()) }))
	registerMemory(s.registry, memory)
	registerMirrors(s.registry, s.mirrors)
	gauge("fwdproxy_policy_loaded_timestamp_seconds", "When the policy in force was loaded.", func() float64 { return float64(s.current.Load().loaded.Unix()) })
	s.registry.MustRegister(ruleMetrics(func() *acl.Engine { return s.current.Load().policy.ACL }))
	s.registry.MustRegister(listMetrics(s.listInfos))
	s.registry.MustRegister(parentGauge(func() []upstream.ParentState { return s.current.Load().upstream.Parents() }))
	s.registry.MustRegister(poolMetrics(func() []upstream.PoolState { return s.current.Load().upstream.Pools() }))
	s.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "fwdproxy_log_dropped_total", Help: "Access log records dropped because the sink did not take them.",
	}, func() (dropped float64) {
		s.withLog(func(l *accesslog.Logger) { dropped = float64(l.Dropped()) })
		return dropped
	}))
}

func (s *server) noteOwnAddrs() {
	own := s.doors.addrs()
	if s.adminAddr.IsValid() {
		own = append(own, s.adminAddr)
	}
	s.own.set(own)
}

// announce tells a person what runs, and how to try it.
func (s *server) announce(w io.Writer) {
	l := s.current.Load()
	c := l.policy.Config
	var b strings.Builder
	fmt.Fprintf(&b, "fwdproxy %s: %s proxy\n", versionString(), s.mode)
	addrs, secure := s.doors.plain.addrs(), s.doors.secure.addrs()
	for _, a := range addrs {
		fmt.Fprintf(&b, "  listening  %s\n", a)
	}
	for _, a := range secure {
		fmt.Fprintf(&b, "  listening  %s with TLS\n", a)
	}
	if s.admin != nil {
		fmt.Fprintf(&b, "  admin      http://%s/\n", s.adminAddr)
	}
	fmt.Fprintf(&b, "  policy     %s (%s)\n", l.policy.Source(), ruleSummary(l.policy))
	if s.shadow != nil {
		fmt.Fprintf(&b, "  shadow     %s (%s)\n", s.shadow.current().Source(), ruleSummary(s.shadow.current()))
	}
	fmt.Fprintf(&b, "  cache      %s\n", cacheSummary(c.Cache))
	fmt.Fprintf(&b, "  log        %s to %s\n", c.Log.Format, c.Log.Access)
	scheme := "http"
	if len(addrs) == 0 {
		scheme, addrs = "https", secure
	}
	if len(addrs) > 0 {
		if s.mode == modeReverse {
			fmt.Fprintf(&b, "  try        curl -i %s://%s/\n", scheme, reachable(addrs[0]))
		} else {
			fmt.Fprintf(&b, "  try        curl -i -x %s://%s http://example.com/\n", scheme, reachable(addrs[0]))
		}
	}
	io.WriteString(w, b.String())
	for _, warning := range l.policy.Warnings {
		s.log.Warn("policy", "warning", warning.String())
	}
}

// reachable is the address to type for a listener on every address.
func reachable(a netip.AddrPort) netip.AddrPort {
	if a.Addr().IsUnspecified() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
	}
	return a
}

// run serves until a signal drains it or a listener fails.
func (s *server) run() error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	ctx, stopWatching := context.WithCancel(context.Background())
	defer stopWatching()
	go s.refreshLists(ctx)
	go fitCollector(ctx, func() int64 { return s.tiers.memory.Stats().Bytes + s.current.Load().policy.ACL.ListBytes() })
	if s.current.Load().policy.File != "" {
		err := policy.Watch(ctx, func() []string { return s.current.Load().policy.Files() }, func() { _, _ = s.reloadNow() })
		if err != nil {
			s.log.Warn("the policy file is not watched; send SIGHUP after a change", "error", err)
		}
	}
	if s.shadow != nil {
		err := policy.Watch(ctx, func() []string { return s.shadow.current().Files() }, s.reloadCandidate)
		if err != nil {
			s.log.Warn("the candidate policy is not watched; send SIGHUP after a change", "error", err)
		}
	}
	for {
		select {
		case err := <-s.failed:
			s.shutdown(signals)
			return err
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				s.log.Info("draining", "signal", sig.String(), "at most", s.current.Load().policy.Config.Limits.DrainTimeout.D())
				s.shutdown(signals)
				return nil
			}
			s.withLog(func(l *accesslog.Logger) {
				if err := l.Reopen(); err != nil {
					s.log.Error("cannot reopen the access log", "error", err)
				}
			})
			_, _ = s.reloadNow() // which reports its own error
			s.reloadCandidate()
		}
	}
}

func (s *server) reloadNow() (changes []string, err error) {
	if s.current.Load().policy.File == "" {
		return nil, errNoPolicyFile
	}
	changes, err = s.reload(fwdproxy.DefaultPolicy, s.doors)
	if len(changes) > 0 {
		s.noteOwnAddrs()
	}
	return changes, err
}

func (s *server) readiness() error {
	s.drainMu.Lock()
	defer s.drainMu.Unlock()
	if s.draining {
		return errors.New("draining")
	}
	return nil
}

// shutdown stops accepting, lets requests and tunnels in flight finish, and
// cuts what is left at the drain timeout or at a second signal.
func (s *server) shutdown(signals <-chan os.Signal) {
	s.drainMu.Lock()
	s.draining = true
	s.drainMu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), s.current.Load().policy.Config.Limits.DrainTimeout.D())
	defer cancel()
	go func() {
		for {
			select {
			case sig := <-signals:
				if sig != syscall.SIGHUP {
					cancel()
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	var wg sync.WaitGroup
	var cut int
	wg.Go(func() { cut = s.tunnels.Drain(ctx) })
	wg.Go(func() { _ = s.insides.srv.Shutdown(ctx) }) // what is left then is a tunnel that is cut
	var late error
	wg.Go(func() { late = s.http2.Shutdown(ctx) })
	err := s.front.Shutdown(ctx)
	wg.Wait()
	err = errors.Join(err, late)
	if err != nil {
		s.front.Close()
	}
	if s.admin != nil {
		s.admin.Close()
	}
	s.current.Load().upstream.Close()
	if err := s.tiers.close(); err != nil {
		s.log.Error("cannot close the disk cache in order", "error", err)
	}
	s.withLog(func(l *accesslog.Logger) {
		if err := l.Close(); err != nil {
			s.log.Error("cannot write the access log", "error", err)
		}
	})
	if err != nil || cut > 0 {
		s.log.Warn("cut what was still in flight at the end of the drain", "tunnels", cut)
	} else {
		s.log.Info("drained")
	}
}
