package forward

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"fwdproxy/accesslog"
	"fwdproxy/acl"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
)

func TestATargetIsReadOnceAndTheSameForAll_RFC9112_3_2(t *testing.T) {
	onlyAllowed := []acl.RuleConfig{
		{Name: "allowed", To: []string{"allowed.test", "xn--bcher-kva.test"}, Action: "allow"},
		{Name: "documentation", To: []string{"192.0.2.1", "2001:db8::1"}, Action: "allow"},
	}
	for name, tt := range map[string]struct {
		line, fields string // without line ends; Connection: close is added
		status       string
		seen         string // at the next hop; "" is nothing
		logged       string // URL; "" where net/http answers
	}{
		"the target wins over Host":     {"GET http://allowed.test/a?b=c HTTP/1.1", "Host: evil.test", "200", "GET http://allowed.test/a?b=c Host=allowed.test", "http://allowed.test/a?b=c"},
		"Host cannot make it allowed":   {"GET http://evil.test/ HTTP/1.1", "Host: allowed.test", "403", "", "http://evil.test/"},
		"no Host":                       {"GET http://allowed.test/ HTTP/1.1", "X: y", "400", "", ""},
		"two Hosts":                     {"GET http://allowed.test/ HTTP/1.1", "Host: allowed.test\r\nHost: allowed.test", "400", "", ""},
		"Host with a slash":             {"GET http://allowed.test/ HTTP/1.1", "Host: a/b", "400", "", ""},
		"HTTP/1.0 without Host":         {"GET http://allowed.test/ HTTP/1.0", "X: y", "200", "GET http://allowed.test/ Host=allowed.test", "http://allowed.test/"},
		"origin-form":                   {"GET / HTTP/1.1", "Host: allowed.test", "400", "", "/"},
		"origin-form, two slashes":      {"GET //allowed.test/ HTTP/1.1", "Host: allowed.test", "400", "", "//allowed.test/"},
		"authority-form":                {"GET allowed.test:80 HTTP/1.1", "Host: allowed.test", "400", "", "allowed.test:80"},
		"userinfo that looks like host": {"GET http://user:pw@allowed.test@evil.test/ HTTP/1.1", "Host: x", "400", "", ""},
		"userinfo":                      {"GET http://allowed.test@evil.test/ HTTP/1.1", "Host: x", "400", "", "http://allowed.test@evil.test/"},
		"userinfo of what is allowed":   {"GET http://me@allowed.test/ HTTP/1.1", "Host: x", "400", "", "http://me@allowed.test/"},
		"a fragment sign":               {"GET http://allowed.test#@evil.test/ HTTP/1.1", "Host: x", "400", "", ""},
		"a fragment sign in the host":   {"GET http://allowed.test#.evil.test/ HTTP/1.1", "Host: x", "400", "", ""},
		"a backslash":                   {"GET http://allowed.test\\@evil.test/ HTTP/1.1", "Host: x", "400", "", ""},
		"a backslash in the host":       {"GET http://allowed.test\\.evil.test/ HTTP/1.1", "Host: x", "400", "", ""},
		"an encoded dot":                {"GET http://allowed%2etest/ HTTP/1.1", "Host: x", "400", "", ""},
		"an encoded letter":             {"GET http://%61llowed.test/ HTTP/1.1", "Host: x", "400", "", ""},
		"an encoded NUL":                {"GET http://allowed.test%00.evil.test/ HTTP/1.1", "Host: x", "400", "", ""},
		"an encoded slash":              {"GET http://evil.test%2f.allowed.test/ HTTP/1.1", "Host: x", "400", "", ""},
		"no host":                       {"GET http:///x HTTP/1.1", "Host: allowed.test", "400", "", "http:///x"},
		"no host but a port":            {"GET http://:80/ HTTP/1.1", "Host: allowed.test", "400", "", "http://:80/"},
		"no host at all":                {"GET http:x HTTP/1.1", "Host: allowed.test", "400", "", "http:x"},
		"port 0":                        {"GET http://allowed.test:0/ HTTP/1.1", "Host: x", "400", "", "http://allowed.test:0/"},
		"port 65536":                    {"GET http://allowed.test:65536/ HTTP/1.1", "Host: x", "400", "", "http://allowed.test:65536/"},
		"port 80a":                      {"GET http://allowed.test:80a/ HTTP/1.1", "Host: x", "400", "", ""},
		"port -80":                      {"GET http://allowed.test:-80/ HTTP/1.1", "Host: x", "400", "", ""},
		"an empty port":                 {"GET http://allowed.test:/ HTTP/1.1", "Host: x", "400", "", "http://allowed.test:/"},
		"two ports":                     {"GET http://allowed.test:80:81/ HTTP/1.1", "Host: x", "400", "", ""},
		"upper case":                    {"GET HTTP://ALLOWED.test/A HTTP/1.1", "Host: x", "200", "GET http://allowed.test/A Host=allowed.test", "http://allowed.test/A"},
		"a trailing dot":                {"GET http://allowed.test./ HTTP/1.1", "Host: x", "200", "GET http://allowed.test/ Host=allowed.test", "http://allowed.test/"},
		"two trailing dots":             {"GET http://allowed.test../ HTTP/1.1", "Host: x", "400", "", "http://allowed.test../"},
		"the default port":              {"GET http://allowed.test:80 HTTP/1.1", "Host: x", "200", "GET http://allowed.test/ Host=allowed.test", "http://allowed.test/"},
		"the default port with a zero":  {"GET http://allowed.test:080/ HTTP/1.1", "Host: x", "200", "GET http://allowed.test/ Host=allowed.test", "http://allowed.test/"},
		"another port":                  {"GET http://allowed.test:443/ HTTP/1.1", "Host: x", "200", "GET http://allowed.test:443/ Host=allowed.test:443", "http://allowed.test:443/"},
		"https":                         {"GET https://allowed.test:443/ HTTP/1.1", "Host: x", "200", "GET https://allowed.test/ Host=allowed.test", "https://allowed.test/"},
		"an international name":         {"GET http://bücher.test/ HTTP/1.1", "Host: x", "200", "GET http://xn--bcher-kva.test/ Host=xn--bcher-kva.test", "http://xn--bcher-kva.test/"},
		"an encoded international name": {"GET http://b%C3%BCcher.test/ HTTP/1.1", "Host: x", "200", "GET http://xn--bcher-kva.test/ Host=xn--bcher-kva.test", "http://xn--bcher-kva.test/"},
		"punycode in upper case":        {"GET http://XN--BCHER-KVA.test/ HTTP/1.1", "Host: x", "200", "GET http://xn--bcher-kva.test/ Host=xn--bcher-kva.test", "http://xn--bcher-kva.test/"},
		"full-width letters":            {"GET http://ａllowed.test/ HTTP/1.1", "Host: x", "200", "GET http://allowed.test/ Host=allowed.test", "http://allowed.test/"},
		"an address":                    {"GET http://192.0.2.1/ HTTP/1.1", "Host: x", "200", "GET http://192.0.2.1/ Host=192.0.2.1", "http://192.0.2.1/"},
		"an address as a mapped one":    {"GET http://[::FFFF:192.0.2.1]/ HTTP/1.1", "Host: x", "200", "GET http://192.0.2.1/ Host=192.0.2.1", "http://192.0.2.1/"},
		"an address in another form":    {"GET http://[2001:DB8:0::1]:80/ HTTP/1.1", "Host: x", "200", "GET http://[2001:db8::1]/ Host=[2001:db8::1]", "http://[2001:db8::1]/"},
		"an address with a zone":        {"GET http://[2001:db8::1%25eth0]/ HTTP/1.1", "Host: x", "400", "", "http://[2001:db8::1%25eth0]/"},
		"an address without brackets":   {"GET http://2001:db8::1/ HTTP/1.1", "Host: x", "400", "", ""},
		"an address as one number":      {"GET http://3221225985/ HTTP/1.1", "Host: x", "400", "", "http://3221225985/"},
		"an address in hexadecimal":     {"GET http://0xc0.0x0.0x2.0x1/ HTTP/1.1", "Host: x", "400", "", "http://0xc0.0x0.0x2.0x1/"},
		"an address in octal":           {"GET http://0300.0.2.1/ HTTP/1.1", "Host: x", "400", "", "http://0300.0.2.1/"},
		"a short address":               {"GET http://192.513/ HTTP/1.1", "Host: x", "400", "", "http://192.513/"},
		"circled digits":                {"GET http://①92.0.2.1/ HTTP/1.1", "Host: x", "200", "GET http://192.0.2.1/ Host=192.0.2.1", "http://192.0.2.1/"},
		"ftp":                           {"GET ftp://allowed.test/ HTTP/1.1", "Host: x", "400", "", "ftp://allowed.test/"},
		"gopher":                        {"GET gopher://allowed.test/ HTTP/1.1", "Host: x", "400", "", "gopher://allowed.test/"},
		"urn":                           {"GET urn:x:y HTTP/1.1", "Host: x", "400", "", "urn:x:y"},
		"file":                          {"GET file:///etc/passwd HTTP/1.1", "Host: x", "400", "", "file:///etc/passwd"},
		"ws":                            {"GET ws://allowed.test/ HTTP/1.1", "Host: x", "400", "", "ws://allowed.test/"},
		"ws, with a handshake":          {"GET ws://allowed.test/ HTTP/1.1", "Host: x\r\nConnection: upgrade\r\nUpgrade: websocket", "400", "", "ws://allowed.test/"},
		"OPTIONS of us":                 {"OPTIONS * HTTP/1.1", "Host: x", "400", "", "*"},
		"GET of *":                      {"GET * HTTP/1.1", "Host: x", "400", "", "*"},
		"TRACE":                         {"TRACE http://allowed.test/ HTTP/1.1", "Host: x", "405", "", "http://allowed.test/"},
		"a loop":                        {"GET http://allowed.test/ HTTP/1.1", "Host: x\r\nVia: 1.1 fwdproxy", "508", "", "http://allowed.test/"},
		"the path stays as it came":     {"GET http://allowed.test/a/%2e%2e/./%2Fb;c//d?%7e HTTP/1.1", "Host: x", "200", "GET http://allowed.test/a/%2e%2e/./%2Fb;c//d?%7e Host=allowed.test", "http://allowed.test/a/%2e%2e/./%2Fb;c//d?%7e"},
		"an empty query stays":          {"GET http://allowed.test/? HTTP/1.1", "Host: x", "200", "GET http://allowed.test/? Host=allowed.test", "http://allowed.test/?"},
	} {
		t.Run(name, func(t *testing.T) {
			var seen []string
			s := newStand(t, answer(&seen), "", onlyAllowed...)
			reply := s.talk(t, tt.line+"\r\n"+tt.fields+"\r\nConnection: close\r\n\r\n")
			if tt.logged != "" {
				if r := s.record(t); r.URL != tt.logged || fmt.Sprint(r.Status) != tt.status {
					t.Errorf("logged %q with status %d, want %q", r.URL, r.Status, tt.logged)
				}
			}
			if got := strings.Join(seen, ", "); status(reply) != tt.status || got != tt.seen {
				t.Errorf("the next hop saw %q, want %q; the reply:\n%s", got, tt.seen, reply)
			}
			if status(reply) == "400" && field(reply, "Connection") != "close" {
				t.Errorf("what was refused as malformed leaves the connection open:\n%s", reply)
			}
		})
	}
}

