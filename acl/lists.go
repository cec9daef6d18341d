package acl

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"time"

	"fwdproxy/internal/target"
)

// The files of a folder as SquidGuard has them.
var dirFiles = []struct {
	name string
	form listForm
}{{"domains", domainLines}, {"urls", urlLines}, {"expressions", expressionLines}}

// DirFiles returns the names of the files that a list reads in one of its
// dirs, where they are there.
func DirFiles() []string {
	var out []string
	for _, f := range dirFiles {
		out = append(out, f.name)
	}
	return out
}

func (k *compiler) list(name string, c ListConfig) ListInfo {
	key, s := "acl.lists."+tomlKey(name), &set{}
	s.urls.unseen = doubt
	switch c.URLsInTunnels {
	case "", "doubt":
	case "ignore":
		s.urls.unseen = no
	default:
		k.problems.Add(key+".urls_in_tunnels", `write "doubt" or "ignore"`, "%s is neither", quote(c.URLsInTunnels))
	}
	if name == "" {
		k.problems.Add(key, "", "the list has no name")
	}
	if len(c.Domains)+len(c.Addresses)+len(c.URLs)+len(c.Files)+len(c.Dirs)+len(c.Download) == 0 {
		k.problems.Add(key, `give it "domains", "addresses", "urls", "files", "dirs" or "download"`, "the list is empty")
	}
	for _, inline := range []struct {
		key   string
		texts []string
		parse func(string) (entry, *mistake)
	}{{"domains", c.Domains, parseDomain}, {"addresses", c.Addresses, parseAddress}, {"urls", c.URLs, parseListedURL}} {
		for i, text := range inline.texts {
			if e, bad := inline.parse(text); !k.bad(index(key+"."+inline.key, i), bad) {
				s.add(e)
			}
		}
	}
	skipped := 0
	for i, path := range c.Files {
		skipped += k.file(index(key+".files", i), path, s)
	}
	for i, path := range c.Dirs {
		skipped += k.dir(index(key+".dirs", i), path, s)
	}
	for i, address := range c.Download {
		skipped += k.download(index(key+".download", i), name, address, s)
	}
	if c.Refresh < 0 {
		k.problems.Add(key+".refresh", `write for example "24h"`, "a negative time")
	}
	s.seal()
	k.lists[name] = s
	if k.readFiles && s.empty() && !s.missing {
		k.warnings.Add(key, "a rule that denies what is in it denies nothing", "the list has no entry")
	}
	return ListInfo{Name: name, Domains: s.domains.count, Addresses: s.addresses.len(), URLs: len(s.urls.at), Skipped: skipped}
}

// parseListedURL reads a URL where nothing else is meant.
func parseListedURL(s string) (entry, *mistake) {
	e, bad := parseURL(s)
	if bad == nil && e.path == "" {
		return e, mistaken(`put it under "domains"`, "%s has no path, and means the whole host", quote(s))
	}
	return e, bad
}

// file reads a list file into s, and returns how many lines were skipped.
func (k *compiler) file(key, path string, s *set) int {
	if path == "" {
		k.problems.Add(key, "", "the path is empty")
		return 0
	}
	if !k.readFiles {
		return 0
	}
	got, err := k.read(path, s, anyLines)
	if err != nil {
		hint := ""
		if strings.Contains(path, "http:/") || strings.Contains(path, "https:/") {
			hint = `put a URL under "download"`
		}
		k.problems.Add(key, hint, "list file can not be opened: %v", err)
		return 0
	}
	k.report(key, path, got)
	return got.skipped
}

func (k *compiler) read(path string, s *set, form listForm) (listResult, error) {
	f, err := k.open(path)
	if err != nil {
		return listResult{}, err
	}
	defer f.Close()
	return readList(f, s, form), nil
}

// report adds what was wrong with a list file to the problems.
func (k *compiler) report(key, path string, got listResult) {
	for _, p := range got.malformed {
		k.problems.Add(key, p.hint, "%s:%d: %s", path, p.line, p.message)
	}
	if got.more > 0 {
		k.problems.Add(key, "", "%s: %d more malformed lines", path, got.more)
	}
	if got.err != nil {
		k.problems.Add(key, "", "%s:%d: %v", path, got.lines+1, got.err)
	}
	if p := got.left; p.line > 0 {
		k.warnings.Add(key, "", "%s: %s left out, the first is line %d: %s", path, count(got.wrong, "line"), p.line, p.message)
	}
}

