// Package policy reads, defaults, checks and watches policy.toml, and compiles
// it whole: what it returns is right in every part, or it is a list of every
// problem.
//
// It composes the stages' own Config types and adds no meaning to them.
package policy

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"fwdproxy/acl"
	"fwdproxy/auth"
	"fwdproxy/intercept"
	"fwdproxy/internal/problem"
	"fwdproxy/lists"
	"fwdproxy/waf"
)

// DefaultFile is the policy that is used when no file is named and this one
// stands in the working directory.
const DefaultFile = "policy.toml"

// Policy is a compiled policy. It is immutable.
type Policy struct {
	Config        Config
	ACL           *acl.Engine
	Auth          *auth.Directory      // who can say who they are; nil where nobody can
	Authority     *intercept.Authority // in whose name TLS is intercepted; nil where no rule does that, or it was not loaded
	ForwardTLS    *tls.Config          // of [forward.tls]; nil where there is no certificate
	ReverseTLS    *tls.Config          // of [reverse.tls]
	WAF           *waf.Set             // of the sites that have one; nil where none has
	Warnings      problem.List
	File          string   // as the user named it; "" for the embedded default
	UpstreamFiles string   // a digest of the files that [upstream] and [[pool]] name
	Digest        string   // of the file's and its lists' content, hexadecimal
	Lists         []string // the files of lists, and those that [upstream], [[pool]], [forward.auth] and the [*.tls] tables name
}

// Source returns what the policy was read from, for people.
func (p *Policy) Source() string {
	if p.File == "" {
		return "embedded default"
	}
	return p.File
}

// Error is a policy that cannot be used.
type Error struct {
	File     string
	Problems problem.List
}

func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.File + ": " + p.String())
	}
	return b.String()
}

// Find returns the file to load: the named one, ./policy.toml if there is one,
// or "" for the embedded default.
func Find(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	_, err := os.Stat(DefaultFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", DefaultFile, err)
	}
	return DefaultFile, nil
}

// Load reads and compiles the file, or embedded where file is "". The error is
// an *Error where the content is at fault.
func Load(file, embedded string) (*Policy, error) {
	return load(file, embedded, (*Policy).authority, nil)
}

// LoadWithoutCA is Load without the files of [forward.intercept], for who asks
// what the rules say, on a machine that has no business to have that key.
func LoadWithoutCA(file, embedded string) (*Policy, error) {
	return load(file, embedded, (*Policy).authorityNamed, nil)
}

// LoadRules is LoadWithoutCA for who is about to make the authority, which need
// not be named yet.
func LoadRules(file, embedded string) (*Policy, error) { return load(file, embedded, nil, nil) }

// load has authority check [forward.intercept], unless that is nil. What takes
// long to compile and is the same in was, which may be nil, is taken over.
func load(file, embedded string, authority func(*Policy) (problems, warnings problem.List), was *Policy) (*Policy, error) {
	text, name := embedded, "embedded default"
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("cannot read the policy: %w", err)
		}
		text, name = string(b), file
	}
	p, problems := compile(text, filepath.Dir(file), authority, was)
	if file != "" && isBlank(text) {
		problems.Add("", "copy the default policy.toml and change that", "the policy is empty, and would deny everything")
	}
	if len(problems) > 0 {
		return nil, &Error{File: name, Problems: problems}
	}
	p.File = file
	return p, nil
}

// isBlank reports whether the text has nothing but comments and space.
func isBlank(text string) bool {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			return false
		}
	}
	return true
}