func TestTheRulesAndTheGuardDecideAboutTheAddressThatIsUsed(t *testing.T) {
	var verdicts []string
	s := newStand(t, roundTrip(func(r *http.Request) (*http.Response, error) {
		err := hop.From(r.Context()).Permit(netip.MustParseAddrPort("127.0.0.1:80"))
		verdicts = append(verdicts, string(fault.From(err).Kind))
		return nil, err
	}), "")
	s.settings.Door.Guard = func(a netip.AddrPort) error { return s.settings.Door.ACL.Destination(a.Addr()) }
	reply := s.talk(t, "GET http://rebind.test/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if status(reply) != "403" || !slices.Equal(verdicts, []string{"destination_ip_prohibited"}) {
		t.Errorf("a name that leads here: %v, the reply:\n%s", verdicts, reply)
	}
	if r := s.record(t); r.Tag != accesslog.TagDenied || r.Rule != "private_destinations" {
		t.Errorf("logged: %+v", r)
	}
	// Literal addresses are refused before anything is asked, and in every spelling.
	for _, host := range []string{"127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "10.0.0.1", "169.254.169.254", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "①27.0.0.1"} {
		for _, raw := range []string{"GET http://" + host + "/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "CONNECT " + host + ":443 HTTP/1.1\r\nHost: x\r\n\r\n"} {
			reply := s.talk(t, raw)
			if host == "①27.0.0.1" && strings.HasPrefix(raw, "CONNECT") && status(reply) == "400" {
				continue // net/http takes no such authority
			}
			if status(reply) != "403" || !strings.Contains(field(reply, "Proxy-Status"), "destination_ip_prohibited") {
				t.Errorf("%q:\n%s", raw, reply)
			}
		}
	}
	if len(verdicts) != 1 || s.dialled.Load() != 0 {
		t.Errorf("asked %d times, dialled %d times", len(verdicts), s.dialled.Load())
	}
}

