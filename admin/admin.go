// Package admin serves health, metrics and a small JSON API to this machine.
//
// It owns the safety of that port (which Host names count, what a browser's
// page may not do) and none of the state: everything it shows or does is a
// func that it is given. Timeouts are set by whoever serves the handler.
package admin

import (
	"encoding/json"
	"errors"
	"html/template"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fwdproxy/intercept"
)

// markField must be on every request that changes something: a browser sends
// it across sites only after a preflight, which nothing here grants.
const markField = "Fwdproxy-Admin"

// ErrInternal marks an error that whoever asked can do nothing about.
var ErrInternal = errors.New("the proxy failed")

// Options is what the port shows and does. What is nil is not offered.
type Options struct {
	Gatherer prometheus.Gatherer
	Ready    func() error                       // why no new request should come here; nil when one may
	Reload   func() ([]string, error)           // loads the policy again, and says what changed; the error says why the old one stays
	Explain  func(r *http.Request) (any, error) // query: url, method, from; the answer becomes JSON
	Info     func() any                         // becomes JSON
	Rules    func() any                         // becomes JSON
	Shadow   func() any                         // where a candidate policy differs; becomes JSON
	// PAC serves the proxy auto-configuration file of the forward proxy.
	PAC http.HandlerFunc
	// Authority returns the certificate that clients must trust for TLS to be
	// intercepted, in DER; nil where there is none.
	Authority func() []byte
	Intercept func() any // becomes JSON: who rejected certificates
	Pools     func() any // becomes JSON
	// Drain takes a peer out of its pool, or puts it back. Query: pool and peer.
	Drain func(r *http.Request, drained bool) error
	// Purge takes something out of the cache. Query: one of url, prefix and tag, and
	// soft=1; the answer becomes JSON. An error that wraps ErrInternal is not the
	// request's.
	Purge func(r *http.Request) (any, error)
}

// endpoint is one path of the port.
type endpoint struct {
	Method, Path, What string
	offered            bool
	serve              http.HandlerFunc
}

// Handler returns the port's handler.
func Handler(o Options) http.Handler {
	a := api{o}
	metrics := http.NotFoundHandler()
	if o.Gatherer != nil {
		metrics = promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{})
	}
	endpoints := []endpoint{
		{"GET", "/healthz", "200 while the process lives", true, a.health},
		{"GET", "/readyz", "200 when requests may come here, 503 with the reason when not", true, a.ready},
		{"GET", "/metrics", "counters for Prometheus", o.Gatherer != nil, metrics.ServeHTTP},
		{"GET", "/api/info", "what runs, as JSON", o.Info != nil, a.info},
		{"GET", "/api/rules", "the rules with their hits, shadow hits and last hit, as JSON", o.Rules != nil, a.rules},
		{"GET", "/api/shadow", "where the candidate policy (serve --shadow) differs from the one in force, as JSON", o.Shadow != nil, a.shadow},
		{"GET", "/proxy.pac", "what tells browsers to use the proxy", o.PAC != nil, o.PAC},
		{"GET", "/wpad.dat", "the same, where browsers look for it", o.PAC != nil, o.PAC},
		{"GET", "/ca", "the certificate that clients have to trust for TLS interception, and how to make them", o.Authority != nil, a.authority},
		{"GET", "/ca.pem", "that certificate, in PEM form", o.Authority != nil, a.certificate("application/x-pem-file", intercept.PEM)},
		{"GET", "/ca.crt", "that certificate, in DER form", o.Authority != nil, a.certificate("application/x-x509-ca-cert", func(der []byte) []byte { return der })},
		{"GET", "/api/intercept", "hosts whose certificates clients rejected, with a suggested rule, as JSON", o.Intercept != nil, a.intercepted},
		{"GET", "/api/explain", "the verdict and the cache's decision for ?url=..&method=..&from=.., as JSON", o.Explain != nil, a.explain},
		{"GET", "/api/pools", "the pools and the state of their peers, as JSON", o.Pools != nil, a.pools},
		{"POST", "/api/pools/drain", "give ?pool=..&peer=.. no further request; needs the field " + markField + ": 1", o.Drain != nil, marked(a.drain(true))},
		{"POST", "/api/pools/restore", "put ?pool=..&peer=.. back; needs the field " + markField + ": 1", o.Drain != nil, marked(a.drain(false))},
		{"POST", "/api/purge", "purge ?url=.., ?prefix=.. or ?tag=.., with &soft=1 make it stale; needs the field " + markField + ": 1", o.Purge != nil, marked(a.purge)},
		{"POST", "/api/reload", "load the policy again; needs the field " + markField + ": 1", o.Reload != nil, marked(a.reload)},
	}
	mux := http.NewServeMux()
	var shown []endpoint
	for _, e := range endpoints {
		if e.offered {
			mux.HandleFunc(e.Method+" "+e.Path, e.serve)
			shown = append(shown, e)
		}
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = index.Execute(w, shown)
	})
	return guard(mux)
}

