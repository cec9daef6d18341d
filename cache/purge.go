package cache

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"fwdproxy/internal/header"
	"fwdproxy/internal/target"
)

// PurgeKind says what a purge goes by.
type PurgeKind uint8

// The kinds. Those without a name to the outside are what the purges found
// besides what was asked for.
const (
	ByURL          PurgeKind = iota // one URL: all its variants and parts
	ByPrefix                        // all URLs that begin with a text
	ByHost                          // all URLs of a host, whatever the scheme and port
	ByTag                           // all responses with a tag
	byGroup                         // an unsafe request invalidated a group (RFC 9875)
	byForgotten                     // older than a purge that had to be forgotten
	byForgottenTag                  // the same, by tag
	byRestart                       // stored before the journal of purges was lost
	purgeKinds
)

func (k PurgeKind) String() string {
	return [...]string{"url", "prefix", "host", "tag", "group", "forgotten", "forgotten", "restart"}[min(k, purgeKinds-1)]
}

// Purge is what an administrator wants out of the cache. ParsePurge makes it.
type Purge struct {
	Kind PurgeKind
	What string // the URL, prefix or host in canonical form, or the tag
	Soft bool   // stale from now on, in place of gone
	url  *url.URL
}

// Purged says what a purge did.
type Purged struct {
	Kind string `json:"kind"`
	What string `json:"what"`
	Soft bool   `json:"soft"`
	// Stored says of a URL whether anything was stored for it. What a prefix, a
	// host or a tag matches is found when it is asked for.
	Stored *bool `json:"stored,omitempty"`
}

// ParsePurge reads one of a URL, a prefix and a tag; the others are empty. A
// prefix is scheme://host and the beginning of a path, or a host alone. The
// error says what would be right.
func ParsePurge(rawURL, prefix, tag string, soft bool) (Purge, error) {
	given := 0
	for _, s := range []string{rawURL, prefix, tag} {
		if s != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return Purge{}, errors.New("give one of a URL, a prefix and a tag")
	case tag != "":
		return parseTag(tag, soft)
	case rawURL != "":
		u, err := purgeURL(rawURL, "a URL")
		if err != nil {
			return Purge{}, err
		}
		return Purge{Kind: ByURL, What: KeyOf(u).String(), Soft: soft, url: u}, nil
	}
	if !strings.ContainsAny(prefix, "/?#*") {
		return parseHost(prefix, soft)
	}
	u, err := purgeURL(prefix, "a prefix")
	if err != nil {
		return Purge{}, err
	}
	return Purge{Kind: ByPrefix, What: string(keyText(u)), Soft: soft}, nil
}

// purgeURL reads a URL as the front doors do, for its key.
func purgeURL(raw, what string) (*url.URL, error) {
	switch {
	case strings.Contains(raw, "*"):
		before, _, _ := strings.Cut(raw, "*")
		return nil, fmt.Errorf("%q: there are no wildcards; to purge all that begins with a text give that text as the prefix, as in --prefix %s", raw, before)
	case !strings.Contains(raw, "://"):
		return nil, fmt.Errorf("%q: %s begins with its scheme, as in http://%s", raw, what, strings.TrimLeft(raw, "/"))
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	t, err := target.FromURL(u)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", raw, err)
	}
	u.Scheme, u.Host, u.Fragment, u.RawFragment = t.Scheme, t.Authority(), "", ""
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

func parseHost(raw string, soft bool) (Purge, error) {
	host := raw
	if inner, ok := strings.CutPrefix(raw, "["); ok {
		host = strings.TrimSuffix(inner, "]")
	} else if strings.Count(raw, ":") == 1 {
		return Purge{}, fmt.Errorf("%q: with a port goes a scheme, as in http://%s/; a host alone stands for all its schemes and ports", raw, raw)
	}
	host, addr, err := target.ParseHost(host)
	if err != nil {
		return Purge{}, err
	}
	if addr.Is6() {
		host = "[" + host + "]"
	}
	return Purge{Kind: ByHost, What: host, Soft: soft}, nil
}

func parseTag(tag string, soft bool) (Purge, error) {
	if len(tag) > maxTag {
		return Purge{}, fmt.Errorf("the tag has %d bytes; the longest that is remembered has %d", len(tag), maxTag)
	}
	if t := header.Trim(tag); t != tag || strings.ContainsFunc(tag, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return Purge{}, fmt.Errorf("%q: a tag has no space at its ends and no control characters", tag)
	}
	return Purge{Kind: ByTag, What: tag, Soft: soft}, nil
}

// ErrPurgeNotKept says that a purge holds until the process ends, but that a
// restart may forget it.
var ErrPurgeNotKept = errors.New("the purge holds, but a restart would forget it, since it could not be written down")

// Purge sees to it that nothing that was stored before, and nothing whose
// fetch began before, answers a request that comes from now on; after a soft
// purge such a response counts as stale since now. Who is being answered is
// answered to the end. The error wraps ErrPurgeNotKept.
func (t *Transport) Purge(p Purge, now time.Time) (Purged, error) {
	c := t.cache
	done := Purged{Kind: p.Kind.String(), What: p.What, Soft: p.Soft}
	e := purgeEntry{by: p.Kind, soft: p.Soft, at: now.UnixMilli()}
	var err error
	switch p.Kind {
	case ByURL:
		stored := false
		for _, key := range t.keysOf(p.url) {
			prior, ok := c.primary(key)
			stored = stored || ok && len(prior.sets) > 0
			e.hash = keyHash(key)
			err = errors.Join(err, c.purges.add(e))
			if !p.Soft {
				c.invalidate(key, nil) // which makes room at once
			}
		}
		done.Stored = &stored
	case ByTag:
		e.hash = hashTag(p.What)
		err = c.purges.add(e)
	default:
		e.text = p.What
		err = c.purges.add(e)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrPurgeNotKept, err)
	}
	return done, err
}

// PurgeCounts says how often something was purged, and how often a look-up was
// refused what it found for it, by kind.
type PurgeCounts struct{ Made, Refused map[string]uint64 }

// PurgeCounts returns the counts since the start, of every kind.
func (c *Cache) PurgeCounts() PurgeCounts {
	counts := PurgeCounts{Made: map[string]uint64{}, Refused: map[string]uint64{}}
	for k := range purgeKinds {
		counts.Refused[k.String()] += c.purges.refused[k].Load()
		if k <= byGroup {
			counts.Made[k.String()] = c.purges.made[k].Load()
		}
	}
	return counts
}