func TestNoFieldOfThisConnectionOnlyPasses_RFC9110_7_6_1(t *testing.T) {
	heads := make(chan string, 1)
	addr := server(t, func(c net.Conn, r *bufio.Reader) {
		var head strings.Builder
		for {
			line, err := r.ReadString('\n')
			if head.WriteString(line); err != nil || line == "\r\n" {
				break
			}
		}
		heads <- head.String()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: X-Inner, close, Set-Cookie\r\nX-Inner: 1\r\nSet-Cookie: a=b\r\nKeep-Alive: timeout=5\r\n"+
			"Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nX-Outer: 2\r\nContent-Length: 2\r\n\r\nok")
	})
	s := newStand(t, client(t), "")
	_, port, _ := net.SplitHostPort(addr)
	reply := s.talk(t, "GET http://origin.test:"+port+"/ HTTP/1.1\r\nHost: x\r\nConnection: X-Secret, close, Authorization, Cache-Control, Host, Cookie\r\n"+
		"X-Secret: 1\r\nAuthorization: Basic eA==\r\nCache-Control: no-store\r\nCookie: c=1\r\nProxy-Authorization: Basic eA==\r\n"+
		"Proxy-Connection: close\r\nTE: trailers\r\nAccept-Encoding: gzip\r\n\r\n")
	want := "GET / HTTP/1.1\r\nHost: origin.test:" + port + "\r\nAccept-Encoding: gzip\r\nCache-Control: no-store\r\nVia: 1.1 fwdproxy\r\n\r\n"
	if head := <-heads; head != want {
		t.Errorf("went out %q\nwant     %q", head, want)
	}
	for name, want := range map[string]string{"Connection": "close", "X-Inner": "", "Set-Cookie": "a=b", "Keep-Alive": "", "Proxy-Authenticate": "", "Upgrade": "", "X-Outer": "2", "Via": "1.1 fwdproxy"} {
		if got := field(reply, name); got != want {
			t.Errorf("the client got %s: %q, want %q", name, got, want)
		}
	}
}

