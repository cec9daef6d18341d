package fault

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestEachFailureOfANextHopHasItsKindAndStatus_RFC9209_2_3(t *testing.T) {
	timeout := &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	for _, tt := range []struct {
		err    error
		kind   Kind
		status int
	}{
		{&net.DNSError{IsNotFound: true}, DNSError, 502},
		{&net.DNSError{IsTimeout: true}, DNSTimeout, 504},
		{timeout, ConnectionTimeout, 504},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, ConnectionRefused, 502},
		{syscall.ENETUNREACH, DestinationIPUnroutable, 502},
		{x509.HostnameError{Host: "a"}, TLSCertificateError, 502},
		{io.ErrUnexpectedEOF, ConnectionTerminated, 502},
		{fmt.Errorf("x: %w", syscall.ECONNRESET), ConnectionTerminated, 502},
		{context.DeadlineExceeded, ConnectionReadTimeout, 504},
		{errors.New("bug"), InternalError, 500},
		{fmt.Errorf("wrapped: %w", New(LoopDetected, "", nil)), LoopDetected, 508},
		{&Error{Kind: RequestError, Status: 413}, RequestError, 413},
	} {
		f := From(tt.err)
		if f.Kind != tt.kind || f.HTTPStatus() != tt.status {
			t.Errorf("%v: %s %d, want %s %d", tt.err, f.Kind, f.HTTPStatus(), tt.kind, tt.status)
		}
	}
}

func TestThePageNamesRuleAndRequestAndEscapesThem(t *testing.T) {
	e := &Error{Kind: RequestDenied, Rule: `no <b>"social"</b>`, Details: "the policy does not allow it\x1b[31m", Err: errors.New("secret 10.0.0.1")}
	html := Render(e, "fwdproxy", []string{"application/xhtml+xml, text/html;q=0.9"}, "abc123")
	text := Render(e, "fwdproxy", []string{"*/*"}, "abc123")
	if html.Header.Get("Content-Type") != "text/html; charset=utf-8" || text.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("types %q, %q", html.Header.Get("Content-Type"), text.Header.Get("Content-Type"))
	}
	for _, p := range []Page{html, text} {
		body := string(p.Body)
		if p.Status != http.StatusForbidden || !strings.Contains(body, "abc123") || !strings.Contains(body, "social") {
			t.Errorf("status %d, body:\n%s", p.Status, body)
		}
		if strings.Contains(body, "10.0.0.1") || strings.Contains(body, "\x1b") {
			t.Errorf("the page leaks or passes control characters:\n%q", body)
		}
	}
	if strings.Contains(string(html.Body), "<b>") {
		t.Error("markup in a rule's name is not escaped")
	}
	if got, want := html.Header.Get("Proxy-Status"), `fwdproxy; error=http_request_denied; details="rule no <b>\"social\"</b>"`; got != want {
		t.Errorf("Proxy-Status %s, want %s", got, want)
	}
}

func TestHTMLOnlyForThoseWhoAskForIt_RFC9110_12_5_1(t *testing.T) {
	for accept, want := range map[string]bool{
		"":                                   false,
		"*/*":                                false,
		"text/html":                          true,
		"text/html,application/xml;q=0.9":    true,
		"application/json, TEXT/HTML; q=0.5": true,
		"text/html;q=0, */*":                 false,
	} {
		if got := prefersHTML([]string{accept}); got != want {
			t.Errorf("%q: %v", accept, got)
		}
	}
}

func TestProxyStatusDetailsAreAnSFString_RFC9651_3_3_3(t *testing.T) {
	if got, want := sfString("a\"b\\c\r\né"), `"a\"b\\c???"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestAChallengeAndTheTimeToWaitAreFields_RFC9110_11_7_1_And_10_2_3(t *testing.T) {
	e := &Error{Kind: RequestDenied, Status: 407, Challenge: []string{`Basic realm="a"`, `Bearer realm="a"`}, RetryAfter: 1001 * time.Millisecond}
	page := Render(e, "fwdproxy", nil, "id")
	if got := strings.Join(page.Header["Proxy-Authenticate"], ", "); got != `Basic realm="a", Bearer realm="a"` {
		t.Error(got)
	}
	if got := page.Header.Get("Retry-After"); got != "2" {
		t.Errorf("Retry-After %s: who tries that soon is too early", got)
	}
	page.Header["Proxy-Authenticate"][0] = "changed"
	if e.Challenge[0] == "changed" {
		t.Error("whoever writes the page can change the challenge of others")
	}
	plain := Render(&Error{Kind: RequestDenied}, "fwdproxy", nil, "id").Header
	if plain["Proxy-Authenticate"] != nil || plain["Retry-After"] != nil {
		t.Errorf("%v", plain)
	}
}
