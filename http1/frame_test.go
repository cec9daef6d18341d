package http1

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"fwdproxy/internal/edge"
)

// feed is a connection whose client sent input, in pieces, and then ended.
type feed struct {
	net.Conn // nil: nothing else may be asked of it
	input    []byte
	piece    int
	wrote    bytes.Buffer
}

func (f *feed) Read(p []byte) (int, error) {
	if len(f.input) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), max(1, f.piece))], f.input)
	f.input = f.input[n:]
	return n, nil
}

func (f *feed) Write(p []byte) (int, error)      { return f.wrote.Write(p) }
func (f *feed) SetReadDeadline(time.Time) error  { return nil }
func (f *feed) SetWriteDeadline(time.Time) error { return nil }
func (f *feed) RemoteAddr() net.Addr             { return nil }

// framed returns the requests that the framing lets through of input, each with
// what it is to net/http, and how many bytes were left when it ended.
type framed struct {
	method, target, host string
	length               int64
	chunked              bool
	body                 string
	left                 int
}

// throughFraming reads input as net/http does: one bufio.Reader, ReadRequest,
// the body, and then an idle connection.
func throughFraming(t *testing.T, input []byte, piece int) (out []framed, refused bool) {
	limits := edge.DefaultLimits()
	limits.HalfCloseTimeout = 1
	s := &Server{Limits: func() *edge.Limits { return &limits }, Refuse: func(edge.Refused) []byte { refused = true; return nil }}
	in := &feed{input: input, piece: piece}
	c := s.Wrap(in).(*Conn)
	r := bufio.NewReader(c)
	for {
		if _, err := r.Peek(4); err != nil {
			return out, refused
		}
		q, err := http.ReadRequest(r)
		if err != nil {
			t.Fatalf("net/http refuses what the framing lets through: %v\n%q", err, input)
		}
		body, err := io.ReadAll(q.Body)
		if err != nil {
			return out, true
		}
		if r.Buffered() > 0 || c.phase != handled {
			t.Fatalf("net/http ends the request elsewhere: %d bytes over, phase %d\n%q", r.Buffered(), c.phase, input)
		}
		out = append(out, framed{q.Method, q.RequestURI, q.Host, q.ContentLength, len(q.TransferEncoding) > 0, string(body), len(in.input) + c.w - c.r})
		ConnState(c, http.StateIdle)
	}
}

// plainly reads input with net/http alone.
func plainly(input []byte) (out []framed) {
	in := bytes.NewReader(input)
	r := bufio.NewReader(in)
	for {
		// One empty line may stand before a request.
		if b, _ := r.Peek(2); string(b) == "\r\n" {
			r.Discard(2)
		}
		q, err := http.ReadRequest(r)
		if err != nil {
			return out
		}
		body, err := io.ReadAll(q.Body)
		if err != nil {
			return out
		}
		out = append(out, framed{q.Method, q.RequestURI, q.Host, q.ContentLength, len(q.TransferEncoding) > 0, string(body), in.Len() + r.Buffered()})
	}
}

func checkAgreement(t *testing.T, input []byte, piece int) {
	got, _ := throughFraming(t, input, piece)
	want := plainly(input)
	if len(got) > len(want) {
		t.Fatalf("the framing lets %d requests through, net/http finds %d\n%q", len(got), len(want), input)
	}
	for i, g := range got {
		if g != want[i] {
			t.Fatalf("request %d: the framing hands on %+v, net/http finds %+v\n%q", i, g, want[i], input)
		}
	}
	whole, refused := throughFraming(t, input, 1<<20)
	again, refusedAgain := throughFraming(t, input, 1)
	if len(whole) != len(again) || refused != refusedAgain {
		t.Fatalf("whole: %d requests, refused %v; byte by byte: %d, %v\n%q", len(whole), refused, len(again), refusedAgain, input)
	}
}

