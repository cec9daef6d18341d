// Command fwdproxy is a forward caching proxy, and with --reverse a reverse
// one. It loads the policy, wires the stages, listens, reloads and drains.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"fwdproxy"
	"fwdproxy/policy"
)

// version is set by the Makefile; without it the module's own is used.
var version = ""

func main() { os.Exit(Main()) }

// Main runs the command line and returns the exit code.
func Main() int {
	err := rootCommand().Execute()
	if err == nil {
		return 0
	}
	var reported reportedError
	if !errors.As(err, &reported) {
		fmt.Fprintln(os.Stderr, "fwdproxy:", err)
	}
	return 1
}

// reportedError is a failure that the command has shown already.
type reportedError struct{}

func (reportedError) Error() string { return "reported" }

func rootCommand() *cobra.Command {
	serve := serveCommand()
	root := &cobra.Command{
		Use:   "fwdproxy",
		Short: "A forward caching proxy that shows why; with --reverse a reverse one",
		Long: `fwdproxy is a forward caching proxy: clients set it as HTTP_PROXY. It tunnels
CONNECT, decides by policy, and shares one HTTP cache among everybody behind it.
With --reverse the same policy and cache stand in front of servers.

Without a command it serves. The policy is the file named with --policy, else
./policy.toml if there is one, else the embedded default: a forward proxy on
127.0.0.1:3128 for this machine, with health and metrics on 127.0.0.1:3130.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          serve.RunE,
		Version:       versionString(),
	}
	root.SetVersionTemplate("fwdproxy {{.Version}}\n")
	root.Flags().AddFlagSet(serve.Flags())
	root.AddCommand(serve, checkCommand(), explainCommand(), testCommand(), purgeCommand(), passwdCommand(), caCommand(), reloadCommand(), versionCommand())
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", err, c.CommandPath())
	})
	return root
}

func versionString() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// one demands exactly one argument, and names it.
func one(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s takes one %s, and got %d; see %s --help", c.CommandPath(), what, len(args), c.CommandPath())
		}
		return nil
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintln(cmd.OutOrStdout(), "fwdproxy", versionString())
		},
	}
}

// loadPolicy loads the named policy file, or the one that is found without a
// name, for who only asks it: the secrets in its files are for who serves.
func loadPolicy(named string) (*policy.Policy, error) { return loadWith(policy.LoadWithoutCA, named) }

func loadWith(load func(file, embedded string) (*policy.Policy, error), named string) (*policy.Policy, error) {
	file, err := policy.Find(named)
	if err != nil {
		return nil, err
	}
	return load(file, fwdproxy.DefaultPolicy)
}

func policyFlag(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVarP(into, "policy", "p", "", "policy `file` (default ./policy.toml if there is one, else the embedded default)")
}
