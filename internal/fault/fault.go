// Package fault holds the typed errors that stages return, and the one
// rendering of them that the front doors send: status, Proxy-Status (RFC 9209)
// and a short page.
//
// Stages only build and wrap errors here; only a front door renders one.
package fault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

// Kind is a proxy error type of RFC 9209, Section 2.3.
type Kind string

// The registered types that this proxy uses (RFC 9209, Section 2.3).
const (
	DNSTimeout              Kind = "dns_timeout"
	DNSError                Kind = "dns_error"
	DestinationNotFound     Kind = "destination_not_found"
	DestinationUnavailable  Kind = "destination_unavailable"
	DestinationIPProhibited Kind = "destination_ip_prohibited"
	DestinationIPUnroutable Kind = "destination_ip_unroutable"
	ConnectionRefused       Kind = "connection_refused"
	ConnectionTerminated    Kind = "connection_terminated"
	ConnectionTimeout       Kind = "connection_timeout"
	ConnectionReadTimeout   Kind = "connection_read_timeout"
	ConnectionWriteTimeout  Kind = "connection_write_timeout"
	ConnectionLimitReached  Kind = "connection_limit_reached"
	TLSProtocolError        Kind = "tls_protocol_error"
	TLSCertificateError     Kind = "tls_certificate_error"
	TLSAlertReceived        Kind = "tls_alert_received"
	RequestError            Kind = "http_request_error"
	RequestDenied           Kind = "http_request_denied"
	ResponseIncomplete      Kind = "http_response_incomplete"
	ResponseHeaderSize      Kind = "http_response_header_section_size"
	ResponseBodySize        Kind = "http_response_body_size"
	ResponseTimeout         Kind = "http_response_timeout"
	UpgradeFailed           Kind = "http_upgrade_failed"
	ProtocolError           Kind = "http_protocol_error"
	InternalResponse        Kind = "proxy_internal_response"
	InternalError           Kind = "proxy_internal_error"
	ConfigurationError      Kind = "proxy_configuration_error"
	LoopDetected            Kind = "proxy_loop_detected"
)

// status holds the recommended status of each kind (RFC 9209, Section 2.3),
// save that a loop is 508 (RFC 5842, Section 7.2) rather than 502, and that a
// prohibited address is a refusal of ours, 403.
var status = map[Kind]int{
	DNSTimeout:              http.StatusGatewayTimeout,
	DNSError:                http.StatusBadGateway,
	DestinationNotFound:     http.StatusNotFound,
	DestinationUnavailable:  http.StatusServiceUnavailable,
	DestinationIPProhibited: http.StatusForbidden,
	DestinationIPUnroutable: http.StatusBadGateway,
	ConnectionRefused:       http.StatusBadGateway,
	ConnectionTerminated:    http.StatusBadGateway,
	ConnectionTimeout:       http.StatusGatewayTimeout,
	ConnectionReadTimeout:   http.StatusGatewayTimeout,
	ConnectionWriteTimeout:  http.StatusGatewayTimeout,
	ConnectionLimitReached:  http.StatusServiceUnavailable,
	TLSProtocolError:        http.StatusBadGateway,
	TLSCertificateError:     http.StatusBadGateway,
	TLSAlertReceived:        http.StatusBadGateway,
	RequestError:            http.StatusBadRequest,
	RequestDenied:           http.StatusForbidden,
	ResponseIncomplete:      http.StatusBadGateway,
	ResponseHeaderSize:      http.StatusBadGateway,
	ResponseBodySize:        http.StatusBadGateway,
	ResponseTimeout:         http.StatusGatewayTimeout,
	UpgradeFailed:           http.StatusBadGateway,
	ProtocolError:           http.StatusBadGateway,
	InternalResponse:        http.StatusGatewayTimeout,
	InternalError:           http.StatusInternalServerError,
	ConfigurationError:      http.StatusInternalServerError,
	LoopDetected:            http.StatusLoopDetected,
}

// Error is a failure or refusal of one request.
type Error struct {
	Kind     Kind
	Status   int    // 0: the kind's own
	Rule     string // the policy rule that refused, when one did
	Location string // where a client is sent instead, an absolute URL; "" for nowhere
	Details  string // one sentence for the client; no internal addresses, no secrets

	Challenge  []string      // values of Proxy-Authenticate (RFC 9110, Section 11.7.1), with 407 alone
	RetryAfter time.Duration // when to try again (RFC 9110, Section 10.2.3), 0 for nothing; told in whole seconds

	Err error // the cause, for the log alone
}

// New returns an Error whose cause is for the log and whose details are for
// the client.
func New(kind Kind, details string, cause error) *Error {
	return &Error{Kind: kind, Details: details, Err: cause}
}

func (e *Error) Error() string {
	s := string(e.Kind)
	if e.Details != "" {
		s += ": " + e.Details
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// HTTPStatus returns the status code that the error is rendered with.
func (e *Error) HTTPStatus() int {
	if e.Status != 0 {
		return e.Status
	}
	if s, ok := status[e.Kind]; ok {
		return s
	}
	return http.StatusBadGateway
}

// From returns the Error that err is or wraps; any other error of talking to
// the next hop is given the kind that fits, InternalError when none does.
func From(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return New(classify(err))
}

func classify(err error) (Kind, string, error) {
	var (
		dns   *net.DNSError
		cert  *tls.CertificateVerificationError
		host  x509.HostnameError
		ca    x509.UnknownAuthorityError
		alert tls.AlertError
		rec   tls.RecordHeaderError
		op    *net.OpError
	)
	switch {
	case errors.As(err, &dns) && dns.IsTimeout:
		return DNSTimeout, "the name server did not answer in time", err
	case errors.As(err, &dns):
		return DNSError, "the host name could not be resolved", err
	case errors.As(err, &cert), errors.As(err, &host), errors.As(err, &ca):
		return TLSCertificateError, whyUnverified(err), err
	case errors.As(err, &alert):
		return TLSAlertReceived, "the next hop refused the TLS handshake", err
	case errors.As(err, &rec):
		return TLSProtocolError, "the next hop does not speak TLS", err
	case errors.Is(err, syscall.ECONNREFUSED):
		return ConnectionRefused, "the next hop refused the connection", err
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return DestinationIPUnroutable, "there is no route to the next hop", err
	case errors.As(err, &op) && op.Op == "dial" && op.Timeout():
		return ConnectionTimeout, "the connection to the next hop timed out", err
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return ConnectionReadTimeout, "the next hop did not answer in time", err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return ConnectionTerminated, "the next hop closed the connection before it answered", err
	}
	return InternalError, "the proxy could not handle the request", err
}

// whyUnverified says what is wrong with a certificate, without its own words.
func whyUnverified(err error) string {
	var (
		host    x509.HostnameError
		ca      x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &host):
		return "the next hop's certificate could not be verified: it is for another host"
	case errors.As(err, &ca):
		return "the next hop's certificate could not be verified: it is not signed by an authority that the proxy trusts"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the next hop's certificate could not be verified: it has expired, or is not valid yet"
	}
	return "the next hop's certificate could not be verified"
}
