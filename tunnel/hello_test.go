package tunnel

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// recorded is a connection whose writes are kept and whose reads end.
type recorded struct {
	net.Conn
	bytes.Buffer
}

func (r *recorded) Read([]byte) (int, error)        { return 0, io.EOF }
func (r *recorded) Write(p []byte) (int, error)     { return r.Buffer.Write(p) }
func (r *recorded) Close() error                    { return nil }
func (r *recorded) SetDeadline(time.Time) error     { return nil }
func (r *recorded) SetReadDeadline(time.Time) error { return nil }

// hello returns the bytes that Go's client begins with.
func hello(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	r := &recorded{}
	_ = tls.Client(r, c).Handshake() // nobody answers
	if r.Len() == 0 {
		t.Fatal("there is no ClientHello")
	}
	return r.Bytes()
}

func TestAClientHelloIsReadAndGoesOnUntouched_RFC8446_4_1_2(t *testing.T) {
	named := hello(t, &tls.Config{ServerName: "www.Example.com"})
	nameless := hello(t, &tls.Config{InsecureSkipVerify: true})
	// Two records for one ClientHello (RFC 8446, Section 5.1).
	split := append([]byte{0x16, 3, 1, 0, 10}, named[5:15]...)
	rest := named[15:]
	split = append(append(split, 0x16, 3, 1, byte(len(rest)>>8), byte(len(rest))), rest...)
	for _, tt := range []struct {
		name  string
		sent  []byte
		early int // of them came with the CONNECT
		want  Hello
	}{
		{"all at once", named, 0, Hello{TLS: true, ServerName: "www.Example.com"}},
		{"all of it early", named, len(named), Hello{TLS: true, ServerName: "www.Example.com"}},
		{"a part of it early", named, 7, Hello{TLS: true, ServerName: "www.Example.com"}},
		{"in two records", split, 0, Hello{TLS: true, ServerName: "www.Example.com"}},
		{"with more behind it", append(bytes.Clone(named), "more"...), len(named) + 4, Hello{TLS: true, ServerName: "www.Example.com"}},
		{"without a name", nameless, 0, Hello{TLS: true}},
		{"plain HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), 0, Hello{}},
		{"another protocol", []byte("SSH-2.0-x\r\n"), 11, Hello{}},
		{"a record of another kind", []byte{0x17, 3, 3, 0, 1, 0}, 0, Hello{}},
		{"a handshake that is no ClientHello", []byte{0x16, 3, 1, 0, 4, 2, 0, 0, 0}, 0, Hello{}},
		{"a name that is none", bytes.Replace(named, []byte("www.Example.com"), []byte("www.Example\x00com"), 1), 0, Hello{TLS: true, ServerName: "www.Example\x00com"}},
		{"nothing", nil, 0, Hello{}},
	} {
		here, there := net.Pipe()
		go func() {
			for _, b := range bytes.SplitAfter(tt.sent[tt.early:], nil) { // byte by byte
				there.Write(b)
			}
			there.Close()
		}()
		h, read, err := ReadHello(here, tt.sent[:tt.early], time.Time{})
		more, _ := io.ReadAll(here)
		if h != tt.want || err != nil {
			t.Errorf("%s: %+v, %v", tt.name, h, err)
		}
		if got := append(read, more...); !bytes.Equal(got, tt.sent) {
			t.Errorf("%s: %d bytes go on of %d, or others", tt.name, len(got), len(tt.sent))
		}
	}
}

func TestAnEncryptedClientHelloIsSeen_RFC9849(t *testing.T) {
	// The configuration list of RFC 9849's form with a key that nobody has.
	config := append([]byte{0xfe, 0x0d, 0, 0}, 1 /* id */, 0, 0x20 /* X25519 */, 0, 32)
	config = append(config, bytes.Repeat([]byte{9}, 32)...)
	config = append(config, 0, 4, 0, 1, 0, 1 /* HKDF-SHA256, AES-128-GCM */, 32, 12)
	config = append(config, "public.test\x00"[:11]...)
	config[len(config)-12] = 11 // length of the public name
	config = append(config, 0, 0)
	config[2], config[3] = byte((len(config)-4)>>8), byte(len(config)-4)
	list := append([]byte{byte(len(config) >> 8), byte(len(config))}, config...)
	sent := hello(t, &tls.Config{ServerName: "secret.test", MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: list})
	h, _, err := ReadHello(&recorded{}, sent, time.Time{})
	if want := (Hello{TLS: true, ServerName: "public.test", ECH: true}); h != want || err != nil {
		t.Errorf("got %+v, %v", h, err)
	}
}

func TestAnEndlessOrSlowClientHelloIsNone(t *testing.T) {
	here, there := net.Pipe()
	go func() {
		record := append([]byte{0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff}, make([]byte, 0x4000-4)...)
		for {
			if _, err := there.Write(record); err != nil {
				return
			}
		}
	}()
	h, read, err := ReadHello(here, nil, time.Time{})
	here.Close()
	if h.TLS || err != nil || len(read) > maxHello {
		t.Errorf("endless: %+v, %v, %d bytes", h, err, len(read))
	}
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		go there.Write([]byte{0x16, 3, 1})
		start := time.Now()
		h, read, err := ReadHello(here, nil, start.Add(3*time.Second))
		if h.TLS || err != nil || len(read) != 3 || time.Since(start) != 3*time.Second {
			t.Errorf("slow: %+v, %v, %d bytes after %v", h, err, len(read), time.Since(start))
		}
		go there.Write([]byte("later"))
		if b, err := io.ReadAll(io.LimitReader(here, 5)); string(b) != "later" {
			t.Errorf("the deadline stays: %v", err)
		}
	})
}

func TestABrokenConnectionIsAnError(t *testing.T) {
	here, there := net.Pipe()
	there.Close()
	here.Close()
	if _, _, err := ReadHello(here, nil, time.Time{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

func TestARefusedTLSClientIsTold_RFC8446_6_2(t *testing.T) {
	client, proxy := tcpPair(t)
	done := make(chan error)
	go func() { done <- tls.Client(client, &tls.Config{ServerName: "x.test"}).Handshake() }()
	h, _, err := ReadHello(proxy, nil, time.Now().Add(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	Refuse(proxy, h)
	if err := <-done; err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Errorf("the client sees %v", err)
	}
}

func FuzzReadHello(f *testing.F) {
	f.Add(hello(f, &tls.Config{ServerName: "x.test"}), 3)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), 0)
	f.Fuzz(func(t *testing.T, sent []byte, early int) {
		early = min(max(early, 0), len(sent))
		here, there := net.Pipe()
		defer here.Close()
		go func() { there.Write(sent[early:]); there.Close() }()
		_, read, err := ReadHello(here, sent[:early], time.Time{})
		more, _ := io.ReadAll(here)
		if err != nil || !bytes.Equal(append(read, more...), sent) {
			t.Errorf("%v; %d and %d bytes of %d", err, len(read), len(more), len(sent))
		}
	})
}
