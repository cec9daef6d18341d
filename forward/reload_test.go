package forward

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"fwdproxy/accesslog"
	"fwdproxy/acl"
	"fwdproxy/internal/edge"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/target"
	"fwdproxy/tunnel"
)

// under returns the stand's door with other rules.
func (s *stand) under(t *testing.T, list ...acl.RuleConfig) *edge.Door {
	t.Helper()
	engine, problems := acl.Compile(acl.Config{Default: "deny", PrivateDestinations: "deny", Rules: list}, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	d := *s.settings.Door
	d.ACL = engine
	return &d
}

// passes reports whether a word still comes back through the tunnel.
func passes(c net.Conn, r *bufio.Reader) bool {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("word\n")); err != nil {
		return false
	}
	line, err := r.ReadString('\n')
	return err == nil && line == "WORD\n"
}

func upperLines(c net.Conn, r *bufio.Reader) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if _, err := c.Write([]byte(strings.ToUpper(line))); err != nil {
			return
		}
	}
}

func TestAReloadDecidesAgainAboutOpenTunnels(t *testing.T) {
	all := acl.RuleConfig{Name: "all", Action: "allow"}
	deny := func(r acl.RuleConfig) []acl.RuleConfig {
		r.Name, r.Action = "new", "deny"
		return []acl.RuleConfig{r, all}
	}
	for _, tt := range []struct {
		name   string
		rules  []acl.RuleConfig
		change func(*edge.Door)
		rule   string // that cuts it; "" where it goes on
		kept   bool   // though the rule denies it
	}{
		{"still allowed", []acl.RuleConfig{{Name: "renamed", Action: "allow"}}, nil, "", false},
		{"another host denied", deny(acl.RuleConfig{To: []string{"b.test"}}), nil, "", false},
		{"its host denied", deny(acl.RuleConfig{To: []string{".a.test"}}), nil, "new", false},
		{"its client denied", deny(acl.RuleConfig{From: []string{"127.0.0.0/8"}}), nil, "new", false},
		{"its address denied", deny(acl.RuleConfig{To: []string{"203.0.113.1"}}), nil, "new", false},
		{"another address denied", deny(acl.RuleConfig{To: []string{"203.0.113.2"}}), nil, "", false},
		{"its method denied", deny(acl.RuleConfig{Methods: []string{"CONNECT"}}), nil, "new", false},
		{"all but its host denied", deny(acl.RuleConfig{NotTo: []string{"a.test"}}), nil, "", false},
		{"no rule allows it", []acl.RuleConfig{{Name: "b", To: []string{"b.test"}, Action: "allow"}}, nil, "default", false},
		{"its port closed", []acl.RuleConfig{all}, func(d *edge.Door) { d.Tunnel.Ports = nil }, "forward.tunnel.ports", false},
		{"its server name to be looked at, which passed", []acl.RuleConfig{all}, func(d *edge.Door) { d.Tunnel.Peek = d.Tunnel.Ports }, "forward.tunnel.peek", false},
		{"denied, and kept", deny(acl.RuleConfig{To: []string{"a.test"}}), func(d *edge.Door) { d.Tunnel.OnReload = "keep" }, "new", true},
		{"within the time of a rule that denies", deny(acl.RuleConfig{When: "Sat,Sun UTC"}), func(d *edge.Door) {
			d.Now = func() time.Time { return time.Date(2026, 1, 3, 12, 0, 0, 0, time.UTC) }
		}, "new", false},
		{"outside of it", deny(acl.RuleConfig{When: "Sat,Sun UTC"}), func(d *edge.Door) {
			d.Now = func() time.Time { return time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC) }
		}, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStand(t, never(t), server(t, upperLines))
			c := s.dial(t)
			send(t, c, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
			r := bufio.NewReader(c)
			if head := readHead(t, r); status(head) != "200" || !passes(c, r) {
				t.Fatalf("no tunnel:\n%s", head)
			}
			next := s.under(t, tt.rules...)
			if tt.change != nil {
				tt.change(next)
			}
			open, denied := s.settings.Door.Tunnels.Redecide(next)
			if open != 1 || (denied == 1) != (tt.rule != "") {
				t.Errorf("%d of %d denied", denied, open)
			}
			cut := tt.rule != "" && !tt.kept
			if cut { // by another goroutine, behind a word or two
				for passes(c, r) {
				}
			} else if !passes(c, r) {
				t.Fatal("it is cut")
			}
			if n := s.settings.Door.Tunnels.Cut(); (n == 1) != cut {
				t.Errorf("%d counted as cut", n)
			}
			c.Close()
			rec := s.record(t)
			if rec.Tag != accesslog.TagTunnel || rec.BytesIn < 5 || rec.BytesOut < 5 {
				t.Errorf("logged %+v", rec)
			}
			if wasCut := rec.Error == string(fault.RequestDenied) && rec.Verdict == "deny" && rec.Rule == tt.rule && strings.Contains(rec.ErrorCause, "reload"); wasCut != cut {
				t.Errorf("logged %+v", rec)
			}
		})
	}
}

