package proxytest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"fwdproxy/internal/fault"
)

// Patience is how long something that must happen may take.
const Patience = 20 * time.Second

// RoundTrip is a next hop made of a func.
type RoundTrip func(*http.Request) (*http.Response, error)

// RoundTrip calls f.
func (f RoundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Never is a next hop that nothing may reach.
func Never(t *testing.T) RoundTrip {
	return func(r *http.Request) (*http.Response, error) {
		t.Errorf("%s %s reached the next hop", r.Method, r.URL)
		return nil, fault.New(fault.InternalError, "", nil)
	}
}

// Dial connects as a client that waits no longer than Patience for anything.
func Dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(Patience))
	return c
}

// Send writes the bytes as they are.
func Send(t *testing.T, c net.Conn, raw string) {
	t.Helper()
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
}

// Rest reads to the end, for which a reset does as well: it comes behind what
// was sent.
func Rest(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if e, ok := err.(net.Error); ok && e.Timeout() {
		t.Fatalf("the connection stays open; so far came:\n%s", b)
	}
	return string(b)
}

// Talk sends the bytes and returns all that comes back until the other side
// closes.
func Talk(t *testing.T, addr, raw string) string {
	t.Helper()
	c := Dial(t, addr)
	Send(t, c, raw)
	return Rest(t, c)
}

// ReadHead reads a head and returns it with its last CRLF.
func ReadHead(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			t.Fatalf("%v behind %q", err, b.String())
		}
		if line == "\r\n" {
			return b.String()
		}
	}
}

// Status returns the status code of a reply.
func Status(reply string) string {
	line, _, _ := strings.Cut(reply, "\r\n")
	_, code, _ := strings.Cut(line, " ")
	return code[:min(3, len(code))]
}

// Field returns all values of a field in a reply's head, joined by "|".
func Field(reply, name string) string {
	head, _, _ := strings.Cut(reply, "\r\n\r\n")
	var values []string
	for line := range strings.SplitSeq(head, "\r\n") {
		n, v, ok := strings.Cut(line, ":")
		if ok && strings.EqualFold(n, name) {
			values = append(values, strings.TrimSpace(v))
		}
	}
	return strings.Join(values, "|")
}

// Server is one that a test scripts byte by byte: serve gets each connection.
// It returns the address.
func Server(t testing.TB, serve func(c net.Conn, r *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(Patience))
				serve(c, bufio.NewReader(c))
			}()
		}
	}()
	return l.Addr().String()
}
