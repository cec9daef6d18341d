package policy

import (
	"errors"
	"maps"
	"os"
	"time"
)

const (
	// atRest is how long the files must not have changed before they are read:
	// who writes a file in place first empties it.
	atRest  = 100 * time.Millisecond
	maxWait = 50 // times atRest
)

// stamp tells one state of a file from another.
type stamp struct {
	modified time.Time
	size     int64
	missing  bool
}

// Reload loads p's file again once the file and its lists are at rest, so that
// none is read while it is being written.
func (p *Policy) Reload(embedded string) (*Policy, error) {
	files := p.Files()
	before := stamps(files)
	for range maxWait {
		time.Sleep(atRest)
		next, err := load(p.File, embedded, (*Policy).authority, p)
		if next != nil {
			files = next.Files()
		}
		after := stamps(files)
		if maps.Equal(before, after) {
			return next, err
		}
		before = after
	}
	return nil, errors.New("the policy file or one of its lists does not stop changing")
}

// Files returns the policy file and the files that it names; none for the embedded
// default.
func (p *Policy) Files() []string {
	if p.File == "" {
		return nil
	}
	return append([]string{p.File}, p.Lists...)
}

func stamps(files []string) map[string]stamp {
	out := make(map[string]stamp, len(files))
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			out[f] = stamp{missing: true}
			continue
		}
		out[f] = stamp{modified: info.ModTime(), size: info.Size()}
	}
	return out
}