// compile turns the text into a policy; relative paths in it are seen from dir.
func compile(text, dir string, authority func(*Policy) (problems, warnings problem.List), was *Policy) (*Policy, problem.List) {
	lines := indexLines(text)
	p := &Policy{Config: DefaultConfig()}
	problems := decode(text, &p.Config)
	if isSyntax(problems) {
		return nil, problems
	}
	p.resolvePaths(dir)
	sum := sha256.New()
	io.WriteString(sum, text)
	engine, more := acl.Compile(p.Config.ACL, func(path string) (io.ReadCloser, error) {
		file, err := p.openList(path)
		if err != nil {
			return nil, err
		}
		return readCloser{io.TeeReader(file, sum), file}, nil
	})
	// The values that could be read are checked too, so that one run of check
	// shows everything.
	problems = append(problems, onlyNew(problems, append(p.Config.Validate(), more...))...)
	upstreamFiles, more := p.upstreamFiles()
	problems = append(problems, onlyNew(problems, more)...)
	more, warnings := p.identities()
	problems = append(problems, onlyNew(problems, more)...)
	var doubts problem.List
	if authority != nil {
		more, doubts = authority(p)
		problems = append(problems, onlyNew(problems, more)...)
	}
	pairs, more, old := p.certificates(time.Now())
	problems = append(problems, onlyNew(problems, more)...)
	problems = append(problems, p.firewalls(problems, was, sum)...)
	locate(problems, lines)
	if len(problems) > 0 {
		return nil, problems
	}
	p.ACL = engine
	io.WriteString(sum, pairs)
	p.UpstreamFiles = upstreamFiles
	io.WriteString(sum, upstreamFiles)
	if p.Auth != nil {
		io.WriteString(sum, p.Auth.Digest())
	}
	if ca := p.Config.Forward.Intercept; ca.Enabled() {
		text, _ := os.ReadFile(ca.CACert) // who has to have it was told that it is not there
		sum.Write(text)
	}
	p.Warnings = slices.Concat(p.Config.ACL.Warnings(), engine.Warnings(), p.Config.Cache.Warnings(), warnings, doubts, old)
	locate(p.Warnings, lines)
	p.Digest = hex.EncodeToString(sum.Sum(nil))
	return p, nil
}

// upstreamFiles returns a digest of the files that [upstream] and [[pool]] name.
// It reads them, so that check finds those that cannot be read.
func (p *Policy) upstreamFiles() (digest string, problems problem.List) {
	sum := sha256.New()
	read := func(key, path string) {
		if path == "" {
			return
		}
		content, err := os.ReadFile(path)
		if err != nil {
			problems.Add(key, "make it readable for fwdproxy", "%v", err)
			return
		}
		fmt.Fprintf(sum, "%s %d ", key, len(content))
		sum.Write(content)
		p.Lists = append(p.Lists, path)
	}
	read("upstream.ca_file", p.Config.Upstream.CAFile)
	for i, parent := range p.Config.Upstream.Parents {
		read("upstream.parent["+strconv.Itoa(i)+"].password_file", parent.PasswordFile)
	}
	for i, pool := range p.Config.Pools {
		key := "pool[" + strconv.Itoa(i) + "]."
		read(key+"sticky_key_file", pool.StickyKeyFile)
		if c := pool.TLS; c != nil {
			read(key+"tls.ca", c.CA)
			read(key+"tls.cert", c.Cert)
			read(key+"tls.key", c.Key)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), problems
}

// openList opens a list's file, or the copy of one that is downloaded.
func (p *Policy) openList(path string) (io.ReadCloser, error) {
	if !strings.HasPrefix(path, "http://") && !strings.HasPrefix(path, "https://") {
		return os.Open(path)
	}
	copied, err := p.Copies().Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, acl.ErrNotDownloaded
	}
	return copied, err
}

// Copies is where the copies of downloaded lists are.
func (p *Policy) Copies() lists.Copies { return lists.Copies{Dir: p.Config.ACL.DownloadDir} }

// firewalls compiles what the sites' firewalls go by, unless [reverse] has
// problems already, and adds the file of theirs to the sum.
func (p *Policy) firewalls(had problem.List, was *Policy, sum io.Writer) (problems problem.List) {
	c, rules := p.Config.Reverse.WAF, ""
	if c.RulesFile != "" {
		content, err := os.ReadFile(c.RulesFile)
		if err != nil {
			problems.Add("reverse.waf.rules_file", "make it readable for fwdproxy", "%v", err)
			return problems
		}
		p.Lists = append(p.Lists, c.RulesFile)
		rules = string(content)
		io.WriteString(sum, rules)
	}
	if slices.ContainsFunc(had, func(h problem.Problem) bool { return strings.HasPrefix(h.Key, "reverse.") }) {
		return nil
	}
	var old *waf.Set
	if was != nil {
		old = was.WAF
	}
	p.WAF, problems = waf.Compile(c, rules, p.Config.Reverse.Guarded(), old)
	return problems
}

