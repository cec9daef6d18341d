package http2

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"fwdproxy/accesslog"
	"fwdproxy/internal/edge"
)

// patience is how long something that must happen may take.
const patience = 20 * time.Second

// stand is a Server on TLS connections.
type stand struct {
	*Server
	addr   string
	limits edge.Limits
	roots  *tls.Config
	wg     sync.WaitGroup // connections
}

func serve(t testing.TB, h http.HandlerFunc, change func(*stand)) *stand {
	t.Helper()
	pair := httptest.NewUnstartedServer(nil)
	pair.StartTLS()
	t.Cleanup(pair.Close)
	s := &stand{limits: edge.DefaultLimits()}
	s.Server = &Server{Limits: func() *edge.Limits { return &s.limits }, Handler: h, Absolute: true, ErrorLog: log.New(io.Discard, "", 0)}
	if change != nil {
		change(s)
	}
	roots := pair.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	s.roots = &tls.Config{RootCAs: roots, ServerName: "example.com", NextProtos: []string{"h2"}}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: pair.TLS.Certificates, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() {
				if c.(*tls.Conn).Handshake() == nil {
					s.Serve(t.Context(), c)
				}
				c.Close()
			})
		}
	}()
	t.Cleanup(func() {
		l.Close()
		s.wg.Wait()
	})
	return s
}

// raw is a client that writes frames of its own.
type raw struct {
	t testing.TB
	net.Conn
	*h2.Framer
	block bytes.Buffer
	enc   *hpack.Encoder
}

func dialRaw(t testing.TB, s *stand) *raw {
	t.Helper()
	c, err := tls.Dial("tcp", s.addr, s.roots)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	r := &raw{t: t, Conn: c, Framer: h2.NewFramer(c, c)}
	r.AllowIllegalWrites = true
	r.enc = hpack.NewEncoder(&r.block)
	r.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(c, h2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	r.must(r.WriteSettings())
	return r
}

func (r *raw) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// head encodes name, value, name, value, ...
func (r *raw) head(fields ...string) []byte {
	r.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		r.must(r.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return bytes.Clone(r.block.Bytes())
}

// ask sends a whole head.
func (r *raw) ask(stream uint32, end bool, fields ...string) {
	r.t.Helper()
	r.must(r.WriteHeaders(h2.HeadersFrameParam{StreamID: stream, BlockFragment: r.head(fields...), EndHeaders: true, EndStream: end}))
}

// answer reads until the stream has ended and says how: its status and body, or
// the error of its reset, or that of the connection.
func (r *raw) answer(stream uint32) string {
	status, body := "", ""
	for {
		f, err := r.ReadFrame()
		if err != nil {
			return "closed"
		}
		switch f := f.(type) {
		case *h2.GoAwayFrame:
			if f.ErrCode != h2.ErrCodeNo {
				return "GOAWAY " + f.ErrCode.String()
			}
		case *h2.MetaHeadersFrame:
			if f.StreamID == stream && status == "" {
				status = f.PseudoValue("status")
			}
			if f.StreamID == stream && f.StreamEnded() {
				return status + " " + body
			}
		case *h2.DataFrame:
			if f.StreamID == stream {
				body += string(f.Data())
				if f.StreamEnded() {
					return status + " " + body
				}
			}
		case *h2.RSTStreamFrame:
			if f.StreamID == stream {
				return "RST " + f.ErrCode.String()
			}
		}
	}
}

var plain = []string{":method", "GET", ":scheme", "http", ":authority", "a.example", ":path", "/"}

// echo answers with what the front door gets, or with the refusal.
func echo(w http.ResponseWriter, r *http.Request) {
	limits := edge.DefaultLimits()
	door := &edge.Door{Name: "test", Limits: limits, Log: func(*accesslog.Record) {}, Now: time.Now}
	x := door.Begin(w, r)
	if err := x.Check(); err != nil {
		x.Fail(err)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	fmt.Fprintf(w, "[%s %s %s %q]", r.Method, r.RequestURI, r.Host, body)
}
