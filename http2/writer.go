package http2

import (
	"crypto/sha1"
	"encoding/base64"
	"maps"
	"net"
	"net/http"

	"fwdproxy/internal/fault"
)

// responseWriter is one stream's.
type responseWriter struct {
	http.ResponseWriter
	in     *http.Request // as net/http gave it
	conn   *watch
	last   bool   // no other request may follow on the connection
	key    string // of a WebSocket's handshake; "" for others
	wrote  bool   // the final head
	tunnel *stream
}

// Unwrap is for http.ResponseController.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader sends no field that is about the connection (RFC 9113, Section
// 8.2.2). net/http takes "Connection: close" for the end of all streams, which
// one of them does not decide.
func (w *responseWriter) WriteHeader(status int) {
	if status >= 200 && !w.wrote {
		w.wrote = true
		h := w.Header()
		for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade"} {
			delete(h, name)
		}
		if w.last {
			h["Connection"] = []string{"close"}
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) Write(p []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// OpenTunnel answers a CONNECT, or a WebSocket's handshake, with success and
// returns the stream as a connection (RFC 9113, Section 8.5, and RFC 8441). h
// is what the server answered to the handshake.
func (w *responseWriter) OpenTunnel(h http.Header) (net.Conn, error) {
	if w.key != "" {
		if h.Get("Sec-Websocket-Accept") != accept(w.key) {
			return nil, fault.New(fault.UpgradeFailed, "the server's answer is not for this WebSocket (RFC 6455, Section 4.1)", nil)
		}
		maps.Copy(w.Header(), h)
		w.Header().Del("Sec-Websocket-Accept")
	}
	w.WriteHeader(http.StatusOK)
	w.tunnel = newStream(w.ResponseWriter, w.in.Body, w.conn)
	_ = w.tunnel.control.Flush() // who is gone will be seen at the first byte
	return w.tunnel, nil
}

// finish ends what still uses the stream; net/http has it for itself then.
func (w *responseWriter) finish() {
	if w.tunnel != nil {
		w.tunnel.finish()
	}
}

// accept is the proof that a server read the key (RFC 6455, Section 4.2.2).
func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