func TestWhatPassesGoproxyKeepsTheExchangesRules(t *testing.T) {
	t.Run("interim answers go before, and leave nothing behind", func(t *testing.T) {
		var seen []string
		s := newStand(t, roundTrip(func(r *http.Request) (*http.Response, error) {
			trace := httptrace.ContextClientTrace(r.Context())
			if err := trace.Got1xxResponse(103, textproto.MIMEHeader{"Link": {"</a>"}}); err != nil {
				return nil, err
			}
			return answer(&seen)(r)
		}), "")
		reply := s.talk(t, "GET http://a.test/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		first, final, _ := strings.Cut(reply, "\r\n\r\n")
		if first != "HTTP/1.1 103 Early Hints\r\nLink: </a>" || status(final) != "200" || strings.Contains(final, "Link") {
			t.Errorf("the reply:\n%s", reply)
		}
	})
	t.Run("a stream arrives as it comes, its broken end as broken", func(t *testing.T) {
		src, feed := io.Pipe()
		s := newStand(t, roundTrip(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: src, ContentLength: -1, Request: r}, nil
		}), "")
		c := s.dial(t)
		r := bufio.NewReader(c)
		send(t, c, "GET http://a.test/ HTTP/1.1\r\nHost: x\r\n\r\n")
		if head := readHead(t, r); status(head) != "200" || field(head, "Content-Type") != "" {
			t.Errorf("the head:\n%s", head)
		}
		io.WriteString(feed, "<html>")
		for _, want := range []string{"6\r\n", "<html>\r\n"} {
			if line, err := r.ReadString('\n'); line != want {
				t.Errorf("%q, %v", line, err)
			}
		}
		feed.CloseWithError(errors.New("broken"))
		if got := rest(t, r); got != "" {
			t.Errorf("behind the break: %q", got)
		}
		if rec := s.record(t); rec.Error != string(fault.ResponseIncomplete) || rec.ErrorCause != "broken" {
			t.Errorf("logged: %+v", rec)
		}
	})
	t.Run("trailers", func(t *testing.T) {
		s := newStand(t, roundTrip(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("abc")), ContentLength: -1,
				Trailer: http.Header{"X-Sum": {"1"}}, Request: r}, nil
		}), "")
		if reply := s.talk(t, "GET http://a.test/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasSuffix(reply, "3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n") {
			t.Errorf("the reply:\n%s", reply)
		}
	})
	t.Run("an answer before the end of the body ends the connection", func(t *testing.T) {
		s := newStand(t, roundTrip(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 401, Header: http.Header{"Content-Length": {"0"}}, Body: http.NoBody, Request: r}, nil
		}), "")
		reply := s.talk(t, "POST http://a.test/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nGET http://b.test/ HTTP/1.1\r\nHost: x\r\n\r\n")
		if status(reply) != "401" || field(reply, "Connection") != "close" || strings.Count(reply, "HTTP/1.1 ") != 1 {
			t.Errorf("the reply:\n%s", reply)
		}
	})
	t.Run("a panic is answered and logged", func(t *testing.T) {
		s := newStand(t, roundTrip(func(*http.Request) (*http.Response, error) { panic("a bug") }), "")
		reply := s.talk(t, "GET http://a.test/ HTTP/1.1\r\nHost: x\r\n\r\n")
		if status(reply) != "500" || field(reply, "Connection") != "close" {
			t.Errorf("the reply:\n%s", reply)
		}
		if rec := s.record(t); rec.Error != string(fault.InternalError) || rec.Status != 500 {
			t.Errorf("logged: %+v", rec)
		}
	})
	t.Run("requests behind each other each get their own", func(t *testing.T) {
		var seen []string
		s := newStand(t, answer(&seen), "")
		reply := s.talk(t, "GET http://a.test/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"+
			"POST http://a.test/2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"+
			"HEAD http://a.test/3 HTTP/1.1\r\nHost: x\r\n\r\n"+
			"GET http://a.test/4 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if strings.Count(reply, "HTTP/1.1 200 OK") != 4 || len(seen) != 4 || strings.Count(reply, "\r\n\r\nok") != 3 {
			t.Errorf("the next hop saw %q; the reply:\n%s", seen, reply)
		}
	})
}

func TestEachRequestHasThePolicyOfItsTime(t *testing.T) {
	var seen []string
	s := newStand(t, answer(&seen), "")
	reply := s.talk(t, "GET http://a.test/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if status(reply) != "200" {
		t.Fatalf("the reply:\n%s", reply)
	}
	s.record(t)
	next, door := *s.settings, *s.settings.Door
	door.ACL = &acl.Engine{}
	next.Door = &door
	*s.settings = next
	if reply := s.talk(t, "GET http://a.test/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); status(reply) != "403" {
		t.Errorf("the reply:\n%s", reply)
	}
}
