package main

import (
	"cmp"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fwdproxy"
	"fwdproxy/acl"
	"fwdproxy/intercept"
	"fwdproxy/policy"
)

// Where an authority lies when the policy names no files.
const (
	defaultCACert = "ca.pem"
	defaultCAKey  = "ca.key"
)

func caCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Make and hand out the certificate authority for TLS interception",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(caInitCommand(), caExportCommand())
	return cmd
}

func caInitCommand() *cobra.Command {
	var file, cert, key, name string
	var domains []string
	var years int
	var unconstrained bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make an authority: a certificate for clients to trust, and its key",
		Long: `Make a certificate authority (ECDSA P-256) in whose name TLS is intercepted, into
the files that the policy's [forward.intercept] names, else ca.pem and ca.key
here. Files that are there already are never overwritten.

Where all rules with action = "intercept" name domains, in "to" or in lists
without files, the certificate is constrained to them: whoever steals the key
can pose as nothing else to your clients. Other domains to constrain it to are
named with --domain; --unconstrained makes one that is good for every site.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if years < 1 || years > 30 {
				return fmt.Errorf("--years %d: write a number from 1 to 30", years)
			}
			if len(domains) > 0 && unconstrained {
				return errors.New("--domain and --unconstrained contradict each other; leave one out")
			}
			p, err := caPolicy(file)
			if err != nil {
				return err
			}
			c := p.Config.Forward.Intercept
			cert, key := cmp.Or(cert, c.CACert, defaultCACert), cmp.Or(key, c.CAKey, defaultCAKey)
			switch {
			case len(domains) > 0:
				for _, d := range domains {
					if !acl.IsDomain(d) {
						return fmt.Errorf("--domain %q is not a domain; write for example example.com", d)
					}
				}
			case !unconstrained:
				domains = boundedDomains(p.Config.ACL.Intercepting())
			}
			now := time.Now()
			if name == "" {
				name = "fwdproxy CA " + now.Format(time.DateOnly)
				if host, err := os.Hostname(); err == nil {
					name += " on " + host
				}
			}
			if err := intercept.Create(cert, key, name, domains, now, time.Until(now.AddDate(years, 0, 0))); err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "%s: %q, %s\n%s: its key, which must stay secret\n", cert, name, goodFor(domains), key)
			if !c.Enabled() {
				fmt.Fprintf(w, "\nThe policy needs:\n\n  [forward.intercept]\n  ca_cert = %q\n  ca_key = %q\n", cert, key)
			}
			fmt.Fprintf(w, "\nClients have to trust %s: /ca on the admin port says how.\n", cert)
			return nil
		},
	}
	policyFlag(cmd, &file)
	cmd.Flags().StringVar(&cert, "cert", "", "`file` for the certificate (default what the policy names, else ca.pem)")
	cmd.Flags().StringVar(&key, "key", "", "`file` for the key (default what the policy names, else ca.key)")
	cmd.Flags().StringVar(&name, "name", "", "`name` of the authority, which clients show (default with the date and this machine's name)")
	cmd.Flags().StringArrayVar(&domains, "domain", nil, "`domain` that the authority is good for with all below it, and no other; may be given several times")
	cmd.Flags().BoolVar(&unconstrained, "unconstrained", false, "make an authority that is good for every site, whatever the rules say")
	cmd.Flags().IntVar(&years, "years", 5, "how many `years` it is good for")
	return cmd
}

// caPolicy loads the policy as far as an authority that is not there yet lets
// it.
func caPolicy(named string) (*policy.Policy, error) {
	file, err := policy.Find(named)
	if err != nil {
		return nil, err
	}
	p, err := policy.LoadRules(file, fwdproxy.DefaultPolicy)
	if err != nil {
		return nil, fmt.Errorf("the policy says what to constrain the authority to, and has problems:\n%w", err)
	}
	return p, nil
}

// boundedDomains returns the domains that the rules intercept, none where one
// of them is not bounded.
func boundedDomains(rules []acl.Intercepting) (domains []string) {
	seen := map[string]bool{}
	for _, r := range rules {
		if !r.Bounded {
			return nil
		}
		for _, d := range r.Domains {
			d = strings.ToLower(strings.TrimPrefix(d, "."))
			if !seen[d] {
				seen[d] = true
				domains = append(domains, d)
			}
		}
	}
	return domains
}

func goodFor(domains []string) string {
	if len(domains) == 0 {
		return "good for every site: whoever has the key can pose as any of them to your clients"
	}
	return "good for these and what is below them alone: " + strings.Join(domains, ", ")
}

func caExportCommand() *cobra.Command {
	var file, cert, out string
	var der bool
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the authority's certificate for clients, never its key",
		Long: `Write the certificate that clients have to trust to standard output or to a file:
in PEM form, or with --der in the form that Windows and Android like.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cert == "" {
				p, err := caPolicy(file)
				if err != nil {
					return err
				}
				cert = cmp.Or(p.Config.Forward.Intercept.CACert, defaultCACert)
			}
			raw, err := intercept.ReadCertificate(cert)
			if err != nil {
				return fmt.Errorf("%w; make an authority with: fwdproxy ca init", err)
			}
			text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
			if der {
				text = raw
			}
			if out != "" {
				return os.WriteFile(out, text, 0o644)
			}
			_, err = io.Copy(cmd.OutOrStdout(), strings.NewReader(string(text)))
			return err
		},
	}
	policyFlag(cmd, &file)
	cmd.Flags().StringVar(&cert, "cert", "", "`file` of the certificate (default what the policy names, else ca.pem)")
	cmd.Flags().StringVarP(&out, "out", "o", "", "`file` to write (default standard output)")
	cmd.Flags().BoolVar(&der, "der", false, "in DER form in place of PEM")
	return cmd
}
