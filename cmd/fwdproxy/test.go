package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"fwdproxy"
	"fwdproxy/acl"
	"fwdproxy/internal/fault"
	"fwdproxy/policy"
)

func testCommand() *cobra.Command {
	var asReverse bool
	cmd := &cobra.Command{
		Use:   "test FILE...",
		Short: "Hold policies against test cases, and name the rules that no case reaches",
		Long: `Hold each file's policy against its cases, by the code that serves requests; no
name is resolved and nothing is sent. The exit code is 1 if a case gets another
verdict than it wants. A file of cases:

  policy = "policy.toml"             # seen from this file
  [[case]]
  name = "no social media at noon"
  from = "10.20.0.7"                 # user, method, header, listen as well
  url = "http://www.facebook.com/"
  at = "2026-01-07T12:00:00+01:00"
  address = "203.0.113.9"            # what the name resolves to
  want = "deny"
  rule = "no social media"
  # of what is allowed, modify = ["name"] says which tables of [[acl.modify]] apply`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("%s takes at least one FILE; see %s --help", c.CommandPath(), c.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			failed := false
			for _, file := range args {
				ok, err := testFile(cmd.OutOrStdout(), file, modeOf(asReverse))
				var bad *policy.Error
				if errors.As(err, &bad) {
					fmt.Fprintln(cmd.ErrOrStderr(), bad)
				} else if err != nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "%s: %v\n", file, err)
				}
				failed = failed || !ok
			}
			if failed {
				return reportedError{}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asReverse, "reverse", false, "test the [reverse] side")
	return cmd
}

// testFile reports on w whether the file's cases get what they want.
func testFile(w io.Writer, file, mode string) (ok bool, err error) {
	cases, err := policy.LoadCases(file)
	if err != nil {
		return false, err
	}
	p, err := policy.LoadWithoutCA(cases.Policy, fwdproxy.DefaultPolicy)
	if err != nil {
		return false, err
	}
	e, done, err := offlineEngine(p, mode)
	if err != nil {
		return false, err
	}
	defer done()
	reached, failures := map[string]bool{}, 0
	for i, c := range cases.Cases {
		got, err := e.try(c)
		if err != nil {
			return false, fmt.Errorf("line %d: %w", c.Line(), err)
		}
		if got.verdict != verdictChallenge { // which only asks
			reached[got.rule], reached[got.shadow] = true, true
		}
		if differs := got.differs(c); differs != "" {
			failures++
			got.report(w, file, i, c, differs)
		}
	}
	var unreached []string
	for _, r := range p.ACL.Rules() {
		if !reached[r.Name] {
			unreached = append(unreached, strconv.Quote(r.Name))
		}
	}
	n := len(cases.Cases)
	fmt.Fprintf(w, "%s: %d case%s, %d failed\n", file, n, plural(n), failures)
	if len(unreached) > 0 {
		fmt.Fprintf(w, "%s: no case reaches %s\n", file, strings.Join(unreached, ", "))
	}
	return failures == 0, nil
}

// tried is what a case came to.
type tried struct {
	verdict, rule, shadow string
	steps                 []acl.Step
	modify                []string // the tables that apply to what is allowed
}

// try asks for the verdict as the front door would.
func (e *engine) try(c policy.Case) (tried, error) {
	l := e.current.Load()
	var fields []string
	for name, value := range c.Header {
		fields = append(fields, name+": "+value)
	}
	slices.Sort(fields)
	t, _, r, err := e.question(l, url.Values{"url": {c.URL}, "from": {c.From}, "user": {c.User}, "method": {c.Method}, "at": {c.At}, "listen": {c.Listen}, "header": fields})
	if err != nil {
		return tried{}, err
	}
	j := l.door.Judge(r)
	v, refusal := j.Verdict, j.Err
	if c.Address != "" {
		a, err := netip.ParseAddr(c.Address)
		if err != nil {
			return tried{}, fmt.Errorf("address: %q is not an IP address", c.Address)
		}
		if refusal == nil {
			v, refusal = j.Address(netip.AddrPortFrom(a.Unmap(), t.Port))
		}
		r.Addr = a.Unmap()
	}
	got := tried{verdict: v.Action.String(), rule: v.Rule, shadow: v.Shadow.Rule}
	_, got.steps = l.policy.ACL.Explain(r)
	switch {
	case refusal != nil:
		f := fault.From(refusal)
		got.verdict, got.rule = acl.Deny.String(), f.Rule
		if f.HTTPStatus() == http.StatusProxyAuthRequired {
			got.verdict = verdictChallenge
		}
	case v.Pending:
		got.verdict = "pending"
	case v.Action == acl.Allow:
		got.modify = l.policy.ACL.Modify(r).Tables()
	}
	return got, nil
}

// differs says what is not as the case wants, "" where all is.
func (g tried) differs(c policy.Case) string {
	switch {
	case g.verdict == "pending":
		return fmt.Sprintf("wants %s, and that hangs on the destination's address, by rule %q; give the case an \"address\"", c.Want, g.rule)
	case g.verdict == verdictChallenge && c.Want != g.verdict:
		return fmt.Sprintf("wants %s, and is asked who it is (407), by rule %q; give the case a \"user\", or want \"challenge\"", c.Want, g.rule)
	case g.verdict != c.Want:
		return fmt.Sprintf("wants %s, gets %s by rule %q", c.Want, g.verdict, g.rule)
	case c.Rule != "" && c.Rule != g.rule:
		return fmt.Sprintf("wants %s by rule %q, gets it by rule %q", c.Want, c.Rule, g.rule)
	case c.Modify != nil && !slices.Equal(*c.Modify, g.modify):
		return fmt.Sprintf("wants to be modified by %q, and is by %q", *c.Modify, g.modify)
	}
	return ""
}

func (g tried) report(w io.Writer, file string, i int, c policy.Case, differs string) {
	name := "case " + strconv.Itoa(i+1)
	if c.Name != "" {
		name = strconv.Quote(c.Name)
	}
	fmt.Fprintf(w, "%s:%d: %s %s\n", file, c.Line(), name, differs)
	for _, s := range g.steps {
		fmt.Fprintf(w, "    %q (%s): %s\n", s.Rule, s.Action, s.Outcome+because(s.Why))
	}
}
