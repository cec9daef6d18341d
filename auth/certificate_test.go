package auth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
)

func TestACertificateNamesAUserByItsCommonNameOrAnotherThatCanBeOne(t *testing.T) {
	for _, row := range []struct {
		cn    string
		email []string
		dns   []string
		want  string
	}{
		{"alice", []string{"a@example.com"}, []string{"a.example"}, "alice"},
		{"Alice Example", []string{"a@example.com"}, nil, "a@example.com"},
		{"", nil, []string{"a.example", "b.example"}, "a.example"},
		{"a:b", []string{"x y"}, []string{"a.example"}, "a.example"},
		{"a\nb", nil, nil, ""},
		{"", nil, nil, ""},
	} {
		c := &x509.Certificate{Subject: pkix.Name{CommonName: row.cn}, EmailAddresses: row.email, DNSNames: row.dns}
		if got := CertificateUser(c); got != row.want {
			t.Errorf("%+v: %q", row, got)
		}
	}
}