func TestATunnelThatOpensWhileThePolicyChangesIsDecidedByTheNewOne(t *testing.T) {
	for host, ok := range map[string]bool{"a.test:443": false, "b.test:443": true} {
		s := newStand(t, never(t), server(t, upperLines))
		next := s.under(t, acl.RuleConfig{Name: "b alone", To: []string{"b.test"}, Action: "allow"})
		dial := s.settings.Dial
		s.settings.Dial = func(ctx context.Context, to target.Target) (net.Conn, []byte, error) {
			if open, _ := next.Tunnels.Redecide(next); open != 0 {
				t.Errorf("%d tunnels are open before one is dialled", open)
			}
			return dial(ctx, to)
		}
		c := s.dial(t)
		send(t, c, "CONNECT "+host+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		r := bufio.NewReader(c)
		if head := readHead(t, r); status(head) != "200" {
			t.Fatalf("no tunnel:\n%s", head)
		}
		if got := passes(c, r); got != ok {
			t.Errorf("%s: bytes pass: %v", host, got)
		}
		c.Close()
		if rec := s.record(t); !ok && (rec.Rule != "default" || rec.Verdict != "deny" || rec.BytesOut != 0) {
			t.Errorf("%s: logged %+v", host, rec)
		}
	}
}

// What the client said to begin TLS is remembered, and held against rules that
// come later.
func TestAReloadHoldsTheServerNameAgainstTheNewRules(t *testing.T) {
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, tt := range []struct {
		authority, sni, denied string
		cut                    bool
	}{
		{"203.0.113.9:443", "a.test", "a.test", true},
		{"203.0.113.9:443", "a.test", "b.test", false},
	} {
		s := newStand(t, never(t), secure.Listener.Addr().String())
		s.settings.Door.Tunnel = tunnel.DefaultConfig()
		c := s.dial(t)
		send(t, c, "CONNECT "+tt.authority+" HTTP/1.1\r\nHost: x\r\n\r\n")
		readHead(t, bufio.NewReader(c))
		inside := tls.Client(c, &tls.Config{ServerName: tt.sni, InsecureSkipVerify: true})
		if err := inside.Handshake(); err != nil {
			t.Fatal(err)
		}
		_, denied := s.settings.Door.Tunnels.Redecide(s.under(t, acl.RuleConfig{Name: "no", To: []string{tt.denied}, Action: "deny"}, acl.RuleConfig{Action: "allow"}))
		if (denied == 1) != tt.cut {
			t.Errorf("%+v: %d denied", tt, denied)
		}
		c.Close()
		if rec := s.record(t); (rec.Rule == "no") != tt.cut {
			t.Errorf("%+v: logged %+v", tt, rec)
		}
	}
}
