// Package pair reads certificates with their keys, for what TLS is served with.
//
// It opens no file by itself, and its problems hold nothing of a key.
package pair

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"time"

	"fwdproxy/internal/problem"
)

// Files names a certificate and its key.
type Files struct {
	// Cert is a PEM file, seen from the policy's folder, with the certificate and those between it and the root.
	Cert string `toml:"cert"`
	// Key is a PEM file with the certificate's private key, unencrypted.
	Key string `toml:"key"`
}

// Read returns the content of a file, with the key that names it for problems.
type Read func(key, path string) ([]byte, error)

// Load reads the pair; key is the table that names it. What is wrong with its
// time is a warning: a proxy that starts is worth more than one that does not.
func (f Files) Load(key string, read Read, now time.Time) (cert tls.Certificate, problems, warnings problem.List) {
	var chain, private []byte
	for _, file := range []struct {
		key, path string
		into      *[]byte
	}{{key + ".cert", f.Cert, &chain}, {key + ".key", f.Key, &private}} {
		if file.path == "" {
			problems.Add(file.key, "name a PEM file", "a certificate and its key go together, and this is missing")
			continue
		}
		content, err := read(file.key, file.path)
		if err != nil {
			problems.Add(file.key, "make it readable for fwdproxy", "%v", err)
		}
		*file.into = content
	}
	if len(problems) > 0 {
		return cert, problems, nil
	}
	if _, err := Certificates(chain); err != nil {
		problems.Add(key+".cert", "write the certificate in PEM, then those that signed it, as in -----BEGIN CERTIFICATE-----", "%s: %v", f.Cert, err)
		return cert, problems, nil
	}
	cert, err := tls.X509KeyPair(chain, private)
	switch {
	case err != nil && strings.Contains(err.Error(), "does not match"):
		problems.Add(key+".key", "name the key that the certificate was made for; the server's own certificate comes first in its file", "%s is not the key of %s", f.Key, f.Cert)
	case err != nil:
		problems.Add(key+".key", "write the key in PEM without a password, as openssl pkey -in OLD -out NEW does", "%s: no private key can be read from it", f.Key)
	case now.After(cert.Leaf.NotAfter):
		warnings.Add(key+".cert", "renew it; clients refuse it", "%s expired on %s", f.Cert, cert.Leaf.NotAfter.UTC().Format(time.DateOnly))
	case now.Before(cert.Leaf.NotBefore):
		warnings.Add(key+".cert", "check the clock; clients refuse it until then", "%s is not valid before %s", f.Cert, cert.Leaf.NotBefore.UTC().Format(time.DateTime))
	}
	return cert, problems, warnings
}

// Pool reads the certificates of those whose signature counts.
func Pool(key, path string, read Read) (*x509.CertPool, problem.List) {
	var problems problem.List
	content, err := read(key, path)
	if err != nil {
		problems.Add(key, "make it readable for fwdproxy", "%v", err)
		return nil, problems
	}
	all, err := Certificates(content)
	if err != nil {
		problems.Add(key, "write the certificates in PEM, as in -----BEGIN CERTIFICATE-----", "%s: %v", path, err)
		return nil, problems
	}
	pool := x509.NewCertPool()
	for _, c := range all {
		pool.AddCert(c)
	}
	return pool, nil
}

// Certificates reads every certificate of a PEM text, and finds none an error.
func Certificates(text []byte) (all []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errNone
	}
	return all, nil
}

var errNone = errors.New("there is no certificate in it")

// ServerConfig returns what a TLS port is served with: TLS 1.2 and later,
// forward secrecy and authenticated encryption alone, HTTP/2 and HTTP/1.1. The
// first certificate that fits the server name that a client sends is used, and
// the first of all where none does. clients, unless nil, are those who may sign
// client certificates; a client need not have one.
func ServerConfig(certs []tls.Certificate, clients *x509.CertPool) *tls.Config {
	c := &tls.Config{
		Certificates: certs,
		MinVersion:   tls.VersionTLS12,
		CipherSuites: suites,
		NextProtos:   []string{"h2", "http/1.1"},
	}
	if clients != nil {
		c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, clients
	}
	return c
}

// suites are those of TLS 1.2 that RFC 9325, Section 4.2, recommends, with
// ChaCha20; TLS 1.3 has no others.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}
