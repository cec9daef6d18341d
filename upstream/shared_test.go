package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
)

func TestACloseDuringTheLastReadKeepsNoConnectionWithoutTimeouts(t *testing.T) {
	o := answering(t, ok("good"))
	tr := newTransport(t, nil)
	for range 2000 {
		res, err := tr.RoundTrip(request(t, "GET", "http://"+o.addr+"/", nil))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { io.ReadAll(res.Body) })
		wg.Go(func() { res.Body.Close() })
		wg.Wait()
		if c := tr.idle.take("http://"+o.addr, func(_ netip.AddrPort) bool { return true }); c != nil {
			if c.canceled {
				t.Fatal("a connection is kept whose deadlines can be set no more")
			}
			c.close()
		}
	}
	if idle, used := tr.Stats(); idle+used != 0 {
		t.Errorf("%d idle, %d used", idle, used)
	}
}

func TestASlowReaderIsNotTakenForASlowOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, func(c *Config) { c.ReadTimeout = short(10 * time.Second) })
		c, origin := piped(tr)
		go func() {
			readRequestHead(bufio.NewReader(origin))
			// The chunk's CRLF is cut in two, so that a read begins with bytes in the
			// buffer and then waits.
			io.WriteString(origin, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r")
			time.Sleep(125 * time.Second)
			io.WriteString(origin, "\n0\r\n\r\n")
		}()
		res, err := exchange(c, request(t, "GET", "http://a/", nil))
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 5)
		if _, err := io.ReadFull(res.Body, b); err != nil || string(b) != "hello" {
			t.Fatalf("%q, %v", b, err)
		}
		time.Sleep(2 * time.Minute) // the client takes its time; the origin then needs 5 s
		if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
			t.Errorf("%q, %v", rest, err)
		}
	})
}

func TestABodyThatBreaksBehindTheAnswersHeadIsTheError(t *testing.T) {
	o := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readRequestHead(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
		io.Copy(io.Discard, r)
	})
	body, w := newPipeBody()
	req := request(t, "POST", "http://"+o.addr+"/", body)
	req.ContentLength = 100
	tr := newTransport(t, nil)
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	large := &fault.Error{Kind: fault.RequestError, Status: 413}
	w.CloseWithError(large)
	if got, err := io.ReadAll(res.Body); string(got) != "half" || !errors.Is(err, large) {
		t.Errorf("%q, %v", got, err)
	}
	<-body.closed
}

// lastWords returns its bytes together with an error, as a Reader may.
type lastWords struct {
	text string
	err  error
}

func (r *lastWords) Read(p []byte) (int, error) {
	n := copy(p, r.text)
	r.text = r.text[n:]
	return n, r.err
}

func TestBytesThatComeWithAnErrorDoNotCompleteTheUpload_RFC9112_8(t *testing.T) {
	got := make(chan string, 1)
	o := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readRequestHead(r)
		rest, _ := io.ReadAll(r)
		got <- string(rest)
	})
	req := request(t, "POST", "http://"+o.addr+"/", &lastWords{"hello", io.ErrUnexpectedEOF})
	req.ContentLength = 5
	wantFault(t, fails(t, newTransport(t, nil), req), fault.RequestError, 400)
	if body := <-got; len(body) == 5 {
		t.Errorf("the origin got all of a body that broke: %q", body)
	}
	// Together with the end they are the end.
	o, seen := recording(t)
	req = request(t, "POST", "http://"+o.addr+"/", &lastWords{"hello", io.EOF})
	req.ContentLength = 5
	do(t, newTransport(t, nil), req)
	if whole := <-seen; !strings.HasSuffix(whole, "\r\n\r\nhello") {
		t.Errorf("sent %q", whole)
	}
}

func TestABodyWithLengthZeroIsOneOfUnknownLength(t *testing.T) {
	// So says http.Request of a client's ContentLength.
	o, seen := recording(t)
	req := request(t, "POST", "http://"+o.addr+"/", io.MultiReader(strings.NewReader("hello")))
	if req.ContentLength != 0 {
		t.Fatalf("ContentLength is %d", req.ContentLength)
	}
	do(t, newTransport(t, nil), req)
	if whole := <-seen; !strings.HasSuffix(whole, "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n") {
		t.Errorf("sent %q", whole)
	}
}

func TestANextHopThatTakesNoMoreOfTheBodyIsA504(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, func(c *Config) {
			c.ReadTimeout, c.ResponseTimeout = short(3*time.Second), short(7*time.Second)
		})
		c, origin := piped(tr)
		go func() { readRequestHead(bufio.NewReaderSize(origin, 16)) }() // and then nothing
		begun := time.Now()
		req := request(t, "POST", "http://a/", io.LimitReader(zeros{}, 1<<20))
		req.ContentLength = 1 << 20
		_, err := exchange(c, req)
		wantFault(t, err, fault.ResponseTimeout, 504)
		// A piece has read_timeout; what the next hop says about it, response_timeout.
		if took := time.Since(begun); took != 10*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestAKeptConnectionWhoseAddressIsRefusedNowIsReplacedByAnother(t *testing.T) {
	o := answering(t, ok("good"))
	tr := newTransport(t, func(c *Config) { c.Hosts = map[string][]string{"a.test": {"192.0.2.1", "192.0.2.2"}} })
	var dialed []string
	tr.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialed = append(dialed, address)
		return (&net.Dialer{}).DialContext(ctx, network, o.addr)
	}
	no := fault.New(fault.DestinationIPProhibited, "no", nil)
	only := func(allowed ...string) *hop.Hop {
		return &hop.Hop{Permit: func(a netip.AddrPort) error {
			if slices.Contains(allowed, a.Addr().String()) {
				return nil
			}
			return no
		}}
	}
	for _, h := range []*hop.Hop{only("192.0.2.1"), only("192.0.2.2"), only("192.0.2.1"), only("192.0.2.2")} {
		do(t, tr, requestWith(t, h, "GET", "http://a.test/", nil))
	}
	if want := []string{"192.0.2.1:80", "192.0.2.2:80"}; !slices.Equal(dialed, want) {
		t.Errorf("dialled %v, want %v: each kept for those who may use it", dialed, want)
	}
	if err := fails(t, tr, requestWith(t, only(), "GET", "http://a.test/", nil)); err != no {
		t.Errorf("%v, want the refusal", err)
	}
}

func TestAnAlertBehindTheHandshakeIsNotTakenForAnEnd_RFC8446_6(t *testing.T) {
	cert, file := certificate(t, time.Now().Add(time.Hour), "127.0.0.1")
	// In TLS 1.3 the client has shaken hands before the server misses its certificate.
	o := serve(t, func(_ int, raw net.Conn, _ *bufio.Reader) {
		c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert})
		_ = c.Handshake()
		io.Copy(io.Discard, raw) // so that no reset overtakes the alert
	})
	tr := newTransport(t, func(c *Config) { c.CAFile = file })
	wantFault(t, fails(t, tr, request(t, "GET", "https://"+o.addr+"/", nil)), fault.TLSAlertReceived, 502)
	if idle, used := tr.Stats(); idle+used != 0 {
		t.Errorf("%d idle, %d used", idle, used)
	}
}