// guard refuses what was sent to a name that someone else's DNS points here
// (DNS rebinding), and hardens every answer.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !isOwnHost(r.Host) {
			fail(w, http.StatusMisdirectedRequest, "the admin port answers to its IP address or localhost, not to this Host name")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// marked wraps what changes something.
func marked(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(markField) != "1" {
			fail(w, http.StatusForbidden, "a request that changes something needs the field "+markField+": 1")
			return
		}
		next(w, r)
	}
}

// isOwnHost reports whether a Host field is an IP literal, localhost, or none
// at all, which no browser sends.
func isOwnHost(hostport string) bool {
	if hostport == "" {
		return true
	}
	u := url.URL{Host: hostport}
	host := u.Hostname()
	if strings.EqualFold(host, "localhost") {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

type api struct{ o Options }

func (a api) health(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok") }

func (a api) ready(w http.ResponseWriter, _ *http.Request) {
	if a.o.Ready != nil {
		if err := a.o.Ready(); err != nil {
			text(w, http.StatusServiceUnavailable, err.Error())
			return
		}
	}
	text(w, http.StatusOK, "ok")
}

func (a api) info(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, a.o.Info()) }

func (a api) rules(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, a.o.Rules()) }

func (a api) shadow(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, a.o.Shadow()) }
func (a api) pools(w http.ResponseWriter, _ *http.Request)  { answer(w, http.StatusOK, a.o.Pools()) }

func (a api) drain(drained bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := a.o.Drain(r, drained); err != nil {
			fail(w, http.StatusNotFound, err.Error())
			return
		}
		answer(w, http.StatusOK, map[string]bool{"ok": true})
	}
}

func (a api) explain(w http.ResponseWriter, r *http.Request) {
	v, err := a.o.Explain(r)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	answer(w, http.StatusOK, v)
}

func (a api) purge(w http.ResponseWriter, r *http.Request) {
	v, err := a.o.Purge(r)
	switch {
	case errors.Is(err, ErrInternal):
		fail(w, http.StatusInternalServerError, err.Error())
	case err != nil:
		fail(w, http.StatusBadRequest, err.Error())
	default:
		answer(w, http.StatusOK, v)
	}
}

func (a api) reload(w http.ResponseWriter, _ *http.Request) {
	changes, err := a.o.Reload()
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	answer(w, http.StatusOK, map[string]any{"ok": true, "changes": append([]string{}, changes...)})
}

func text(w http.ResponseWriter, status int, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, s+"\n")
}

// fail answers with {"error": why}.
func fail(w http.ResponseWriter, status int, why string) {
	answer(w, status, map[string]string{"error": why})
}

func answer(w http.ResponseWriter, status int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

var index = template.Must(template.New("index").Parse(`<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>fwdproxy admin</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:50em;margin:8vh auto;padding:0 1.2em;color:#1c2530;background:#fff}
dt{font-family:ui-monospace,monospace}dd{margin:0 0 .6em 1.5em;color:#55606e}
@media (prefers-color-scheme:dark){body{color:#e3e7ec;background:#14181d}a{color:#8ab4f8}dd{color:#9aa5b1}}
</style></head>
<body>
<h1>fwdproxy admin</h1>
<dl>
{{range .}}<dt>{{.Method}} {{if eq .Method "GET"}}<a href="{{.Path}}">{{.Path}}</a>{{else}}{{.Path}}{{end}}</dt><dd>{{.What}}</dd>
{{end}}</dl>
</body>
</html>
`))
