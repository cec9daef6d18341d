package upstream

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// load reads the files; a nil config is of a pool without TLS.
func (c *PeerTLSConfig) load() (*tls.Config, error) {
	if c == nil {
		return nil, nil
	}
	out := &tls.Config{ServerName: c.ServerName, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.ca: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca: there is no certificate in %s", c.CA)
		}
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("tls.cert: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

// tlsFor is the TLS of a connection to the peer.
func (p *pool) tlsFor(t *Transport, peer *peer) *tls.Config {
	c := p.tls.Clone()
	if c.RootCAs == nil {
		c.RootCAs = t.roots
	}
	if c.ServerName == "" {
		c.ServerName = cmp.Or(peer.host, peer.target.Host)
	}
	return c
}
