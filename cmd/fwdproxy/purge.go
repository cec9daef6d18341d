package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"fwdproxy/admin"
	"fwdproxy/cache"
	"fwdproxy/cache/store"
)

func purgeCommand() *cobra.Command {
	var file, prefix, tag string
	var soft bool
	cmd := &cobra.Command{
		Use:   "purge URL | --prefix P | --tag T",
		Short: "Take responses out of the running proxy's cache",
		Long: `Take responses out of the cache of the running proxy, through the admin address
that the policy names: those to one URL with all variants and parts, those to all
URLs that begin with a prefix (scheme://host and the beginning of a path, or a
host alone for all its schemes and ports), or those with a tag in Surrogate-Key,
Cache-Tag or Cache-Groups.

When the command returns, nothing that was stored or asked for before answers a
request any more; who is being answered is answered to the end. With --soft it
counts as stale instead: it is validated, and may be served stale where
stale-while-revalidate or stale-if-error say so.`,
		Example: `  fwdproxy purge http://www.example.com/index.html
  fwdproxy purge --prefix http://www.example.com/img/
  fwdproxy purge --prefix www.example.com
  fwdproxy purge --tag product-17 --soft`,
		Args: func(cmd *cobra.Command, args []string) error {
			given := len(args)
			for _, name := range []string{"prefix", "tag"} {
				if cmd.Flags().Changed(name) {
					given++
				}
			}
			if given != 1 {
				return fmt.Errorf("%s takes one URL, or --prefix, or --tag; see %s --help", cmd.CommandPath(), cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{"prefix": {prefix}, "tag": {tag}}
			if len(args) > 0 {
				q.Set("url", args[0])
			}
			if soft {
				q.Set("soft", "1")
			}
			if _, err := parsePurge(q); err != nil {
				return err
			}
			p, err := loadPolicy(file)
			if err != nil {
				return err
			}
			var done cache.Purged
			if err := adminCall(p, http.MethodPost, "/api/purge", q, &done); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), purgeLine(done))
			return nil
		},
	}
	policyFlag(cmd, &file)
	cmd.Flags().StringVar(&prefix, "prefix", "", "purge all URLs that begin with this `text`, or all of a host")
	cmd.Flags().StringVar(&tag, "tag", "", "purge all responses with this `tag`")
	cmd.Flags().BoolVar(&soft, "soft", false, "make it stale, in place of gone")
	return cmd
}

// purgeLine tells a person what a purge did.
func purgeLine(done cache.Purged) string {
	what := fmt.Sprintf("%s %s", done.Kind, done.What)
	if done.Kind == "tag" {
		what = fmt.Sprintf("tag %q", done.What)
	}
	effect := "gone"
	if done.Soft {
		effect = "stale"
	}
	switch {
	case done.Stored == nil:
		return fmt.Sprintf("purged %s: what is stored of it is %s, and found so when it is asked for", what, effect)
	case *done.Stored:
		return fmt.Sprintf("purged %s: all that was stored for it is %s", what, effect)
	}
	return fmt.Sprintf("purged %s: nothing was stored for it", what)
}

func parsePurge(q url.Values) (cache.Purge, error) {
	var soft bool
	switch s := q.Get("soft"); s {
	case "", "0":
	case "1":
		soft = true
	default:
		return cache.Purge{}, fmt.Errorf("soft: %q is neither 0 nor 1", s)
	}
	for name, values := range q {
		switch name {
		case "url", "prefix", "tag", "soft":
			if len(values) > 1 {
				return cache.Purge{}, fmt.Errorf("%s: give one", name)
			}
		default:
			return cache.Purge{}, fmt.Errorf("%q is no parameter; url, prefix, tag and soft are", name)
		}
	}
	return cache.ParsePurge(q.Get("url"), q.Get("prefix"), q.Get("tag"), soft)
}

// purge does what a request to the admin port asks for.
func (e *engine) purge(r *http.Request) (cache.Purged, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return cache.Purged{}, err
	}
	p, err := parsePurge(q)
	if err != nil {
		return cache.Purged{}, err
	}
	done, err := e.current.Load().cache.Purge(p, time.Now())
	attrs := []any{"kind", done.Kind, "what", done.What, "soft", done.Soft, "by", r.RemoteAddr}
	if err != nil {
		e.log.Error("purged", append(attrs, "error", err)...)
		return done, fmt.Errorf("%w: %w", admin.ErrInternal, err)
	}
	e.log.Info("purged", attrs...)
	return done, nil
}

// openCache returns the cache on s. Where s outlives the process, the journal
// beside it keeps what was purged; else it is nil.
func openCache(s store.Store, j *store.Journal, log *slog.Logger) (*cache.Cache, error) {
	c, damage, err := cache.Open(s, j)
	if err != nil {
		return nil, err
	}
	if damage != nil {
		log.Error("what was purged is not known any more; all that was stored before counts as purged", "error", damage)
	}
	return c, nil
}

func (s *server) registerPurges() {
	family := func(name, help string, values func(cache.PurgeCounts) map[string]uint64) {
		for kind := range values(s.cache.PurgeCounts()) {
			s.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
				Name: name, Help: help, ConstLabels: prometheus.Labels{"kind": kind},
			}, func() float64 { return float64(values(s.cache.PurgeCounts())[kind]) }))
		}
	}
	family("fwdproxy_purges_total", "Purges by kind; group: by a response to an unsafe request (RFC 9875).",
		func(c cache.PurgeCounts) map[string]uint64 { return c.Made })
	family("fwdproxy_purge_refusals_total", "Look-ups that found something which a purge had made unusable or stale, by kind of purge.",
		func(c cache.PurgeCounts) map[string]uint64 { return c.Refused })
}
