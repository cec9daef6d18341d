package forward

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"fwdproxy/accesslog"
	"fwdproxy/acl"
	"fwdproxy/tunnel"
)

// begin opens a tunnel to the authority and begins TLS in it with the name, or
// sends what is not TLS; it returns what the client sees.
func begin(t *testing.T, s *stand, authority, sni, plain string) error {
	t.Helper()
	c := s.dial(t)
	send(t, c, "CONNECT "+authority+" HTTP/1.1\r\nHost: "+authority+"\r\n\r\n"+plain)
	r := bufio.NewReader(c)
	if head := readHead(t, r); status(head) != "200" {
		t.Fatalf("the tunnel is refused:\n%s", head)
	}
	if plain != "" {
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got := rest(t, r); got != strings.ToUpper(plain) {
			return fmt.Errorf("came: %q", got)
		}
		return nil
	}
	return tls.Client(c, &tls.Config{ServerName: sni, InsecureSkipVerify: true}).Handshake()
}

func TestTheServerNameInTLSIsHeldAgainstThePolicy_RFC6066_3(t *testing.T) {
	rules := []acl.RuleConfig{
		{Name: "not that name", To: []string{"bad.test"}, Action: "deny"},
		{Name: "all", Action: "allow"},
	}
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, tt := range []struct {
		name, authority, sni, plain string
		change                      func(*tunnel.Config)
		rule                        string // that refuses; "" for none
	}{
		{"the host of the CONNECT", "a.test:443", "a.test", "", nil, ""},
		{"in another spelling", "A.test:443", "a.TEST", "", nil, ""},
		{"another host", "a.test:443", "b.test", "", nil, "forward.tunnel.other_sni"},
		{"another host, where that is allowed", "a.test:443", "b.test", "", func(c *tunnel.Config) { c.OtherSNI = "allow" }, ""},
		{"another host that a rule denies", "a.test:443", "bad.test", "", func(c *tunnel.Config) { c.OtherSNI = "allow" }, "not that name"},
		{"an address that becomes a name", "203.0.113.9:443", "a.test", "", nil, ""},
		{"an address that becomes a name that a rule denies", "203.0.113.9:443", "bad.test", "", nil, "not that name"},
		{"an address without a name", "203.0.113.9:443", "", "", nil, ""},
		{"no name", "a.test:443", "", "", nil, "forward.tunnel.no_sni"},
		{"no name, where that is allowed", "a.test:443", "", "", func(c *tunnel.Config) { c.NoSNI = "allow" }, ""},
		{"no TLS", "a.test:443", "", "ssh\n", nil, "forward.tunnel.not_tls"},
		{"no TLS on another port", "a.test:8443", "", "ssh\n", nil, ""},
		{"another host on another port", "a.test:8443", "b.test", "", nil, ""},
	} {
		behind := server(t, upper)
		if tt.plain == "" {
			behind = secure.Listener.Addr().String()
		}
		s := newStand(t, never(t), behind, rules...)
		s.settings.Door.Tunnel = tunnel.DefaultConfig()
		s.settings.Door.Tunnel.Ports[0].Last = 8443
		if tt.change != nil {
			tt.change(&s.settings.Door.Tunnel)
		}
		err := begin(t, s, tt.authority, tt.sni, tt.plain)
		if (err == nil) != (tt.rule == "") {
			t.Errorf("%s: the client sees %v", tt.name, err)
		}
		if err != nil && tt.plain == "" && !strings.Contains(err.Error(), "access denied") {
			t.Errorf("%s: the client is not told: %v", tt.name, err)
		}
		if tt.rule == "" {
			continue
		}
		rec := s.record(t)
		if rec.Tag != accesslog.TagDenied || rec.Rule != tt.rule || rec.SNI != tt.sni || rec.Status != 200 {
			t.Errorf("%s: logged %+v", tt.name, rec)
		}
	}
}
