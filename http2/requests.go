package http2

import (
	"crypto/rand"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"fwdproxy/internal/edge"
	"fwdproxy/internal/fault"
)

// requests hands the requests of one connection to the front door, in the form
// that HTTP/1.1 would have given them.
type requests struct {
	s     *Server
	conn  *watch
	count atomic.Int64
}

func (h *requests) ServeHTTP(w http.ResponseWriter, in *http.Request) {
	l := h.s.Limits()
	rw := &responseWriter{ResponseWriter: w, in: in, conn: h.conn}
	rw.last = l.RequestsPerConnection > 0 && h.count.Add(1) >= int64(l.RequestsPerConnection)
	defer rw.finish()

	r := in.WithContext(in.Context())
	scheme := "http"
	if in.TLS != nil {
		scheme = "https"
	}
	r.TLS = h.conn.tls
	protocol := ""
	if p := r.Header[protocolField]; p != nil {
		protocol = p[0]
		delete(r.Header, protocolField)
	}
	err := check(r, l, scheme, protocol)
	if err == nil && !h.s.Absolute && scheme == "http" {
		err = errScheme
	}
	switch {
	case err != nil:
		r = r.WithContext(edge.WithRefusal(r.Context(), err))
	case r.Method == http.MethodConnect && protocol != "":
		h.webSocket(r, rw)
	}
	switch {
	case r.Method == http.MethodConnect || protocol != "":
		r.Body, r.ContentLength = http.NoBody, 0
	case r.ContentLength != 0:
		r.Body = &pacedBody{ReadCloser: r.Body, limits: l}
	}
	if h.s.Absolute && r.Method != http.MethodConnect {
		absolute(r, scheme)
	}
	h.s.Handler.ServeHTTP(rw, r)
}

// protocolField is where net/http keeps :protocol (RFC 8441, Section 4). No
// field of that name can come from a client.
const protocolField = ":protocol"

// webSocket makes an extended CONNECT what it would be by HTTP/1.1 (RFC 8441,
// Section 5).
func (h *requests) webSocket(r *http.Request, w *responseWriter) {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails (crypto/rand)
	w.key = base64.StdEncoding.EncodeToString(nonce[:])
	r.Method = http.MethodGet
	r.Header["Connection"] = []string{"Upgrade"}
	r.Header["Upgrade"] = []string{"websocket"}
	r.Header["Sec-Websocket-Key"] = []string{w.key}
}

// absolute gives the request the target's absolute-form.
func absolute(r *http.Request, scheme string) {
	u := *r.URL
	u.Scheme, u.Host = scheme, r.Host
	path := r.RequestURI
	if path == "*" {
		u.Path, path = "", "" // RFC 9112, Section 3.2.4
	}
	r.URL, r.RequestURI = &u, scheme+"://"+r.Host+path
}

// pacedBody is a request's body that must not come too slowly.
type pacedBody struct {
	io.ReadCloser
	limits *edge.Limits
	rate   edge.Rate
}

func (b *pacedBody) Read(p []byte) (int, error) {
	begun := time.Now()
	n, err := b.ReadCloser.Read(p)
	if err == nil && b.rate.Slow(n, time.Since(begun), int64(b.limits.BodyRate), b.limits.BodyRateWindow.D()) {
		return 0, edge.ErrBodyRate
	}
	return n, err
}

func isWebSocket(protocol string) bool { return strings.EqualFold(protocol, "websocket") }

func refusal(status int, details string) *fault.Error {
	return &fault.Error{Kind: fault.RequestError, Status: status, Details: details}
}
