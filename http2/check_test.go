package http2

import (
	"strings"
	"testing"

	h2 "golang.org/x/net/http2"
)

func TestARequestComesToAProxyInAbsoluteForm(t *testing.T) {
	s := serve(t, echo, nil)
	c := dialRaw(t, s)
	for i, row := range []struct {
		fields []string
		want   string
	}{
		{plain, `200 [GET http://a.example/ a.example ""]`},
		{[]string{":method", "GET", ":scheme", "https", ":authority", "a.example:8443", ":path", "/x?y"}, `200 [GET https://a.example:8443/x?y a.example:8443 ""]`},
		{[]string{":method", "OPTIONS", ":scheme", "http", ":authority", "a.example", ":path", "*"}, `200 [OPTIONS http://a.example a.example ""]`},
		{[]string{":method", "GET", ":scheme", "http", ":path", "/", "host", "a.example"}, `200 [GET http://a.example/ a.example ""]`},
		{append(append([]string{}, plain...), "content-length", "0"), `200 [GET http://a.example/ a.example ""]`},
	} {
		id := uint32(2*i + 1)
		c.ask(id, true, row.fields...)
		if got := c.answer(id); got != row.want {
			t.Errorf("%q: %s, want %s", row.fields, got, row.want)
		}
	}
}

// TestWhatIsMalformedIsRefused sends heads that RFC 9113, Section 8, calls
// malformed, or that HTTP/1.1 refuses, each on a connection of its own.
func TestWhatIsMalformedIsRefused(t *testing.T) {
	s := serve(t, echo, nil)
	with := func(more ...string) []string { return append(append([]string{}, plain...), more...) }
	but := func(name, value string) []string {
		out := append([]string{}, plain...)
		for i := 0; i < len(out); i += 2 {
			if out[i] == name {
				out[i+1] = value
			}
		}
		return out
	}
	for _, row := range []struct {
		name   string
		fields []string
		want   string // status, "RST" or a reset's code
	}{
		{"two Content-Lengths, RFC 9110, 8.6", with("content-length", "1", "content-length", "2"), "400"},
		{"two equal Content-Lengths", with("content-length", "1", "content-length", "1"), "400"},
		{"a list of lengths", with("content-length", "1, 1"), "400"},
		{"a signed length", with("content-length", "+1"), "400"},
		{"an empty length", with("content-length", ""), "400"},
		{"a length without a body, 8.1.1", with("content-length", "5"), "400"},
		{"a length with a leading zero", with("content-length", "00"), "400"},
		{"Connection, 8.2.2", with("connection", "close"), "400"},
		{"Transfer-Encoding, 8.2.2", with("transfer-encoding", "chunked"), "400"},
		{"Keep-Alive, 8.2.2", with("keep-alive", "timeout=5"), "400"},
		{"Proxy-Connection, 8.2.2", with("proxy-connection", "keep-alive"), "400"},
		{"Upgrade, 8.2.2", with("upgrade", "h2c"), "400"},
		{"TE other than trailers, 8.2.2", with("te", "gzip"), "400"},
		{"capitals in a name, 8.2.1", with("X-Capital", "1"), "RST PROTOCOL_ERROR"},
		{"LF in a value, 8.2.1", with("x", "a\nb"), "RST PROTOCOL_ERROR"},
		{"CR in a value, 8.2.1", with("x", "a\rb"), "RST PROTOCOL_ERROR"},
		{"NUL in a value, 8.2.1", with("x", "a\x00b"), "RST PROTOCOL_ERROR"},
		{"a blank before a value, 8.2.1", with("x", " a"), "400"},
		{"a blank behind a value, 8.2.1", with("x", "a\t"), "400"},
		{"a space in a name, 8.2.1", with("x y", "1"), "RST PROTOCOL_ERROR"},
		{"a colon in a name, 8.2.1", with("x:y", "1"), "RST PROTOCOL_ERROR"},
		{"a name that CGI takes for Content-Length", with("content_length", "5"), "400"},
		{"a name that CGI takes for Transfer-Encoding", with("transfer_encoding", "chunked"), "400"},
		{"a pseudo-field behind others, 8.3", []string{":method", "GET", ":scheme", "http", ":authority", "a.example", "x", "y", ":path", "/"}, "RST PROTOCOL_ERROR"},
		{"an unknown pseudo-field, 8.3", append([]string{":unknown", "1"}, plain...), "RST PROTOCOL_ERROR"},
		{"a response's pseudo-field, 8.3", append([]string{":status", "200"}, plain...), "RST PROTOCOL_ERROR"},
		{"two :path, 8.3.1", append([]string{":path", "/b"}, plain...), "RST PROTOCOL_ERROR"},
		{"two :authority, 8.3.1", append([]string{":authority", "b.example"}, plain...), "RST PROTOCOL_ERROR"},
		{"two :method, 8.3.1", append([]string{":method", "PUT"}, plain...), "RST PROTOCOL_ERROR"},
		{"no :path, 8.3.1", plain[:6], "RST PROTOCOL_ERROR"},
		{"an empty :path, 8.3.1", but(":path", ""), "RST PROTOCOL_ERROR"},
		{"an absolute :path, 8.3.1", but(":path", "http://b.example/"), "RST PROTOCOL_ERROR"},
		{"a :path without a slash, 8.3.1", but(":path", "x"), "RST PROTOCOL_ERROR"},
		{"* for a GET, 8.3.1", but(":path", "*"), "400"},
		{"a space in :path", but(":path", "/a b"), "400"},
		{"a request line in :path", but(":path", "/ HTTP/1.1"), "400"},
		{"a fragment in :path", but(":path", "/a#b"), "400"},
		{"a broken escape in :path", but(":path", "/%zz"), "RST PROTOCOL_ERROR"},
		{"an endless :path", but(":path", "/"+strings.Repeat("a", 16<<10)), "414"},
		{"another :scheme", but(":scheme", "ftp"), "RST PROTOCOL_ERROR"},
		{"a space in :method", but(":method", "GET /x"), "400"},
		{"a method that is no token", but(":method", "GET?("), "400"},
		{"Host beside another :authority, 8.3.1", with("host", "b.example"), "RST PROTOCOL_ERROR"},
		{"two Hosts", with("host", "a.example", "host", "a.example"), "RST PROTOCOL_ERROR"},
		{"userinfo in :authority, 8.3.1", but(":authority", "u@a.example"), "RST PROTOCOL_ERROR"},
		{"no authority at all", []string{":method", "GET", ":scheme", "http", ":path", "/"}, "400"},
		{"a list in :authority", but(":authority", "a.example,b.example"), "400"},
		{"a path in :authority", but(":authority", "a.example/x"), "RST PROTOCOL_ERROR"},
		{"a port that is none", but(":authority", "a.example:http"), "400"},
		{"CONNECT with a :path, 8.5", but(":method", "CONNECT"), "RST PROTOCOL_ERROR"},
		{"CONNECT without :authority, 8.5", []string{":method", "CONNECT"}, "RST PROTOCOL_ERROR"},
		{"CONNECT with Content-Length, 8.5", []string{":method", "CONNECT", ":authority", "a.example:443", "content-length", "5"}, "400"},
		{"an extended CONNECT to what is no WebSocket, RFC 8441", append([]string{":protocol", "connect-udp"}, but(":method", "CONNECT")...), "501"},
		{":protocol in a GET, RFC 8441", append([]string{":protocol", "websocket"}, plain...), "400"},
		{"too many fields", with(strings.Fields(strings.Repeat("x y ", 201))...), "431"},
		{"too large a head", with(strings.Fields(strings.Repeat("x "+strings.Repeat("y", 700)+" ", 100))...), "431"},
	} {
		c := dialRaw(t, s)
		block := c.head(row.fields...)
		first := min(len(block), 16<<10)
		c.must(c.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:first], EndHeaders: first == len(block), EndStream: true}))
		for block = block[first:]; len(block) > 0; block = block[first:] {
			first = min(len(block), 16<<10)
			c.must(c.WriteContinuation(1, first == len(block), block[:first]))
		}
		if got := c.answer(1); !strings.HasPrefix(got, row.want) {
			t.Errorf("%s: %.100s, want %s", row.name, got, row.want)
		}
		// The connection goes on.
		c.ask(3, true, plain...)
		if got := c.answer(3); !strings.HasPrefix(got, "200") {
			t.Errorf("behind %s: %.100s", row.name, got)
		}
		c.Close()
	}
}

