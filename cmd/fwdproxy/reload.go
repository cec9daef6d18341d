package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

func reloadCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Make the running proxy load its policy file again",
		Long: `Make the running proxy load its policy file again, through the admin address that
the policy names. The exit code is 1 when the file has a problem; the proxy then
keeps the policy that it has.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := loadPolicy(file)
			if err != nil {
				// The proxy would refuse it as well, and say no more.
				return err
			}
			var done struct {
				Changes []string `json:"changes"`
			}
			if err := adminCall(p, http.MethodPost, "/api/reload", nil, &done); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "reloaded")
			for _, change := range done.Changes {
				fmt.Fprintln(cmd.OutOrStdout(), "  "+change)
			}
			return nil
		},
	}
	policyFlag(cmd, &file)
	return cmd
}
