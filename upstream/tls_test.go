package upstream

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fwdproxy/internal/fault"
)

// certificate returns a self-signed certificate for names until notAfter, and
// the path of a PEM file that holds it.
func certificate(t *testing.T, notAfter time.Time, names ...string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: notAfter.Add(-48 * time.Hour), NotAfter: notAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// serveTLS is serve over TLS.
func serveTLS(t *testing.T, c *tls.Config, handle func(number int, c *tls.Conn, r *bufio.Reader)) *origin {
	return serve(t, func(number int, raw net.Conn, _ *bufio.Reader) {
		conn := tls.Server(raw, c)
		if conn.Handshake() == nil {
			handle(number, conn, bufio.NewReader(conn))
		}
	})
}

func TestTLSIsVerifiedAndReused_RFC9110_4_3_4(t *testing.T) {
	cert, file := certificate(t, time.Now().Add(time.Hour), "a.test", "127.0.0.1")
	hello := make(chan *tls.ClientHelloInfo, 10)
	o := serveTLS(t, &tls.Config{GetCertificate: func(i *tls.ClientHelloInfo) (*tls.Certificate, error) {
		hello <- i
		return &cert, nil
	}}, func(_ int, c *tls.Conn, r *bufio.Reader) {
		for readRequestHead(r) != "" {
			io.WriteString(c, ok("good"))
		}
	})
	_, port, _ := net.SplitHostPort(o.addr)
	tr := newTransport(t, func(c *Config) { c.CAFile, c.Hosts = file, map[string][]string{"a.test": {"127.0.0.1"}} })
	for range 3 {
		if _, body := do(t, tr, request(t, "GET", "https://a.test:"+port+"/", nil)); body != "good" {
			t.Errorf("%q", body)
		}
	}
	if i := <-hello; i.ServerName != "a.test" || len(i.SupportedProtos) != 1 || i.SupportedProtos[0] != "http/1.1" {
		t.Errorf("server name %q, ALPN %q", i.ServerName, i.SupportedProtos)
	}
	if o.conns.Load() != 1 {
		t.Errorf("%d connections", o.conns.Load())
	}
	// Another name for the same address is another origin.
	if _, body := do(t, tr, request(t, "GET", "https://127.0.0.1:"+port+"/", nil)); body != "good" || o.conns.Load() != 2 {
		t.Errorf("%q over %d connections", body, o.conns.Load())
	}
}

func TestACertificateThatDoesNotVerifyIsRefused(t *testing.T) {
	good, file := certificate(t, time.Now().Add(time.Hour), "a.test")
	expired, expiredFile := certificate(t, time.Now().Add(-time.Hour), "a.test")
	for _, tt := range []struct {
		name, host, ca string
		server         *tls.Config
		kind           fault.Kind
	}{
		{"unknown authority", "a.test", "", &tls.Config{Certificates: []tls.Certificate{good}}, fault.TLSCertificateError},
		{"another name", "b.test", file, &tls.Config{Certificates: []tls.Certificate{good}}, fault.TLSCertificateError},
		{"an address it does not have", "127.0.0.1", file, &tls.Config{Certificates: []tls.Certificate{good}}, fault.TLSCertificateError},
		{"expired", "a.test", expiredFile, &tls.Config{Certificates: []tls.Certificate{expired}}, fault.TLSCertificateError},
		{"TLS 1.1", "a.test", file, &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, fault.TLSAlertReceived},
		{"another protocol alone", "a.test", file, &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: []string{"spdy/3"}}, fault.TLSAlertReceived},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := serveTLS(t, tt.server, func(_ int, c *tls.Conn, r *bufio.Reader) {
				if readRequestHead(r) != "" {
					t.Error("a request reached the server")
				}
			})
			_, port, _ := net.SplitHostPort(o.addr)
			tr := newTransport(t, func(c *Config) {
				c.CAFile, c.Hosts = tt.ca, map[string][]string{"a.test": {"127.0.0.1"}, "b.test": {"127.0.0.1"}}
			})
			wantFault(t, fails(t, tr, request(t, "GET", "https://"+tt.host+":"+port+"/", nil)), tt.kind, 502)
			if idle, used := tr.Stats(); idle+used != 0 {
				t.Error("the connection is kept")
			}
		})
	}
	plain := serve(t, func(_ int, c net.Conn, r *bufio.Reader) {
		r.ReadByte()
		io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
		r.ReadString('\n')
	})
	wantFault(t, fails(t, newTransport(t, nil), request(t, "GET", "https://"+plain.addr+"/", nil)), fault.TLSProtocolError, 502)
}

func TestAnUnaskedAnswerOverTLSEndsTheConnection_RFC9112_11_2(t *testing.T) {
	cert, file := certificate(t, time.Now().Add(time.Hour), "127.0.0.1")
	for name, later := range map[string]bool{"in one piece": false, "later": true} {
		kept := make(chan bool)
		o := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}}, func(number int, c *tls.Conn, r *bufio.Reader) {
			readRequestHead(r)
			if !later && number == 1 {
				// Two records in one segment: the second waits inside TLS.
				raw := c.NetConn().(*net.TCPConn)
				sc, _ := raw.SyscallConn()
				cork(sc, true)
				io.WriteString(c, ok("good"))
				io.WriteString(c, ok("evil"))
				cork(sc, false)
			} else {
				io.WriteString(c, ok("good"))
				if number == 1 {
					<-kept
					io.WriteString(c, ok("evil"))
				}
			}
			readRequestHead(r)
		})
		tr := newTransport(t, func(c *Config) { c.CAFile = file })
		url := "https://" + o.addr + "/"
		do(t, tr, request(t, "GET", url, nil))
		if later {
			close(kept)
			disturbed(t, tr)
		}
		if _, body := do(t, tr, request(t, "GET", url, nil)); body != "good" || o.conns.Load() != 2 {
			t.Errorf("%s: %q over %d connections", name, body, o.conns.Load())
		}
	}
}

func TestOnlyAClosureAlertEndsABodyOverTLS_RFC9112_9_8(t *testing.T) {
	cert, file := certificate(t, time.Now().Add(time.Hour), "127.0.0.1")
	for name, alert := range map[string]bool{"with the alert": true, "cut": false} {
		o := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}}, func(_ int, c *tls.Conn, r *bufio.Reader) {
			readRequestHead(r)
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nall of it")
			if alert {
				c.CloseWrite()
			}
		})
		res, err := newTransport(t, func(c *Config) { c.CAFile = file }).RoundTrip(request(t, "GET", "https://"+o.addr+"/", nil))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if string(body) != "all of it" || (err == nil) != alert || !alert && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %q, %v", name, body, err)
		}
	}
}

func TestACAFileThatHoldsNoCertificateIsAnError(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	os.WriteFile(empty, []byte("nothing"), 0o600)
	for _, file := range []string{empty, empty + ".missing"} {
		c := DefaultConfig()
		c.CAFile = file
		if _, err := New(c, nil); err == nil {
			t.Errorf("%s is taken", file)
		}
	}
}
