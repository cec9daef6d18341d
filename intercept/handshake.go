package intercept

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// Rejection is a handshake that ended because the client does not take the
// certificate.
type Rejection struct {
	Reason string // in the words of TLS
}

func (r *Rejection) Error() string {
	return "the client rejected the proxy's certificate: " + r.Reason
}

// ErrAuthority means that no certificate could be made for the host.
var ErrAuthority = errors.New("no certificate can be made")

// Handshake answers the client's TLS for the host, a canonical name or
// address, until ctx is done. The error is a *Rejection where the client said
// so, or closed behind the certificate without a word.
func (a *Authority) Handshake(ctx context.Context, client net.Conn, host string, now time.Time) (*tls.Conn, error) {
	cert, err := a.mint(host, now)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAuthority, err)
	}
	shown := false
	last := &lastWords{Conn: client}
	conn := tls.Server(last, &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			shown = true
			return cert, nil
		},
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		// A session taken up again would leave the certificate out, and with it what
		// the client thinks of it.
		SessionTicketsDisabled: true,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		reason := rejected(err)
		if reason == "" {
			reason = last.alert()
		}
		if shown && reason != "" {
			return nil, &Rejection{Reason: reason}
		}
		return nil, err
	}
	last.over = true
	return conn, nil
}

// The alerts that a client sends over a certificate (RFC 8446, Section 6.2).
var certificateAlerts = map[tls.AlertError]string{
	42: "bad_certificate", 43: "unsupported_certificate", 44: "certificate_revoked",
	45: "certificate_expired", 46: "certificate_unknown", 48: "unknown_ca",
}

// rejected returns why a client ended the handshake, where that can be about
// the certificate.
func rejected(err error) string {
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "remote error":
		// crypto/tls has a type of its own for an alert that came, with the same text.
		for alert, name := range certificateAlerts {
			if op.Err.Error() == alert.Error() {
				return name
			}
		}
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "closed"
	}
	return ""
}

// lastWords keeps the end of what a client sends during the handshake. OpenSSL
// sends its alert over a certificate unencrypted in TLS 1.3, which crypto/tls
// takes for a broken record.
type lastWords struct {
	net.Conn
	over bool // the handshake is; set before another goroutine reads
	tail [7]byte
}

func (l *lastWords) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if !l.over && n > 0 {
		all := append(l.tail[:], p[:n]...)
		copy(l.tail[:], all[len(all)-len(l.tail):])
	}
	return n, err
}

// alert returns the fatal alert over a certificate that the client ended with,
// in a record of its own (RFC 8446, Section 5.1 and 6), "" for none.
func (l *lastWords) alert() string {
	if t := l.tail; t[0] == 0x15 && t[1] == 0x03 && t[3] == 0 && t[4] == 2 && t[5] == 2 {
		return certificateAlerts[tls.AlertError(t[6])]
	}
	return ""
}
