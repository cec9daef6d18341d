package policy

import (
	"fmt"
	"os"
	"path/filepath"

	"fwdproxy/internal/problem"
)

// Cases is a file of requests with the verdicts that a policy must give.
type Cases struct {
	// Policy is the policy file, seen from the directory of this one.
	Policy string `toml:"policy"`
	// Cases are the requests.
	Cases []Case `toml:"case"`
}

// Case is one table [[case]].
type Case struct {
	// Name says what is tested, for the report; may be left out.
	Name string `toml:"name"`
	// From is the client's address; "127.0.0.1" when left out.
	From string `toml:"from"`
	// User is who asks, with the groups that the policy's files say; nobody when
	// left out.
	User string `toml:"user"`
	// Method is the request method; "GET" when left out.
	Method string `toml:"method"`
	// URL is what is asked for; host:port for CONNECT.
	URL string `toml:"url"`
	// Header holds request fields.
	Header map[string]string `toml:"header"`
	// At is the time of the request (RFC 3339); now when left out.
	At string `toml:"at"`
	// Listen is the address and port that the client connects to; the first that
	// the policy listens on when left out.
	Listen string `toml:"listen"`
	// Address is what the host's name resolves to, which a test does not ask for.
	Address string `toml:"address"`
	// Want is "allow", "deny", "intercept" (a CONNECT whose tunnel is decrypted) or "challenge" (407: the client is asked who it is).
	Want string `toml:"want"`
	// Rule is the name of the rule that must decide; any when left out.
	Rule string `toml:"rule"`
	// Modify names the tables of [[acl.modify]] that must apply to what is allowed,
	// in their order, [] for none; not looked at when left out.
	Modify *[]string `toml:"modify"`

	line int
}

// Line returns the line of the file that the case begins on.
func (c Case) Line() int { return c.line }

// LoadCases reads a file of cases. The error is an *Error where the content is
// at fault.
func LoadCases(file string) (*Cases, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the cases: %w", err)
	}
	c := &Cases{}
	problems := decode(string(text), c)
	if !isSyntax(problems) {
		problems = append(problems, onlyNew(problems, c.validate())...)
		lines := indexLines(string(text))
		locate(problems, lines)
		for i := range c.Cases {
			c.Cases[i].line = lines.find(fmt.Sprintf("case[%d]", i))
		}
	}
	if len(problems) > 0 {
		return nil, &Error{File: file, Problems: problems}
	}
	if !filepath.IsAbs(c.Policy) {
		c.Policy = filepath.Join(filepath.Dir(file), c.Policy)
	}
	return c, nil
}

func (c *Cases) validate() problem.List {
	var out problem.List
	if c.Policy == "" {
		out.Add("policy", `write policy = "policy.toml", seen from this file`, "there is no policy to test")
	}
	if len(c.Cases) == 0 {
		out.Add("case", `write [[case]] with "url" and "want"`, "there are no cases")
	}
	for i, one := range c.Cases {
		key := fmt.Sprintf("case[%d]", i)
		if one.URL == "" {
			out.Add(key+".url", `write url = "http://host/path", or "host:443" with method = "CONNECT"`, "the case has no URL")
		}
		if one.Want != "allow" && one.Want != "deny" && one.Want != "intercept" && one.Want != "challenge" {
			out.Add(key+".want", `write "allow", "deny", "intercept" or "challenge"`, "%q is not what a case can want", one.Want)
		}
	}
	return out
}
