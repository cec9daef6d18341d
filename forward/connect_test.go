package forward

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"fwdproxy/accesslog"
	"fwdproxy/acl"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/target"
	"fwdproxy/internal/unit"
	"fwdproxy/tunnel"
)

// behind is what somebody hopes to have run after a CONNECT that is refused.
const behind = "GET http://a.test/smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"

func TestACONNECTThatIsRefusedEndsTheConnection_RFC9110_9_3_6(t *testing.T) {
	noEvil := []acl.RuleConfig{
		{Name: "no evil", To: []string{".evil.test"}, Action: "deny"},
		{Name: "no documentation", To: []string{"192.0.2.0/24"}, Action: "deny"},
		{Name: "all", Action: "allow"},
	}
	for name, tt := range map[string]struct {
		target, fields string
		status, logged string
		says           string // in Proxy-Status; "" where net/http answers
	}{
		"no port":                      {"a.test", "", "400", "a.test", "http_request_error"},
		"an empty port":                {"a.test:", "", "400", "a.test:", "http_request_error"},
		"port 0":                       {"a.test:0", "", "400", "a.test:0", "http_request_error"},
		"port 65536":                   {"a.test:65536", "", "400", "a.test:65536", "http_request_error"},
		"port by name":                 {"a.test:https", "", "400", "", ""},
		"a path":                       {"/path", "", "400", "/path", "http_request_error"},
		"a URL":                        {"http://a.test:443", "", "400", "http://a.test:443", "http_request_error"},
		"a path behind":                {"a.test:443/x", "", "400", "a.test:443/x", "http_request_error"},
		"a query behind":               {"a.test:443?x", "", "400", "a.test:443?x", "http_request_error"},
		"userinfo":                     {"me:pw@a.test:443", "", "400", "me:pw@a.test:443", "http_request_error"},
		"no host":                      {":443", "", "400", ":443", "http_request_error"},
		"an asterisk":                  {"*", "", "400", "*", "http_request_error"},
		"an address without brackets":  {"2001:db8::1:443", "", "400", "", ""},
		"an address with a zone":       {"[2001:db8::1%25eth0]:443", "", "400", "[2001:db8::1%25eth0]:443", "http_request_error"},
		"an encoded host":              {"%61.test:443", "", "400", "", ""},
		"an address as one number":     {"3221225985:443", "", "400", "3221225985:443", "http_request_error"},
		"mail":                         {"a.test:25", "", "403", "a.test:25", "forward.tunnel.ports"},
		"shell":                        {"a.test:22", "", "403", "a.test:22", "forward.tunnel.ports"},
		"plain web":                    {"a.test:80", "", "403", "a.test:80", "forward.tunnel.ports"},
		"a database":                   {"a.test:3306", "", "403", "a.test:3306", "forward.tunnel.ports"},
		"a rule":                       {"www.EVIL.test.:443", "", "403", "www.evil.test:443", "no evil"},
		"a rule, on a port not for it": {"www.evil.test:25", "", "403", "www.evil.test:25", "no evil"},
		"a rule about addresses":       {"192.0.2.1:443", "", "403", "192.0.2.1:443", "no documentation"},
		"a mapped address":             {"[::ffff:192.0.2.1]:443", "", "403", "192.0.2.1:443", "no documentation"},
		"Host does not count":          {"www.evil.test:443", "Host: a.test:443\r\n", "403", "www.evil.test:443", "no evil"},
		"a loop":                       {"a.test:443", "Via: 1.1 fwdproxy\r\n", "508", "a.test:443", "proxy_loop_detected"},
		"with a length":                {"a.test:443", "Content-Length: 1000\r\n", "400", "a.test:443", "http_request_error"},
		"with chunks":                  {"a.test:443", "Transfer-Encoding: chunked\r\n", "400", "a.test:443", "http_request_error"},
		"with a length and 100":        {"a.test:443", "Content-Length: 1000\r\nExpect: 100-continue\r\n", "400", "a.test:443", "http_request_error"},
		"no connection":                {"a.test:443", "", "502", "a.test:443", "connection_refused"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t, never(t), "", noEvil...)
			host := "Host: a.test\r\n"
			if strings.HasPrefix(tt.fields, "Host:") {
				host = ""
			}
			reply := s.talk(t, "CONNECT "+tt.target+" HTTP/1.1\r\n"+host+tt.fields+"\r\n"+behind)
			if status(reply) != tt.status || strings.Count(reply, "HTTP/1.1 ") != 1 || field(reply, "Connection") != "close" ||
				!strings.Contains(field(reply, "Proxy-Status"), tt.says) {
				t.Errorf("the reply:\n%s", reply)
			}
			if tt.logged != "" {
				if r := s.record(t); r.URL != tt.logged || r.Method != "CONNECT" || fmt.Sprint(r.Status) != tt.status {
					t.Errorf("logged: %+v", r)
				}
			}
			if (s.dialled.Load() > 0) != (name == "no connection") {
				t.Errorf("dialled %d times", s.dialled.Load())
			}
			select {
			case r := <-s.records:
				t.Errorf("a second record: %+v", r)
			default:
			}
			if n := s.settings.Door.Tunnels.Open(); n != 0 {
				t.Errorf("%d tunnels are counted", n)
			}
		})
	}
}