// dir reads a folder of list files, and returns how many lines were skipped.
func (k *compiler) dir(key, path string, s *set) int {
	if path == "" {
		k.problems.Add(key, "", "the path is empty")
		return 0
	}
	if !k.readFiles {
		return 0
	}
	skipped, found := 0, false
	for _, f := range dirFiles {
		file := path + "/" + f.name
		got, err := k.read(file, s, f.form)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			k.problems.Add(key, "", "list file can not be opened: %v", err)
			continue
		case f.form == expressionLines && got.skipped > 0:
			k.warnings.Add(key, `write what matters of them under "path" of a rule`, "%s: %s not applied", file, count(got.skipped, "expression"))
		}
		found = found || f.form != expressionLines
		skipped += got.skipped
		k.report(key, file, got)
	}
	if !found {
		k.problems.Add(key, `name the folder of one category, as in "blacklists/adult"`, `%s: there is neither a file "domains" nor a file "urls"`, path)
	}
	return skipped
}

// ErrNotDownloaded is what the function that opens list files returns for a
// URL of which there is no copy.
var ErrNotDownloaded = errors.New("not downloaded yet")

// Download is a list's file that comes from a URL.
type Download struct {
	List    string
	URL     string
	Refresh time.Duration
	Missing bool // there is no copy: whatever is asked about the list is in doubt
}

const defaultRefresh = 24 * time.Hour

func (k *compiler) download(key, list, address string, s *set) int {
	u, err := url.Parse(address)
	if err == nil {
		_, err = target.FromURL(u)
	}
	if err != nil || strings.Contains(address, "#") {
		k.problems.Add(key, `write an http or https URL, as in "https://lists.example/ads.txt"`, "%s is not a URL to download from", quote(address))
		return 0
	}
	if k.config.DownloadDir == "" {
		k.problems.Add("acl.download_dir", "name a folder that fwdproxy may write to", "there is no folder for the copy of %s", quote(address))
		return 0
	}
	if !k.readFiles {
		return 0
	}
	d := Download{List: list, URL: address, Refresh: k.config.Lists[list].Refresh.D()}
	if d.Refresh == 0 {
		d.Refresh = defaultRefresh
	}
	got, err := k.read(address, s, feedLines)
	switch {
	case errors.Is(err, ErrNotDownloaded):
		s.missing, d.Missing = true, true
		k.warnings.Add(key, "the proxy downloads it when it starts or reloads", "%s: %v; until then rules that deny the list deny everything, and rules that allow it nothing", address, err)
	case err != nil:
		k.problems.Add(key, "", "the copy can not be opened: %v", err)
	default:
		k.report(key, address, got)
	}
	k.downloads = append(k.downloads, d)
	return got.skipped
}

// Examine returns what the content of a download comes to: entries, and lines
// that are neither entries nor anything known.
func Examine(r io.Reader) (entries, wrong int, err error) {
	s := &set{}
	got := readList(r, s, feedLines)
	s.seal()
	return s.domains.count + s.addresses.len() + len(s.urls.at), got.wrong, got.err
}

// count writes "1 line is", "2 lines are".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what + " is"
	}
	return fmt.Sprintf("%d %ss are", n, what)
}

// warnURLs tells of rules that deny whole hosts for the sake of a URL in a
// list, since a tunnel hides it.
func (k *compiler) warnURLs(key, name string, r RuleConfig, u *rule) {
	tunnels := holdsFor("CONNECT", r.Methods, r.NotMethods) && holdsFor(Tunnel, r.Schemes, r.NotSchemes)
	if u.action != Deny || !tunnels {
		return
	}
	for _, list := range slices.Sorted(slices.Values(append(slices.Clone(r.To), r.NotTo...))) {
		l := k.lists[strings.TrimPrefix(list, "list:")]
		if !strings.HasPrefix(list, "list:") || l == nil || len(l.urls.at) == 0 || l.urls.unseen == no {
			continue
		}
		k.warnings.Add(key, `write schemes = ["http", "https"] where the rule means no tunnels, or urls_in_tunnels = "ignore" in the list`,
			"%q denies every tunnel (CONNECT) to the %d hosts that have URLs in %q, since a tunnel hides the URL", name, l.urls.hosts.count, list)
	}
}
