package intercept

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fwdproxy/internal/unit"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// create makes an authority in a folder of its own, and returns its table.
func create(t *testing.T, life time.Duration, domains ...string) Config {
	t.Helper()
	dir := t.TempDir()
	c := Config{CACert: filepath.Join(dir, "ca.pem"), CAKey: filepath.Join(dir, "ca.key")}
	if err := Create(c.CACert, c.CAKey, "Test CA", domains, now, life); err != nil {
		t.Fatal(err)
	}
	return c
}

func load(t *testing.T, c Config) *Authority {
	t.Helper()
	a, problems := Load(c, now)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return a
}

// verify holds a minted certificate against the authority as a client does.
func verify(a *Authority, c *tls.Certificate, host string, at time.Time) error {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	_, err := c.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err
}

func TestTheKeyIsItsOwnersAloneAndNothingIsOverwritten(t *testing.T) {
	c := create(t, time.Hour)
	info, err := os.Stat(c.CAKey)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	before, _ := os.ReadFile(c.CAKey)
	other := filepath.Join(t.TempDir(), "new")
	for _, pair := range [][2]string{{c.CACert, c.CAKey}, {other, c.CAKey}, {c.CACert, other}} {
		if err := Create(pair[0], pair[1], "x", nil, now, time.Hour); err == nil || !strings.Contains(err.Error(), "not overwritten") {
			t.Errorf("%v: %v", pair, err)
		}
	}
	if after, _ := os.ReadFile(c.CAKey); string(after) != string(before) {
		t.Error("the key was overwritten")
	}
	if _, err := os.Stat(other); err == nil {
		t.Error("half a pair was written")
	}
}