func TestAFailureToConnectHasItsStatus_RFC9209_2_3(t *testing.T) {
	for name, tt := range map[string]struct {
		err    error
		status string
		says   string
	}{
		"refused":      {&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "502", "connection_refused"},
		"no such name": {&net.DNSError{IsNotFound: true, Name: "a.test"}, "502", "dns_error"},
		"name server":  {&net.DNSError{IsTimeout: true, Name: "a.test"}, "504", "dns_timeout"},
		"no answer":    {&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, "504", "connection_timeout"},
		"no route":     {syscall.ENETUNREACH, "502", "destination_ip_unroutable"},
		"not allowed":  {fault.New(fault.DestinationIPProhibited, "", nil), "403", "destination_ip_prohibited"},
	} {
		s := newStand(t, never(t), "")
		s.settings.Dial = func(context.Context, target.Target) (net.Conn, []byte, error) { return nil, nil, tt.err }
		reply := s.talk(t, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
		if status(reply) != tt.status || !strings.Contains(field(reply, "Proxy-Status"), "error="+tt.says) {
			t.Errorf("%s:\n%s", name, reply)
		}
		if strings.Contains(reply, "dial") || strings.Contains(reply, "connect:") {
			t.Errorf("%s: the client is told how the proxy was built:\n%s", name, reply)
		}
		if r := s.record(t); r.Error != tt.says {
			t.Errorf("%s: logged %+v", name, r)
		}
	}
}

// upper answers with what it gets in upper case, and half-closes behind it.
func upper(c net.Conn, r *bufio.Reader) {
	b, _ := io.ReadAll(r)
	io.WriteString(c, strings.ToUpper(string(b)))
}

func TestATunnelCarriesEveryByteFromTheFirst_RFC9110_9_3_6(t *testing.T) {
	for name, tt := range map[string]struct {
		head string
		half bool // the client half-closes right behind its first bytes
	}{
		"bytes in the head's segment":                {"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\nhello ", false},
		"a half-close in the head's segment":         {"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\nhello again", true},
		"Content-Length: 0":                          {"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nContent-Length: 0\r\n\r\nhello ", false},
		"HTTP/1.0":                                   {"CONNECT a.test:443 HTTP/1.0\r\n\r\nhello ", false},
		"hop-by-hop fields, which are for the proxy": {"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nProxy-Connection: close\r\nConnection: close\r\n\r\nhello ", false},
		"an address":                                 {"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\nhello ", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t, never(t), server(t, upper))
			c := s.dial(t)
			r := bufio.NewReader(c)
			send(t, c, tt.head)
			if !tt.half {
				if head := readHead(t, r); head != "HTTP/1.1 200 Connection established\r\n\r\n" {
					t.Errorf("the answer has fields, or is another:\n%s", head)
				}
				send(t, c, "again")
			}
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got := rest(t, r); !strings.HasSuffix(got, "HELLO AGAIN") {
				t.Errorf("came back: %q", got)
			}
			rec := s.record(t)
			if rec.Tag != accesslog.TagTunnel || rec.Status != 200 || rec.BytesIn != 11 || rec.BytesOut != 11 || rec.Verdict != "allow" || rec.Error != "" {
				t.Errorf("logged: %+v", rec)
			}
		})
	}
}

func TestAServerThatClosesFirstEndsTheTunnel(t *testing.T) {
	s := newStand(t, never(t), server(t, func(c net.Conn, _ *bufio.Reader) { io.WriteString(c, "bye") }))
	c := s.dial(t)
	send(t, c, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
	r := bufio.NewReader(c)
	readHead(t, r)
	if got := rest(t, r); got != "bye" {
		t.Errorf("came: %q", got)
	}
	c.Close()
	if rec := s.record(t); rec.BytesOut != 3 || rec.Status != 200 {
		t.Errorf("logged: %+v", rec)
	}
}

func TestATunnelEndsWhenItIsSilentOrOld(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*tunnel.Config)
		cause  string
	}{
		"silent": {func(c *tunnel.Config) { c.IdleTimeout = unit.Duration(50 * time.Millisecond) }, tunnel.ErrIdle.Error()},
		"old":    {func(c *tunnel.Config) { c.Lifetime = unit.Duration(100 * time.Millisecond) }, "forward.tunnel.lifetime"},
	} {
		s := newStand(t, never(t), server(t, upper))
		tt.change(&s.settings.Door.Tunnel)
		c := s.dial(t)
		send(t, c, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
		r := bufio.NewReader(c)
		readHead(t, r)
		if got := rest(t, r); got != "" {
			t.Errorf("%s: came: %q", name, got)
		}
		if rec := s.record(t); rec.Error != string(fault.ConnectionTerminated) || rec.Status != 200 || !strings.Contains(rec.ErrorCause, tt.cause) {
			t.Errorf("%s: logged: %+v", name, rec)
		}
	}
}

