package admin

import (
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"
)

//go:embed authority.html
var authorityText string

var authorityPage = template.Must(template.New("authority").Parse(authorityText))

// authority shows the certificate and how to make clients trust it.
func (a api) authority(w http.ResponseWriter, _ *http.Request) {
	cert, err := x509.ParseCertificate(a.o.Authority())
	view := struct {
		Name, Expires, Fingerprint string
		Domains                    []string
	}{}
	if err == nil { // else there is none
		view.Name, view.Expires = cert.Subject.CommonName, cert.NotAfter.Format(time.DateOnly)
		view.Fingerprint = fingerprint(cert.Raw)
		view.Domains = cert.PermittedDNSDomains
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = authorityPage.Execute(w, view)
}

// fingerprint is the SHA-256 of a certificate in DER as other programs show it.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}

// certificate serves the certificate in the form that encode gives it.
func (a api) certificate(kind string, encode func([]byte) []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		der := a.o.Authority()
		if der == nil {
			fail(w, http.StatusNotFound, "there is no authority: no rule intercepts")
			return
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Content-Disposition", `attachment; filename="fwdproxy-`+strings.TrimPrefix(r.URL.Path, "/")+`"`)
		_, _ = w.Write(encode(der))
	}
}

func (a api) intercepted(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, a.o.Intercept())
}
