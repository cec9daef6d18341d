package intercept

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"fwdproxy/internal/pair"
	"fwdproxy/internal/problem"
)

// Authority is a certificate authority that can mint. It is safe for
// concurrent use.
type Authority struct {
	cert  *x509.Certificate
	key   crypto.Signer
	chain [][]byte // what is sent behind a leaf, in DER
	leaf  *ecdsa.PrivateKey
	mints
}

// Load reads the authority that the table names, as of now. Problems carry
// their keys.
func Load(c Config, now time.Time) (*Authority, problem.List) {
	var p problem.List
	chain := loadCert(&p, c.CACert, now)
	key := loadKey(&p, c.CAKey)
	if len(p) > 0 {
		return nil, p
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(chain[0].PublicKey) {
		p.Add("forward.intercept.ca_key", "name the two files that were made together", "the key in %s is not that of the certificate in %s", c.CAKey, c.CACert)
		return nil, p
	}
	a, err := newAuthority(chain, key)
	if err != nil {
		p.Add("forward.intercept.ca_cert", "", "%v", err)
		return nil, p
	}
	return a, nil
}

func newAuthority(chain []*x509.Certificate, key crypto.Signer) (*Authority, error) {
	leaf, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a := &Authority{cert: chain[0], key: key, leaf: leaf}
	for _, c := range chain {
		// A client has its root, or does not trust it.
		if !bytes.Equal(c.RawIssuer, c.RawSubject) {
			a.chain = append(a.chain, c.Raw)
		}
	}
	return a, nil
}

func loadCert(p *problem.List, path string, now time.Time) (chain []*x509.Certificate) {
	const key = "forward.intercept.ca_cert"
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		p.Add(key, "make it with: fwdproxy ca init", "%v", err)
		return nil
	}
	if err != nil {
		p.Add(key, "make it readable for fwdproxy", "%v", err)
		return nil
	}
	chain, err = pair.Certificates(text)
	switch {
	case err != nil:
		p.Add(key, "write the certificate in PEM form", "%s: %v", path, err)
	case !chain[0].BasicConstraintsValid || !chain[0].IsCA:
		p.Add(key, "name the certificate of an authority, first in the file", "the certificate in %s is not a CA's, and no client would take what it signs", path)
	case chain[0].KeyUsage != 0 && chain[0].KeyUsage&x509.KeyUsageCertSign == 0:
		p.Add(key, "make another with: fwdproxy ca init", "the certificate in %s may not sign certificates (its key usage)", path)
	case now.After(chain[0].NotAfter):
		p.Add(key, "make another with: fwdproxy ca init", "the certificate in %s expired on %s", path, chain[0].NotAfter.Format(time.DateOnly))
	case now.Before(chain[0].NotBefore):
		p.Add(key, "set the clock right, or make another with: fwdproxy ca init", "the certificate in %s is not valid before %s", path, chain[0].NotBefore.Format(time.DateOnly))
	}
	return chain
}

func loadKey(p *problem.List, path string) crypto.Signer {
	const key = "forward.intercept.ca_key"
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		p.Add(key, "make it with: fwdproxy ca init", "%v", err)
		return nil
	}
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		p.Add(key, "run: chmod 600 "+path, "%s can be read by others (mode %04o), who could then pose as any site to your clients", path, info.Mode().Perm())
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		p.Add(key, "make it readable for fwdproxy", "%v", err)
		return nil
	}
	signer, err := parseKey(text)
	if err != nil {
		p.Add(key, "write the private key in PEM form, without a passphrase", "%s: %v", path, err)
	}
	return signer
}

func parseKey(text []byte) (crypto.Signer, error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, errors.New("there is no private key in it")
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
		return nil, errors.New("the key cannot sign")
	}
}

// Certificate returns the authority's certificate, in DER.
func (a *Authority) Certificate() []byte { return slices.Clone(a.cert.Raw) }

// Same reports whether b signs with the same key in the same name.
func (a *Authority) Same(b *Authority) bool { return a.cert.Equal(b.cert) }

// Expires returns the end of the authority's certificate.
func (a *Authority) Expires() time.Time { return a.cert.NotAfter }

// Covers reports whether the certificate's name constraints let it speak for
// the host (RFC 5280, Section 4.2.1.10).
func (a *Authority) Covers(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		ip := net.IP(addr.AsSlice())
		in := func(ranges []*net.IPNet) bool {
			return slices.ContainsFunc(ranges, func(n *net.IPNet) bool { return n.Contains(ip) })
		}
		return !in(a.cert.ExcludedIPRanges) && (len(a.cert.PermittedIPRanges) == 0 || in(a.cert.PermittedIPRanges))
	}
	in := func(domains []string) bool {
		return slices.ContainsFunc(domains, func(d string) bool {
			below := strings.HasPrefix(d, ".")
			d = strings.ToLower(strings.TrimPrefix(d, "."))
			return d == "" || host == d && !below || strings.HasSuffix(host, "."+d)
		})
	}
	return !in(a.cert.ExcludedDNSDomains) && (len(a.cert.PermittedDNSDomains) == 0 || in(a.cert.PermittedDNSDomains))
}

// Constraints returns the domains that the certificate is good for, nil where
// it is good for all.
func (a *Authority) Constraints() []string { return a.cert.PermittedDNSDomains }

// PEM returns a certificate in PEM form.
func PEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// ReadCertificate returns the first certificate of a PEM file, in DER.
func ReadCertificate(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	chain, err := pair.Certificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return chain[0].Raw, nil
}
