package policy

import (
	"strings"
	"time"

	"fwdproxy/intercept"
	"fwdproxy/internal/problem"
)

// soon is how long before its end an authority is warned about.
const soon = 30 * 24 * time.Hour

// authorityNamed demands an authority where a rule intercepts, and does not
// look at it.
func (p *Policy) authorityNamed() (problems, warnings problem.List) {
	c := p.Config.Forward.Intercept
	if c.Enabled() || len(c.Validate()) > 0 {
		return nil, nil
	}
	for _, r := range p.Config.ACL.Intercepting() {
		problems.Add(r.Key+".action", `run "fwdproxy ca init" and write [forward.intercept] with ca_cert and ca_key`, "nothing can be intercepted without an authority")
	}
	return problems, nil
}

// authority reads the files of [forward.intercept], and holds the rules that
// intercept against them. Where none does, they are not read.
func (p *Policy) authority() (problems, warnings problem.List) {
	c := p.Config.Forward.Intercept
	rules := p.Config.ACL.Intercepting()
	if len(rules) == 0 || !c.Enabled() {
		return p.authorityNamed()
	}
	now := time.Now()
	if p.Authority, problems = intercept.Load(c, now); len(problems) > 0 {
		return problems, nil
	}
	p.Lists = append(p.Lists, c.CACert, c.CAKey)
	if end := p.Authority.Expires(); end.Sub(now) < soon {
		warnings.Add("forward.intercept.ca_cert", "make another with fwdproxy ca init, and hand it out before", "the authority expires on %s", end.Format(time.DateOnly))
	}
	if len(p.Authority.Constraints()) == 0 {
		return nil, warnings
	}
	for _, r := range rules {
		if !r.Bounded {
			warnings.Add(r.Key+".to", "name the domains in the rule, or make an authority without constraints", "the authority is good for %s alone; other hosts that the rule intercepts cannot be reached", strings.Join(p.Authority.Constraints(), ", "))
			continue
		}
		for _, d := range r.Domains {
			if !p.Authority.Covers(strings.TrimPrefix(d, ".")) {
				warnings.Add(r.Key+".to", "make an authority that covers it with fwdproxy ca init, or leave it out", "the authority is not good for %s, which cannot be reached", d)
			}
		}
	}
	return nil, warnings
}
