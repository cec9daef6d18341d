package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"fwdproxy"
	"fwdproxy/policy"
)

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Report every problem of a policy file, with line, key and hint",
		Long: `Report every problem of a policy file at once, each with its line, its key and
what would be right. The exit code is 1 if there is one. Warnings (a rule that
can never match) do not count.`,
		Args: one("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := policy.Load(args[0], fwdproxy.DefaultPolicy)
			var bad *policy.Error
			if errors.As(err, &bad) {
				fmt.Fprintln(cmd.ErrOrStderr(), bad)
				fmt.Fprintf(cmd.ErrOrStderr(), "%d problem%s\n", len(bad.Problems), plural(len(bad.Problems)))
				return reportedError{}
			}
			if err != nil {
				return err
			}
			for _, w := range p.Warnings {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s: warning: %s\n", args[0], w)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: ok, %s\n", args[0], ruleSummary(p))
			return nil
		},
	}
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

func ruleSummary(p *policy.Policy) string {
	n := len(p.Config.ACL.Rules)
	def := p.Config.ACL.Default
	if def == "" {
		def = "deny"
	}
	return fmt.Sprintf("%d rule%s, default %s", n, plural(n), def)
}