type readCloser struct {
	io.Reader
	io.Closer
}

func isSyntax(problems problem.List) bool { return len(problems) > 0 && problems[0].Key == "" }

// onlyNew drops problems of keys that have one already: a value that could not
// be read is not also out of range.
func onlyNew(had, more problem.List) problem.List {
	return slices.DeleteFunc(more, func(m problem.Problem) bool {
		return slices.ContainsFunc(had, func(h problem.Problem) bool {
			return m.Key == h.Key || strings.HasPrefix(h.Key, m.Key+".") || strings.HasPrefix(h.Key, m.Key+"[") ||
				strings.HasPrefix(m.Key, h.Key+"[")
		})
	})
}

func locate(problems problem.List, lines lineIndex) {
	for i := range problems {
		if problems[i].Line == 0 {
			problems[i].Line = lines.find(problems[i].Key)
		}
	}
	slices.SortStableFunc(problems, func(a, b problem.Problem) int { return a.Line - b.Line })
}

// resolvePaths makes paths in the policy absolute or relative to the working
// directory, and gathers those whose change is a change of the policy.
func (p *Policy) resolvePaths(dir string) {
	rel := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(dir, path)
	}
	p.Config.ACL.DownloadDir = rel(p.Config.ACL.DownloadDir)
	for name, list := range p.Config.ACL.Lists {
		files := make([]string, len(list.Files))
		for i, f := range list.Files {
			files[i] = rel(f)
		}
		dirs := make([]string, len(list.Dirs))
		for i, d := range list.Dirs {
			dirs[i] = rel(d)
			for _, f := range acl.DirFiles() {
				files = append(files, filepath.Join(dirs[i], f))
			}
		}
		p.Lists = append(p.Lists, files...)
		list.Files, list.Dirs = files[:len(list.Files)], dirs
		p.Config.ACL.Lists[name] = list
	}
	slices.Sort(p.Lists)
	who := &p.Config.Forward.Auth
	who.Htpasswd, who.Tokens, who.Groups = rel(who.Htpasswd), rel(who.Tokens), rel(who.Groups)
	ca := &p.Config.Forward.Intercept
	ca.CACert, ca.CAKey = rel(ca.CACert), rel(ca.CAKey)
	secure := &p.Config.Forward.TLS
	secure.Cert, secure.Key, secure.ClientCA = rel(secure.Cert), rel(secure.Key), rel(secure.ClientCA)
	for i := range p.Config.Reverse.TLS.Certificates {
		files := &p.Config.Reverse.TLS.Certificates[i]
		files.Cert, files.Key = rel(files.Cert), rel(files.Key)
	}
	p.Config.Upstream.CAFile = rel(p.Config.Upstream.CAFile)
	p.Config.Reverse.WAF.RulesFile = rel(p.Config.Reverse.WAF.RulesFile)
	for i := range p.Config.Upstream.Parents {
		parent := &p.Config.Upstream.Parents[i]
		parent.PasswordFile = rel(parent.PasswordFile)
	}
	for i := range p.Config.Pools {
		pool := &p.Config.Pools[i]
		pool.StickyKeyFile = rel(pool.StickyKeyFile)
		if c := pool.TLS; c != nil {
			c.CA, c.Cert, c.Key = rel(c.CA), rel(c.Cert), rel(c.Key)
		}
	}
	p.Config.Cache.Disk.Dir = rel(p.Config.Cache.Disk.Dir)
	switch p.Config.Log.Access {
	case "stdout", "stderr", "none":
	default:
		p.Config.Log.Access = rel(p.Config.Log.Access)
	}
}
