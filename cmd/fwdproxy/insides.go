package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"fwdproxy/http1"
	"fwdproxy/http2"
	"fwdproxy/intercept"
	"fwdproxy/internal/edge"
)

// insides serves what comes out of intercepted tunnels: each is a connection
// to a server of its own, with the same framing and the same front door.
type insides struct {
	srv     *http.Server
	framing *http1.Server
	http2   *http2.Server // serves the tunnels whose clients chose that
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
	of      sync.Map // net.Conn -> *edge.Inside, until net/http asks
}

func newInsides(srv *http.Server, framing *http1.Server) *insides {
	i := &insides{srv: srv, framing: framing, conns: make(chan net.Conn), closed: make(chan struct{})}
	srv.ConnState = http1.ConnState
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		in, _ := i.of.LoadAndDelete(c)
		inside, ok := in.(*edge.Inside)
		if !ok {
			// Without its target no request in it may be served.
			inside = &edge.Inside{Failure: errors.New("the tunnel has no target")}
		}
		return edge.WithInside(ctx, inside)
	}
	return i
}

// run accepts until the server is shut down.
func (i *insides) run() error { return i.srv.Serve(i) }

// serve serves the connection, whose TLS has shaken hands, or hands it to the
// server.
func (i *insides) serve(c *tls.Conn, in *edge.Inside) {
	if c.ConnectionState().NegotiatedProtocol == "h2" {
		i.http2.Serve(edge.WithInside(context.Background(), in), c)
		c.Close()
		return
	}
	framed := i.framing.Wrap(c)
	i.of.Store(framed, in)
	select {
	case i.conns <- framed:
	case <-i.closed:
		i.of.Delete(framed)
		c.Close()
	}
}

// Accept, Close and Addr make it a net.Listener.
func (i *insides) Accept() (net.Conn, error) {
	select {
	case c := <-i.conns:
		return c, nil
	case <-i.closed:
		return nil, net.ErrClosed
	}
}

// Close ends accepting.
func (i *insides) Close() error {
	i.once.Do(func() { close(i.closed) })
	return nil
}

// Addr is that of no socket.
func (i *insides) Addr() net.Addr { return &net.TCPAddr{} }

// interceptMetrics shows what became of the certificates that were minted.
func interceptMetrics(rejected *intercept.Rejected) prometheus.Collector {
	return &rejections{rejected}
}

type rejections struct{ *intercept.Rejected }

var rejectedTotal = prometheus.NewDesc("fwdproxy_intercept_rejected_total",
	"Handshakes that clients ended because they do not take the proxy's certificate, by host.", []string{"host"}, nil)

func (r *rejections) Describe(out chan<- *prometheus.Desc) { out <- rejectedTotal }

func (r *rejections) Collect(out chan<- prometheus.Metric) {
	for _, h := range r.List() {
		out <- prometheus.MustNewConstMetric(rejectedTotal, prometheus.CounterValue, float64(h.Count), h.Host)
	}
}

// interception returns how the policy intercepts, nil where it does not. An
// authority that stays keeps what it has minted.
func (e *engine) interception(l, old *live) *edge.Interception {
	a := l.policy.Authority
	if a == nil {
		return nil
	}
	if old != nil && old.door.Intercept != nil && old.door.Intercept.Authority.Same(a) {
		a = old.door.Intercept.Authority
	}
	return &edge.Interception{
		Authority:    a,
		Rejected:     &e.rejected,
		PassRejected: l.policy.Config.Forward.Intercept.PassRejected.D(),
		Verify:       l.upstream.Verify,
		Serve:        e.insides.serve,
		Tell: func(host, client, reason string) {
			e.log.Warn("a client rejects the certificate for an intercepted host; if its applications pin certificates, leave the host out",
				"host", host, "client", client, "reason", reason, "suggestion", intercept.Suggestion(host))
		},
	}
}
