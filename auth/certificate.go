package auth

import "crypto/x509"

// CertificateUser returns the user whom a verified client certificate names:
// the subject's common name, or else the first e-mail address, or else the first
// DNS name, that can be a user's name; "" where none can.
func CertificateUser(c *x509.Certificate) string {
	names := append([]string{c.Subject.CommonName}, c.EmailAddresses...)
	for _, name := range append(names, c.DNSNames...) {
		if checkName(name) == nil {
			return name
		}
	}
	return ""
}