var agreementSeeds = []string{
	"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET http://a.test:80/x?y=%zz HTTP/1.1\r\nHost: b\r\n\r\nGET / HTTP/1.0\r\n\r\n",
	"\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n00f\r\n0123456789abcde\r\n0\r\nA: b\r\n\r\nGET /2 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
	"CONNECT [::1]:443 HTTP/1.1\r\nHost: a\r\n\r\n",
	"CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTrailer: x\r\n\r\n",
	"GET http://user:p%40w@a/%41#x HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET mailto:x HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\nHost: a\n\n",
	"GET / HTTP/1.1\r\nHost: a\r\n X: b\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\nx",
}

func TestTheFramingAndNetHTTPAgreeWhereARequestEnds(t *testing.T) {
	for _, seed := range agreementSeeds {
		for piece := range 5 {
			checkAgreement(t, []byte(seed), piece)
		}
	}
}

// FuzzAgreement holds the framing against net/http: what it lets through ends
// at the same byte there, with the same method, target, Host and body.
func FuzzAgreement(f *testing.F) {
	for _, s := range agreementSeeds {
		f.Add([]byte(s), 7)
	}
	f.Fuzz(func(t *testing.T, input []byte, piece int) { checkAgreement(t, input, piece) })
}

func TestNothingIsLeftForNetHTTPToRefuse(t *testing.T) {
	// Each of these has something that net/http answers by itself; the rest of
	// the table is with the whole proxy's tests.
	heads := []string{
		"GET /%zz HTTP/1.1\r\nHost: a\r\n", "GET http://[::1/ HTTP/1.1\r\nHost: a\r\n", "GET x HTTP/1.1\r\nHost: a\r\n", "GET a:b@c HTTP/1.1\r\n", "GET / HTTP/1.1\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n", "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n", "GET / HTTP/1.1\r\nHost: a\r\nExpect:\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: Trailer\r\n", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 65<<10) + "\r\n", "PRI * HTTP/2.0\r\n", "PRI * HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/3.0\r\nHost: a\r\n",
		"CONNECT a:b HTTP/1.1\r\nHost: a\r\n", "CONNECT : HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: \xff\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n",
		"GET http://a%41/ HTTP/1.1\r\nHost: a\r\n", "GET :x HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n", "GET http://[fe80::1%25x%zz]/ HTTP/1.1\r\nHost: a\r\n",
	}
	own := 0
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Handler", "yes") }, nil)
	for _, h := range heads {
		before := s.count()
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, h+"Connection: close\r\n\r\n0\r\n\r\n")
		reply, _ := io.ReadAll(c)
		c.Close()
		if !bytes.Contains(reply, []byte("X-Handler: yes")) && s.count() == before {
			t.Errorf("%.80q: net/http answers by itself: %s", h, reply)
		}
		own += s.count() - before
	}
	if own < 15 || own == len(heads) {
		t.Errorf("%d of %d are refused", own, len(heads))
	}
}

// BenchmarkFraming is one request on a kept-alive connection.
func BenchmarkFraming(b *testing.B) {
	for name, request := range map[string]string{
		"GET":     "GET http://www.example.com/path/to/page?x=y HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nAccept-Encoding: gzip, br\r\nCookie: a=b; c=d\r\n\r\n",
		"length":  "POST /upload HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: 1000\r\n\r\n" + strings.Repeat("x", 1000),
		"chunked": "POST /upload HTTP/1.1\r\nHost: www.example.com\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + strings.Repeat("x", 1000) + "\r\n0\r\n\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			limits := edge.DefaultLimits()
			limits.RequestsPerConnection = 0
			in := &feed{piece: 1 << 20}
			c := (&Server{Limits: func() *edge.Limits { return &limits }}).Wrap(in).(*Conn)
			p := make([]byte, 4096)
			raw := []byte(request)
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				in.input = raw
				for c.phase != handled {
					if _, err := c.Read(p); err != nil {
						b.Fatal(err)
					}
				}
				c.idle()
			}
		})
	}
}
