package policy

import (
	"io"
	"os"
	"slices"
	"strconv"

	"fwdproxy/acl"
	"fwdproxy/auth"
	"fwdproxy/internal/problem"
)

// identities reads the files of [forward.auth], and holds what the rules name
// against them. A group that no file has is a problem, as a list is. A user who
// is not there is a warning: whoever takes a user out of the file must not be
// kept by a rule from having that applied.
func (p *Policy) identities() (problems, warnings problem.List) {
	c := p.Config.Forward.Auth
	named := p.Config.ACL.Identities()
	byCertificate := p.Config.Forward.TLS.ClientCA != ""
	if !c.Enabled() && !byCertificate {
		for _, n := range named {
			problems.Add(n.Key, `set forward.auth.htpasswd, forward.auth.tokens or forward.tls.client_ca`, "nobody can say who they are without [forward.auth] or client certificates")
		}
		return problems, nil
	}
	p.Auth, problems = auth.Load(c, func(path string) (io.ReadCloser, error) { return os.Open(path) })
	for _, path := range []string{c.Htpasswd, c.Tokens, c.Groups} {
		if path != "" {
			p.Lists = append(p.Lists, path)
		}
	}
	if p.Auth == nil {
		return problems, nil
	}
	for _, n := range named {
		switch {
		case n.Kind == acl.Group && !p.Auth.HasGroup(n.Name):
			hint := `write the group into the file of forward.auth.groups, be it empty as "` + n.Name + `:"`
			if near := problem.Nearest(n.Name, p.Auth.GroupNames()); near != "" {
				hint = "did you mean " + strconv.Quote("group:"+near) + "?"
			}
			problems.Add(n.Key, hint, "there is no group %q", n.Name)
		case n.Kind == acl.User && !byCertificate && !p.Auth.Knows(n.Name):
			warnings.Add(n.Key, "add the user, or take the name out of the rule", "there is no user %q in the files of [forward.auth]", n.Name)
		}
	}
	if byCertificate {
		return problems, slices.Clip(warnings) // anybody may have a certificate
	}
	for _, name := range p.Auth.Strangers() {
		warnings.Add("forward.auth.groups", "add the user, or take the name out of the group", "%q is in a group, and in no other file of [forward.auth]", name)
	}
	return problems, slices.Clip(warnings)
}