func TestMistakesInTheFilesAreReportedWithTheirKeys(t *testing.T) {
	good, another := create(t, time.Hour), create(t, time.Hour)
	expired, open := create(t, -time.Minute), create(t, time.Hour)
	if err := os.Chmod(open.CAKey, 0o640); err != nil {
		t.Fatal(err)
	}
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("not PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	leafFile := filepath.Join(t.TempDir(), "leaf.pem")
	leaf, err := load(t, good).mint("a.test", now)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(leafFile, PEM(leaf.Leaf.Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		c         Config
		key, says string
	}{
		"no certificate":         {Config{CACert: "/nowhere/ca.pem", CAKey: good.CAKey}, "ca_cert", "no such file"},
		"no key":                 {Config{CACert: good.CACert, CAKey: "/nowhere/ca.key"}, "ca_key", "no such file"},
		"another's key":          {Config{CACert: good.CACert, CAKey: another.CAKey}, "ca_key", "is not that of the certificate"},
		"expired":                {expired, "ca_cert", "expired on"},
		"a key that others read": {open, "ca_key", "can be read by others"},
		"a certificate as key":   {Config{CACert: good.CACert, CAKey: leafFile}, "ca_key", "no private key"},
		"no PEM":                 {Config{CACert: garbage, CAKey: good.CAKey}, "ca_cert", "no certificate in it"},
		"a leaf":                 {Config{CACert: leafFile, CAKey: good.CAKey}, "ca_cert", "not a CA's"},
	} {
		a, p := Load(tt.c, now)
		if a != nil || len(p) != 1 || p[0].Key != "forward.intercept."+tt.key || !strings.Contains(p[0].String(), tt.says) {
			t.Errorf("%s: %v", name, p)
		}
	}
	if _, p := Load(good, now.Add(-48*time.Hour)); len(p) != 1 || !strings.Contains(p[0].String(), "not valid before") {
		t.Errorf("a clock that is wrong: %v", p)
	}
}

func TestTheTableIsCheckedWithoutTheFiles(t *testing.T) {
	for _, tt := range []struct {
		c   Config
		key string
	}{
		{Config{}, ""}, {Config{CACert: "a", CAKey: "b"}, ""}, {Config{CACert: "a"}, "ca_key"}, {Config{CAKey: "a"}, "ca_cert"},
		{Config{PassRejected: unit.Duration(-1)}, "pass_rejected"}, {Config{PassRejected: unit.Duration(8 * 24 * time.Hour)}, "pass_rejected"},
	} {
		p := tt.c.Validate()
		if (tt.key == "") != (len(p) == 0) || len(p) > 0 && p[0].Key != "forward.intercept."+tt.key {
			t.Errorf("%+v: %v", tt.c, p)
		}
	}
}

func TestAMintedCertificateIsForItsHostAlone(t *testing.T) {
	a := load(t, create(t, 365*24*time.Hour))
	long := strings.Repeat("a", 60) + ".long.test"
	for _, host := range []string{"a.test", "xn--bcher-kva.test", "a_b.test", long, "192.0.2.1", "2001:db8::1"} {
		c, err := a.mint(host, now)
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(a, c, host, now); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		for _, at := range []time.Time{now.Add(-23 * time.Hour), now.Add(6 * 24 * time.Hour)} {
			if err := verify(a, c, host, at); err != nil {
				t.Errorf("%s with a clock at %v: %v", host, at, err)
			}
		}
		for _, other := range []string{"b.test", "www." + host, "192.0.2.2"} {
			if verify(a, c, other, now) == nil {
				t.Errorf("%s's certificate is good for %s", host, other)
			}
		}
		if c.Leaf.IsCA || verify(a, c, host, now.Add(8*24*time.Hour)) == nil || len(c.Certificate) != 1 {
			t.Errorf("%s: %+v", host, c.Leaf)
		}
	}
}

func TestALeafNeverOutlivesItsAuthority(t *testing.T) {
	a := load(t, create(t, time.Hour))
	c, err := a.mint("a.test", now)
	if err != nil || c.Leaf.NotAfter.After(a.Expires()) {
		t.Errorf("%v, %v", c.Leaf.NotAfter, err)
	}
	if again, _ := a.mint("a.test", now.Add(time.Minute)); again != c {
		t.Error("what ends with the authority is made anew for every handshake")
	}
	if _, err := a.mint("a.test", now.Add(2*time.Hour)); err == nil {
		t.Error("an authority that has expired signs")
	}
}

func TestOneMintPerHostHoweverManyAsk(t *testing.T) {
	a := load(t, create(t, 365*24*time.Hour))
	var wg sync.WaitGroup
	certs := make([]*tls.Certificate, 100)
	for i := range certs {
		wg.Go(func() { certs[i], _ = a.mint("a.test", now) })
	}
	wg.Wait()
	for _, c := range certs {
		if c == nil || c != certs[0] {
			t.Fatal("not all got the same certificate")
		}
	}
	if a.Minted() != 1 {
		t.Errorf("minted %d times", a.Minted())
	}
	if later, _ := a.mint("a.test", now.Add(6*24*time.Hour+time.Minute)); later == certs[0] {
		t.Error("one that ends within a day is used still")
	}
}

func TestSerialsAreUniqueAndTheKeptAreBounded(t *testing.T) {
	a := load(t, create(t, 365*24*time.Hour))
	seen := map[string]bool{}
	for i := range maxLeaves + 10 {
		c, err := a.mint(fmt.Sprintf("h%d.test", i), now)
		if err != nil {
			t.Fatal(err)
		}
		if s := c.Leaf.SerialNumber; seen[s.String()] || s.BitLen() < 64 || s.Sign() <= 0 {
			t.Fatalf("serial %v", s)
		} else {
			seen[s.String()] = true
		}
	}
	if len(a.byHost) != maxLeaves || a.recent.Len() != maxLeaves || a.byHost["h0.test"] != nil || a.byHost["h10.test"] == nil {
		t.Errorf("%d are kept", len(a.byHost))
	}
}

func TestNameConstraintsHoldForAllThatIsMinted_RFC5280_4_2_1_10(t *testing.T) {
	a := load(t, create(t, time.Hour, ".a.test", "b.test"))
	for host, good := range map[string]bool{"a.test": true, "x.a.test": true, "b.test": true, "c.test": false, "xa.test": false, "192.0.2.1": false, "2001:db8::1": false} {
		c, err := a.mint(host, now)
		if a.Covers(host) != good || (err == nil) != good {
			t.Errorf("%s: covered %v, %v", host, a.Covers(host), err)
		}
		if err == nil && verify(a, c, host, now) != nil {
			t.Errorf("%s: %v", host, verify(a, c, host, now))
		}
	}
	// Who steals the key cannot make one either that a client takes.
	wide := &Authority{cert: &x509.Certificate{}, key: a.key, leaf: a.leaf}
	*wide.cert = *a.cert
	wide.cert.PermittedDNSDomains, wide.cert.ExcludedIPRanges = nil, nil
	for _, host := range []string{"bank.test", "192.0.2.1"} {
		c, err := wide.mint(host, now)
		if err != nil {
			t.Fatal(err)
		}
		if verify(a, c, host, now) == nil {
			t.Errorf("a client takes %s", host)
		}
	}
}

func TestAnIntermediateSendsItsChain(t *testing.T) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	make := func(n int64, name string, parent *x509.Certificate, signer *ecdsa.PrivateKey, pub *ecdsa.PrivateKey) *x509.Certificate {
		tm := &x509.Certificate{SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		if parent == nil {
			parent = tm
		}
		der, err := x509.CreateCertificate(rand.Reader, tm, parent, pub.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		c, _ := x509.ParseCertificate(der)
		return c
	}
	rootKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	root := make(1, "root", nil, rootKey, rootKey)
	middle := make(2, "middle", root, rootKey, key)
	c := Config{CACert: filepath.Join(t.TempDir(), "ca.pem"), CAKey: filepath.Join(t.TempDir(), "ca.key")}
	der, _ := x509.MarshalECPrivateKey(key)
	if err := os.WriteFile(c.CAKey, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.CACert, append(PEM(middle.Raw), PEM(root.Raw)...), 0o600); err != nil {
		t.Fatal(err)
	}
	leaf, err := load(t, c).mint("a.test", now)
	if err != nil || len(leaf.Certificate) != 2 || string(leaf.Certificate[1]) != string(middle.Raw) {
		t.Errorf("sent %d certificates: %v", len(leaf.Certificate), err)
	}
}

// handshake lets a client with the settings meet the authority.
func handshake(t *testing.T, a *Authority, host string, client *tls.Config) (server, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		if client == nil {
			done <- nil
			return
		}
		done <- tls.Client(c, client).Handshake()
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, server = a.Handshake(ctx, c, host, now)
	c.Close()
	return server, <-done
}

func TestAClientThatDoesNotTakeTheCertificateIsTold(t *testing.T) {
	a := load(t, create(t, 365*24*time.Hour))
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	clock := func() time.Time { return now }
	for name, tt := range map[string]struct {
		client *tls.Config
		host   string
		reason string // "" where there is no rejection
		fine   bool
	}{
		"trusts us":       {&tls.Config{RootCAs: roots, ServerName: "a.test", Time: clock}, "a.test", "", true},
		"does not":        {&tls.Config{RootCAs: x509.NewCertPool(), ServerName: "a.test", Time: clock}, "a.test", "unknown_ca", false},
		"TLS 1.2":         {&tls.Config{RootCAs: x509.NewCertPool(), ServerName: "a.test", Time: clock, MaxVersion: tls.VersionTLS12}, "a.test", "unknown_ca", false},
		"pins":            {&tls.Config{RootCAs: roots, ServerName: "a.test", Time: clock, VerifyConnection: func(tls.ConnectionState) error { return fmt.Errorf("pinned") }}, "a.test", "bad_certificate", false},
		"too old a TLS":   {&tls.Config{RootCAs: roots, ServerName: "a.test", Time: clock, MaxVersion: tls.VersionTLS11}, "a.test", "", false},
		"HTTP/2 alone":    {&tls.Config{RootCAs: roots, ServerName: "a.test", Time: clock, NextProtos: []string{"spdy/3"}}, "a.test", "", false},
		"leaves at once":  {nil, "a.test", "", false},
		"another address": {&tls.Config{RootCAs: roots, ServerName: "192.0.2.1", Time: clock}, "192.0.2.1", "", true},
	} {
		server, client := handshake(t, a, tt.host, tt.client)
		rejection, is := server.(*Rejection)
		switch {
		case (server == nil) != tt.fine:
			t.Errorf("%s: %v, the client %v", name, server, client)
		case is != (tt.reason != ""):
			t.Errorf("%s: %v, the client %v", name, server, client)
		case is && rejection.Reason != tt.reason && rejection.Reason != "bad_certificate":
			t.Errorf("%s: %s", name, rejection.Reason)
		}
	}
}

func TestWhoRejectsIsCountedWithinBounds(t *testing.T) {
	var r Rejected
	ann, bob := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	if !r.Note(ann, "pins.test", "unknown_ca", now) || r.Note(bob, "pins.test", "closed", now.Add(time.Second)) {
		t.Error("which is the first is not told")
	}
	for i := range 3 * maxRejected {
		r.Note(ann, fmt.Sprintf("h%d.test", i), "closed", now.Add(time.Duration(i)*time.Second))
	}
	list := r.List()
	if len(list) > maxRejected+1 || len(r.pairs) > maxRejected || list[0].Host != Other || list[1].Host != "pins.test" || list[1].Count != 2 || !strings.Contains(list[1].Suggest, `"pins.test"`) {
		t.Errorf("%d hosts, %d pairs, %+v", len(list), len(r.pairs), list[:2])
	}
	late := now.Add(3 * maxRejected * time.Second)
	last := fmt.Sprintf("h%d.test", 3*maxRejected-1)
	if !r.Passes(ann, last, time.Minute, late) || r.Passes(bob, last, time.Minute, late) || r.Passes(ann, last, 0, late) || r.Passes(ann, last, time.Minute, late.Add(time.Minute)) {
		t.Error("it passes for another client, for another time, or without being asked to")
	}
}

func BenchmarkMint(b *testing.B) {
	dir := b.TempDir()
	c := Config{CACert: filepath.Join(dir, "ca.pem"), CAKey: filepath.Join(dir, "ca.key")}
	if err := Create(c.CACert, c.CAKey, "Test CA", nil, now, time.Hour); err != nil {
		b.Fatal(err)
	}
	a, problems := Load(c, now)
	if len(problems) > 0 {
		b.Fatal(problems)
	}
	for b.Loop() {
		if _, err := a.sign("a.test", now); err != nil {
			b.Fatal(err)
		}
	}
}
