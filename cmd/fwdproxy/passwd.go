package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"fwdproxy/auth"
)

func passwdCommand() *cobra.Command {
	var token string
	cmd := &cobra.Command{
		Use:   "passwd FILE USER | passwd --token NAME [FILE]",
		Short: "Set a user's password, or make a token for a machine",
		Long: `Set the password of USER in FILE, which forward.auth.htpasswd names, as a bcrypt
hash. The password is read from the terminal without being shown, else as the
first line of standard input.

With --token, make a token for NAME, print it, this once, and add its hash to
FILE, which forward.auth.tokens names; without FILE the line is shown. A name
may have several, so that a new one can be handed out before the old one's line
is deleted.

FILE is replaced as a whole and keeps its owner, who alone may read it: fwdproxy
has to run as that one. A proxy that runs takes the new file over by itself.`,
		Args: func(c *cobra.Command, args []string) error {
			if token != "" && len(args) > 1 || token == "" && len(args) != 2 {
				return fmt.Errorf("%s takes FILE and USER, or --token NAME and perhaps FILE; see %s --help", c.CommandPath(), c.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if token != "" {
				return makeToken(cmd, token, args)
			}
			password, err := askPassword(cmd.InOrStdin(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			hash, err := auth.HashPassword(password)
			if err != nil {
				return err
			}
			return rewrite(args[0], func(text string) (string, error) { return auth.WithLine(text, args[1], hash) })
		},
	}
	cmd.Flags().StringVar(&token, "token", "", "make a token for this `name`")
	return cmd
}

func makeToken(cmd *cobra.Command, name string, files []string) error {
	token, hash := auth.NewToken()
	line, err := auth.TokenLine(name, hash)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "add this line to the file of forward.auth.tokens:\n%s", line)
	} else if err := rewrite(files[0], func(text string) (string, error) { return withEnd(text) + line, nil }); err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), token)
	return nil
}

// withEnd returns the text with its last line ended.
func withEnd(text string) string {
	if text == "" || strings.HasSuffix(text, "\n") {
		return text
	}
	return text + "\n"
}

// askPassword reads a password from a terminal, twice and unseen, or else the
// first line of in.
func askPassword(in io.Reader, prompt io.Writer) (string, error) {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("cannot read the password: %w", err)
		}
		return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
	}
	ask := func(what string) (string, error) {
		fmt.Fprint(prompt, what)
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(prompt)
		return string(b), err
	}
	first, err := ask("Password: ")
	if err != nil {
		return "", fmt.Errorf("cannot read the password: %w", err)
	}
	again, err := ask("Again: ")
	if err != nil {
		return "", fmt.Errorf("cannot read the password: %w", err)
	}
	if first != again {
		return "", errors.New("the passwords differ; nothing was changed")
	}
	return first, nil
}

// rewrite replaces a file, which need not be there yet, by what change makes
// of its text, at once and for its owner's eyes only.
func rewrite(path string, change func(string) (string, error)) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // the link stays
	}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := change(string(old))
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".passwd-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone by then, unless something failed
	_, err = tmp.WriteString(text)
	if err := errors.Join(err, keepOwner(tmp, path), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// keepOwner gives the new file to whom the old one belongs, if there is one:
// root must not take away from fwdproxy what it has to read.
func keepOwner(to *os.File, old string) error {
	info, err := os.Stat(old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) == os.Getuid() {
		return nil
	}
	return to.Chown(int(owner.Uid), int(owner.Gid))
}
