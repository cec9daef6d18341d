package pair

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"strings"
	"testing"
	"time"
)

// made is a self-signed pair in PEM that is good from one time to another.
func made(t *testing.T, from, to time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a.test"}, NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

func TestAPairIsReadOrSaysWhatIsWrongWithIt(t *testing.T) {
	now := time.Now()
	good, key := made(t, now.Add(-time.Hour), now.Add(time.Hour))
	other, _ := made(t, now.Add(-time.Hour), now.Add(time.Hour))
	old, oldKey := made(t, now.Add(-2*time.Hour), now.Add(-time.Hour))
	early, earlyKey := made(t, now.Add(time.Hour), now.Add(2*time.Hour))
	files := map[string]string{"good": good, "key": key, "other": other, "old": old, "old.key": oldKey, "early": early, "early.key": earlyKey,
		"text": "no PEM", "broken": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "chain": good + other}
	read := func(_, path string) ([]byte, error) {
		if s, ok := files[path]; ok {
			return []byte(s), nil
		}
		return nil, fs.ErrNotExist
	}
	for _, tt := range []struct {
		cert, key              string
		problem, warning, says string // the keys, and a part of the message
	}{
		{"good", "key", "", "", ""},
		{"chain", "key", "", "", ""},
		{"", "key", "tls.cert", "", "missing"},
		{"good", "", "tls.key", "", "missing"},
		{"nowhere", "key", "tls.cert", "", "not exist"},
		{"good", "nowhere", "tls.key", "", "not exist"},
		{"text", "key", "tls.cert", "", "no certificate"},
		{"broken", "key", "tls.cert", "", "x509"},
		{"other", "key", "tls.key", "", "is not the key of other"},
		{"good", "text", "tls.key", "", "no private key"},
		{"old", "old.key", "", "tls.cert", "expired"},
		{"early", "early.key", "", "tls.cert", "not valid before"},
	} {
		cert, problems, warnings := Files{Cert: tt.cert, Key: tt.key}.Load("tls", read, now)
		got, says := [2]string{}, ""
		for _, p := range problems {
			got[0], says = p.Key, says+p.Message
		}
		for _, w := range warnings {
			got[1], says = w.Key, says+w.Message
		}
		if got != [2]string{tt.problem, tt.warning} || !strings.Contains(says, tt.says) {
			t.Errorf("%s with %s: got %v, %q", tt.cert, tt.key, got, says)
		}
		if strings.Contains(says, "PRIVATE") {
			t.Errorf("%s with %s: the message holds a part of the key", tt.cert, tt.key)
		}
		if (len(cert.Certificate) > 0) != (tt.problem == "") {
			t.Errorf("%s with %s: %d certificates", tt.cert, tt.key, len(cert.Certificate))
		}
	}
	if _, problems := Pool("client_ca", "text", read); len(problems) != 1 || problems[0].Key != "client_ca" {
		t.Errorf("a pool of no certificates: %v", problems)
	}
	if pool, problems := Pool("client_ca", "chain", read); len(problems) > 0 || pool == nil {
		t.Errorf("a pool of two: %v", problems)
	}
	if _, problems := Pool("client_ca", "nowhere", func(string, string) ([]byte, error) { return nil, errors.New("no") }); len(problems) != 1 {
		t.Errorf("a pool that cannot be read: %v", problems)
	}
}

// What a TLS port is served with is what RFC 9325, Section 4.2, recommends.
func TestNothingWeakIsOffered_RFC9325(t *testing.T) {
	c := ServerConfig(nil, nil)
	if c.MinVersion != tls.VersionTLS12 || c.ClientAuth != tls.NoClientCert {
		t.Errorf("%+v", c)
	}
	for _, id := range c.CipherSuites {
		for _, s := range tls.InsecureCipherSuites() {
			if s.ID == id {
				t.Errorf("%s is offered", s.Name)
			}
		}
		if name := tls.CipherSuiteName(id); !strings.HasPrefix(name, "TLS_ECDHE_") || strings.Contains(name, "CBC") {
			t.Errorf("%s is offered", name)
		}
	}
	if c = ServerConfig(nil, x509.NewCertPool()); c.ClientAuth != tls.VerifyClientCertIfGiven {
		t.Error("a client certificate is not verified")
	}
}
