package intercept

import (
	"container/list"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// backdated is how far a client's clock may be behind ours.
	backdated = 24 * time.Hour
	// leafLife is how long a minted certificate is good for.
	leafLife = 7 * 24 * time.Hour
	// leafRest is what must be left of that when it is used.
	leafRest = 24 * time.Hour
	// maxLeaves bounds the certificates that are kept; each takes about 1 KiB.
	maxLeaves = 4096
)

// mints keeps what was minted, the latest used first.
type mints struct {
	flights singleflight.Group
	mu      sync.Mutex
	byHost  map[string]*list.Element
	recent  list.List // of *minted
	count   int       // that were minted at all
}

type minted struct {
	host string
	cert *tls.Certificate
}

// Certificate for the host, a canonical name or address, as of now: a kept one
// or a new one, of which many callers at once make one.
func (a *Authority) mint(host string, now time.Time) (*tls.Certificate, error) {
	if c := a.kept(host, now); c != nil {
		return c, nil
	}
	v, err, _ := a.flights.Do(host, func() (any, error) {
		if c := a.kept(host, now); c != nil {
			return c, nil
		}
		c, err := a.sign(host, now)
		if err == nil {
			a.keep(host, c)
		}
		return c, err
	})
	if err != nil {
		return nil, err
	}
	return v.(*tls.Certificate), nil
}

func (m *mints) kept(host string, now time.Time) *tls.Certificate {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.byHost[host]
	if e == nil {
		return nil
	}
	c := e.Value.(*minted).cert
	// One that ends with the authority is all that there is to have.
	life := c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)
	if now.Before(c.Leaf.NotBefore) || now.After(c.Leaf.NotAfter) || life == backdated+leafLife && now.After(c.Leaf.NotAfter.Add(-leafRest)) {
		return nil
	}
	m.recent.MoveToFront(e)
	return c
}

func (m *mints) keep(host string, c *tls.Certificate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count++
	if m.byHost == nil {
		m.byHost = map[string]*list.Element{}
	}
	if e := m.byHost[host]; e != nil {
		m.recent.Remove(e)
	}
	m.byHost[host] = m.recent.PushFront(&minted{host, c})
	for m.recent.Len() > maxLeaves {
		last := m.recent.Back()
		delete(m.byHost, m.recent.Remove(last).(*minted).host)
	}
}

// Minted returns how many certificates were minted.
func (m *mints) Minted() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

// sign makes a certificate for the host. All share one key, which is as old as
// the process: it never leaves its memory, and what a thief of that memory
// could do, the authority's own key there lets him do as well.
func (a *Authority) sign(host string, now time.Time) (*tls.Certificate, error) {
	switch {
	case !a.Covers(host):
		return nil, fmt.Errorf("the name constraints of the authority leave %s out", host)
	case now.After(a.cert.NotAfter):
		return nil, fmt.Errorf("the authority's certificate expired on %s", a.cert.NotAfter.Format(time.DateOnly))
	}
	template := &x509.Certificate{ // a serial number is made for it: 159 random bits
		NotBefore:             now.Add(-backdated).Truncate(time.Second),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	template.NotAfter = template.NotBefore.Add(backdated + leafLife)
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		template.IPAddresses = []net.IP{addr.AsSlice()}
	} else {
		template.DNSNames = []string{host}
	}
	if len(host) <= 64 { // its bound (RFC 5280, Appendix A.1)
		template.Subject = pkix.Name{CommonName: host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.leaf.Public(), a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: append([][]byte{der}, a.chain...), PrivateKey: a.leaf, Leaf: leaf}, nil
}