// TestABodyHasToHaveTheLengthThatItsRequestSays is RFC 9113, Section 8.1.1.
func TestABodyHasToHaveTheLengthThatItsRequestSays(t *testing.T) {
	s := serve(t, echo, nil)
	post := []string{":method", "POST", ":scheme", "http", ":authority", "a.example", ":path", "/", "content-length", "3"}
	for _, row := range []struct{ body, want string }{
		{"abc", `200 [POST http://a.example/ a.example "abc"]`},
		{"abcd", "RST PROTOCOL_ERROR"},
		{"ab", "RST INTERNAL_ERROR"},
	} {
		c := dialRaw(t, s)
		c.ask(1, false, post...)
		c.must(c.WriteData(1, true, []byte(row.body)))
		if got := c.answer(1); got != row.want {
			t.Errorf("%q: %s, want %s", row.body, got, row.want)
		}
	}
}

func TestWhereNoProxyIsSecuredRequestsAreAboutHTTPS(t *testing.T) {
	s := serve(t, echo, func(s *stand) { s.Absolute = false })
	c := dialRaw(t, s)
	c.ask(1, true, ":method", "GET", ":scheme", "https", ":authority", "a.example", ":path", "/x")
	if got := c.answer(1); got != `200 [GET /x a.example ""]` {
		t.Error(got)
	}
	c.ask(3, true, plain...)
	if got := c.answer(3); !strings.HasPrefix(got, "400") {
		t.Error(got)
	}
}

func TestTheLastRequestOfAConnectionIsFollowedByGOAWAY(t *testing.T) {
	s := serve(t, echo, func(s *stand) { s.limits.RequestsPerConnection = 2 })
	c := dialRaw(t, s)
	c.ask(1, true, plain...)
	c.ask(3, true, plain...)
	for {
		f, err := c.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if away, ok := f.(*h2.GoAwayFrame); ok {
			if away.ErrCode != h2.ErrCodeNo {
				t.Error(away)
			}
			return
		}
	}
}
