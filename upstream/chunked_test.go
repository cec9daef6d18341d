package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"

	"fwdproxy/internal/fault"
)

func decode(in string) (string, http.Header, error) {
	var trailer http.Header
	c := &chunkedReader{r: bufio.NewReaderSize(strings.NewReader(in), 16<<10), trailer: func(h http.Header) { trailer = h }}
	body, err := io.ReadAll(c)
	return string(body), trailer, err
}

func TestChunksAreReadStrictly_RFC9112_7_1(t *testing.T) {
	for in, want := range map[string]string{
		"0\r\n\r\n":                                "",
		"5\r\nhello\r\n0\r\n\r\n":                  "hello",
		"1\r\na\r\nA\r\n0123456789\r\n0\r\n\r\n":   "a0123456789",
		"00005\r\nhello\r\n000\r\n\r\n":            "hello",
		"5;a=b;c=\"d\"\r\nhello\r\n0;x\r\n\r\n":    "hello",
		"5  \r\nhello\r\n0\r\n\r\n":                "hello", // old servers pad the size
		"5\r\n\r\n0\r\n\r\n0\r\n\r\n":              "\r\n0\r\n",
		"0\r\nA: b\r\n\r\n":                        "",
		"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r": "hello",
	} {
		if got, _, err := decode(in); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{
		"\r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "+5\r\nhello\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n",
		"5_0\r\nhello\r\n0\r\n\r\n", " 5\r\nhello\r\n0\r\n\r\n", "g\r\nhello\r\n0\r\n\r\n", "5 5\r\nhello\r\n0\r\n\r\n",
		"00000000000000005\r\nhello\r\n0\r\n\r\n", "10000000000000005\r\nhello\r\n0\r\n\r\n", "ffffffffffffffff\r\nhello",
		"5 ;a\r\nhello\r\n0\r\n\r\n", "5\t;\r\nhello\r\n0\r\n\r\n", // which other readers take for no size
		"5;a=\r\r\nhello\r\n0\r\n\r\n", "5\nhello\r\n0\r\n\r\n", "5\rhello\r\n0\r\n\r\n", "5;a\nhello\r\n0\r\n\r\n",
		"5\r\nhello\n0\r\n\r\n", "5\r\nhello0\r\n\r\n", "5\r\nhelloX\r\n0\r\n\r\n", "4\r\nhello\r\n0\r\n\r\n",
		"5;" + strings.Repeat("a", 300) + "\r\nhello\r\n0\r\n\r\n", strings.Repeat("0", 64<<10),
		"0\r\nA: b\n\r\n", "0\r\n\n", "0\r\nA : b\r\n\r\n", "0\r\nA: b\r\n c\r\n\r\n", "0\r\nA: \x00\r\n\r\n", "0\r\nnonsense\r\n\r\n",
		"0\r\n" + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 20) + "\r\n",
	} {
		got, _, err := decode(in)
		var f *fault.Error
		if !errors.As(err, &f) || f.Kind != fault.ProtocolError {
			t.Errorf("%.40q: %.20q, %v; want a protocol error", in, got, err)
		}
	}
}

func TestAChunkedBodyThatEndsEarlyIsNotComplete_RFC9112_8(t *testing.T) {
	const whole = "5;a\r\nhello\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n"
	for i := range len(whole) {
		if got, trailer, err := decode(whole[:i]); err != io.ErrUnexpectedEOF || trailer != nil {
			t.Errorf("%q: %q, %v, %v", whole[:i], got, trailer, err)
		}
	}
}

func TestOnlyAnnouncedAndAllowedTrailersPass_RFC9110_6_5_1(t *testing.T) {
	o := answering(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, content-length, Set-Cookie, X-Never, Digest, Content-Type, Connection, Content-Digest\r\n\r\n"+
		"2\r\nhi\r\n0\r\nx-sum: 1\r\nX-Sum: 2\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\nHost: evil\r\nSet-Cookie: a=b\r\nContent-Type: a/b\r\nX-Surprise: 1\r\nContent-Digest: d\r\n\r\n")
	tr := newTransport(t, nil)
	res, err := tr.RoundTrip(request(t, "GET", "http://"+o.addr+"/", nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := res.Trailer["X-Sum"]; !ok || len(res.Trailer) != 4 || len(res.Header) != 0 {
		t.Errorf("before the body: trailer %v, header %v", res.Trailer, res.Header)
	}
	body, err := io.ReadAll(res.Body)
	if string(body) != "hi" || err != nil {
		t.Fatalf("%q, %v", body, err)
	}
	if len(res.Trailer) != 2 || !slices.Equal(res.Trailer["X-Sum"], []string{"1", "2"}) || res.Trailer.Get("Content-Digest") != "d" {
		t.Errorf("trailer %v", res.Trailer)
	}
	if idle, _ := tr.Stats(); idle != 1 {
		t.Error("the connection is not kept")
	}
}

// FuzzChunkedReader holds the reader against the lax one of net/http: what this
// one takes, that one decodes to the same bytes.
func FuzzChunkedReader(f *testing.F) {
	for _, s := range []string{
		"5\r\nhello\r\n0\r\n\r\n", "5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n", "1 \r\na\r\n0\r\n\r\nmore", "0 ;\r\n\r\n", "1 ;a\r\nx\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n",
	} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		src := bufio.NewReaderSize(bytes.NewReader(in), 16<<10)
		c := &chunkedReader{r: src, trailer: func(http.Header) {}}
		var ours bytes.Buffer
		buf := make([]byte, 1+step&0xff)
		var err error
		for err == nil {
			var n int
			n, err = c.Read(buf)
			ours.Write(buf[:n])
		}
		if n, again := c.Read(buf); n != 0 || again != err {
			t.Fatalf("after %v comes %d, %v", err, n, again)
		}
		if err != io.EOF {
			return
		}
		theirs, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(in)))
		if err != nil || !bytes.Equal(theirs, ours.Bytes()) {
			t.Fatalf("%q: %q, but net/http reads %q, %v", in, ours.Bytes(), theirs, err)
		}
	})
}