func TestTunnelsAboveTheLimitAreRefusedAndDrained(t *testing.T) {
	s := newStand(t, never(t), server(t, upper))
	s.settings.Door.Limits.Tunnels = 1
	first := s.dial(t)
	r := bufio.NewReader(first)
	send(t, first, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
	readHead(t, r)
	if reply := s.talk(t, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"+behind); status(reply) != "503" ||
		strings.Count(reply, "HTTP/1.1 ") != 1 || !strings.Contains(reply, "connection_limit_reached") {
		t.Errorf("the reply:\n%s", reply)
	}
	s.record(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	drained := make(chan int, 1)
	go func() { drained <- s.settings.Door.Tunnels.Drain(ctx) }()
	send(t, first, "still open")
	if err := first.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := rest(t, r); got != "STILL OPEN" {
		t.Errorf("came back: %q", got)
	}
	if n := <-drained; n != 0 {
		t.Errorf("%d tunnels were cut", n)
	}
	s.record(t)
}

func TestAPortRangeOpensTunnels(t *testing.T) {
	s := newStand(t, never(t), server(t, upper))
	s.settings.Door.Tunnel.Ports = []unit.PortRange{{First: 8443, Last: 8449}}
	for port, want := range map[string]string{"8442": "403", "8443": "200", "8449": "200", "8450": "403", "443": "403"} {
		c := s.dial(t)
		send(t, c, "CONNECT a.test:"+port+" HTTP/1.1\r\nHost: a.test\r\n\r\n")
		if head := readHead(t, bufio.NewReader(c)); status(head) != want {
			t.Errorf("port %s: %s, want %s", port, status(head), want)
		}
		c.Close()
		s.record(t)
	}
}

func TestATunnelsDialKnowsItsRequestsVerdict(t *testing.T) {
	s := newStand(t, never(t), "")
	up := client(t)
	s.settings.Door.Tunnel.Ports = []unit.PortRange{{First: 1, Last: 65535}}
	s.settings.Dial = up.Dial
	addr := server(t, upper)
	_, port, _ := net.SplitHostPort(addr)
	c := s.dial(t)
	send(t, c, "CONNECT origin.test:"+port+" HTTP/1.1\r\nHost: a.test\r\n\r\n")
	if head := readHead(t, bufio.NewReader(c)); status(head) != "200" {
		t.Errorf("the answer:\n%s", head)
	}
	c.Close()
	if rec := s.record(t); rec.NextHop != "DIRECT/127.0.0.1" || rec.URL != "origin.test:"+port {
		t.Errorf("logged: %+v", rec)
	}
	door := *s.settings.Door
	door.ACL, _ = acl.Compile(acl.Config{Default: "allow", PrivateDestinations: "allow",
		Rules: []acl.RuleConfig{{Name: "not there", To: []string{"127.0.0.0/8"}, Action: "deny"}}}, nil)
	s.settings.Door = &door
	if reply := s.talk(t, "CONNECT origin.test:"+port+" HTTP/1.1\r\nHost: a.test\r\n\r\n"); status(reply) != "403" ||
		!strings.Contains(reply, "not there") {
		t.Errorf("a name that leads to what is denied:\n%s", reply)
	}
}

func TestAHalfCloseBeforeTheConnectionIsThereDoesNotEndTheTunnel(t *testing.T) {
	closed := make(chan struct{})
	addr := server(t, upper)
	s := newStand(t, never(t), "")
	s.settings.Dial = func(ctx context.Context, _ target.Target) (net.Conn, []byte, error) {
		<-closed
		select {
		case <-ctx.Done(): // as net/http does when it reads the half-close
			return nil, nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
			c, err := net.Dial("tcp", addr)
			return c, nil, err
		}
	}
	c := s.dial(t)
	send(t, c, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	close(closed)
	if got := rest(t, c); got != "HTTP/1.1 200 Connection established\r\n\r\n" {
		t.Errorf("the answer:\n%s", got)
	}
	if rec := s.record(t); rec.Status != 200 || rec.Tag != accesslog.TagTunnel {
		t.Errorf("logged: %+v", rec)
	}
}
