package policy

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"time"

	"fwdproxy/internal/pair"
	"fwdproxy/internal/problem"
)

// certificates reads what [forward.tls] and [reverse.tls] name. The digest
// tells one content of the files from another.
func (p *Policy) certificates(now time.Time) (digest string, problems, warnings problem.List) {
	sum := sha256.New()
	read := func(key, path string) ([]byte, error) {
		p.Lists = append(p.Lists, path)
		content, err := os.ReadFile(path)
		fmt.Fprintf(sum, "%s %d ", key, len(content))
		sum.Write(content)
		return content, err
	}
	load := func(key string, f pair.Files) tls.Certificate {
		cert, more, warn := f.Load(key, read, now)
		problems, warnings = append(problems, more...), append(warnings, warn...)
		return cert
	}
	var clients *x509.CertPool
	f := p.Config.Forward.TLS
	if f.ClientCA != "" {
		var more problem.List
		clients, more = pair.Pool("forward.tls.client_ca", f.ClientCA, read)
		problems = append(problems, more...)
	}
	if f.Cert != "" || f.Key != "" {
		p.ForwardTLS = pair.ServerConfig([]tls.Certificate{load("forward.tls", pair.Files{Cert: f.Cert, Key: f.Key})}, clients)
	}
	var sites []tls.Certificate
	for i, files := range p.Config.Reverse.TLS.Certificates {
		sites = append(sites, load("reverse.tls.certificates["+strconv.Itoa(i)+"]", files))
	}
	if len(sites) > 0 {
		p.ReverseTLS = pair.ServerConfig(sites, nil)
	}
	return hex.EncodeToString(sum.Sum(nil)), problems, warnings
}
