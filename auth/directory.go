package auth

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"fwdproxy/internal/problem"
)

// Directory is what the files hold. It is immutable.
type Directory struct {
	passwords map[string][]byte
	tokens    map[tokenHash]string // names by the hash of their token
	holders   map[string]bool      // who has a token
	groups    map[string][]string  // by user, sorted
	named     map[string]bool      // every group
	decoy     []byte               // what the password of a user who is not there is held against
	digest    [sha256.Size]byte
}

// Load reads the files of c through open. With any problem, a malformed line
// included, there is no directory.
func Load(c Config, open func(path string) (io.ReadCloser, error)) (*Directory, problem.List) {
	d := &Directory{passwords: map[string][]byte{}, tokens: map[tokenHash]string{}, holders: map[string]bool{},
		groups: map[string][]string{}, named: map[string]bool{}}
	sum := sha256.New()
	r := reader{open: open, sum: sum}
	r.read("forward.auth.htpasswd", c.Htpasswd, d.addPassword)
	r.read("forward.auth.tokens", c.Tokens, d.addToken)
	r.read("forward.auth.groups", c.Groups, d.addGroup)
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	for user, groups := range d.groups {
		slices.Sort(groups)
		d.groups[user] = slices.Compact(groups)
	}
	d.decoy = decoy(d.passwords)
	sum.Sum(d.digest[:0])
	return d, nil
}

// Knows reports whether somebody of that name can say who they are.
func (d *Directory) Knows(user string) bool {
	_, ok := d.passwords[user]
	return ok || d.holders[user]
}

// HasGroup reports whether the file of groups has the group, be it empty.
func (d *Directory) HasGroup(name string) bool { return d.named[name] }

// GroupNames returns every group, sorted.
func (d *Directory) GroupNames() []string { return slices.Sorted(maps.Keys(d.named)) }

// Identity returns the user with its groups.
func (d *Directory) Identity(user string) Identity { return Identity{user, d.groups[user]} }

// Digest tells one content of the files from another.
func (d *Directory) Digest() string { return fmt.Sprintf("%x", d.digest) }

// Strangers returns the members of groups whom no file knows, sorted.
func (d *Directory) Strangers() []string {
	var out []string
	for user := range d.groups {
		if !d.Knows(user) {
			out = append(out, user)
		}
	}
	slices.Sort(out)
	return out
}

const (
	maxLine      = 64 << 10
	maxMalformed = 10 // lines reported one by one, for each file
)

// mistake is what is wrong with a line. It never holds a secret of it.
type mistake struct{ message, hint string }

func wrong(hint, format string, args ...any) *mistake {
	return &mistake{fmt.Sprintf(format, args...), hint}
}

type reader struct {
	open     func(string) (io.ReadCloser, error)
	sum      io.Writer
	problems problem.List
}

// read hands every line of the file that is neither blank nor a comment to add.
func (r *reader) read(key, path string, add func(line string) *mistake) {
	if path == "" {
		return
	}
	f, err := r.open(path)
	if err != nil {
		r.problems.Add(key, "make it readable for fwdproxy", "the file can not be opened: %v", err)
		return
	}
	defer f.Close()
	fmt.Fprintf(r.sum, "%s\n", key)
	in := bufio.NewScanner(io.TeeReader(f, r.sum))
	in.Buffer(make([]byte, 4096), maxLine)
	n, malformed := 0, 0
	for in.Scan() {
		n++
		line := strings.TrimSpace(strings.TrimPrefix(in.Text(), "\ufeff"))
		if line == "" || line[0] == '#' {
			continue
		}
		bad := add(line)
		if bad == nil {
			continue
		}
		if malformed++; malformed <= maxMalformed {
			r.problems.Add(key, bad.hint, "%s:%d: %s", path, n, bad.message)
		}
	}
	if more := malformed - maxMalformed; more > 0 {
		r.problems.Add(key, "", "%s: %d more malformed lines", path, more)
	}
	err = in.Err()
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		err = errors.New("the line is too long")
	case err == nil && n == 0:
		// What is left behind by whoever failed to write it.
		err = errors.New(`the file is empty; write "# empty" into one that is meant to be`)
	}
	if err != nil {
		r.problems.Add(key, "", "%s:%d: %v", path, n+1, err)
	}
}

// checkName refuses names that cannot be sent with Basic (RFC 7617, Section
// 2), or that a group file or a rule cannot hold.
func checkName(name string) *mistake {
	switch {
	case name == "":
		return wrong("write the name first", "the name is empty")
	case !utf8.ValidString(name):
		return wrong("save the file as UTF-8", "the name is not UTF-8")
	case len(name) > 255:
		return wrong("choose a shorter one", "the name is longer than 255 bytes")
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == ':' }):
		return wrong("choose another name", "the name %q has a space, a colon or a control character in it", name)
	}
	return nil
}
