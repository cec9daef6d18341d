package reverse

import (
	"errors"
	"net/url"
	"strings"
)

var errRewrite = errors.New("the path that the site makes of this one is malformed")

// peerPath returns what the pool is asked for, path and query, "" where that is
// what the client asked for.
func (s *Site) peerPath(a *Asked) (string, error) {
	var path string
	switch {
	case s.StripPrefix:
		path = "/" + strings.TrimLeft(strings.TrimPrefix(a.Path, strings.TrimSuffix(s.path, "/")), "/")
	case s.Rewrite != "":
		path = string(s.pathRE.ExpandString(nil, s.Rewrite, a.Path, s.pathRE.FindStringSubmatchIndex(a.Path)))
	default:
		return "", nil
	}
	// Parts that were harmless by themselves need not be so together.
	if _, err := url.PathUnescape(path); err != nil || hasDotSegment(path) || strings.ContainsAny(path, "?#") {
		return "", errRewrite
	}
	if a.Query != "" {
		path += "?" + a.Query
	}
	return path, nil
}

// redirect is where clients are sent, in pieces: text, then a placeholder, and
// so on.
type redirect []string

var placeholders = map[string]func(*Asked) string{
	"host": func(a *Asked) string {
		if strings.Contains(a.Host, ":") {
			return "[" + a.Host + "]"
		}
		return a.Host
	},
	"uri": func(a *Asked) string {
		if a.Query == "" {
			return a.Path
		}
		return a.Path + "?" + a.Query
	},
	"path":  func(a *Asked) string { return a.Path },
	"query": func(a *Asked) string { return a.Query },
}

// parseRedirect reads a redirect. Its host is written out or {host}, so that
// nothing in a path can become one.
func parseRedirect(s string) (redirect, error) {
	rest, ok := strings.CutPrefix(s, "https://")
	if !ok {
		if rest, ok = strings.CutPrefix(s, "http://"); !ok {
			return nil, errors.New("it begins with neither https:// nor http://")
		}
	}
	host := rest
	if i := strings.IndexAny(host, "/?#"); i >= 0 {
		host = host[:i]
	}
	host, _ = strings.CutSuffix(host, "{uri}")
	host, _ = strings.CutSuffix(host, "{path}")
	if bare := strings.ReplaceAll(host, "{host}", "h"); bare == "" || strings.ContainsAny(bare, "{}@\\") {
		return nil, errors.New("there is no host, or one with a placeholder other than {host}")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("it has a space or a character outside of ASCII in it; percent-encode that")
	}
	var out redirect
	for rest := s; ; {
		text, more, found := strings.Cut(rest, "{")
		out = append(out, text)
		if !found {
			return out, nil
		}
		name, after, closed := strings.Cut(more, "}")
		if !closed || placeholders[name] == nil {
			return nil, errors.New("in braces there can be host, uri, path or query")
		}
		out, rest = append(out, name), after
	}
}

func (r redirect) location(a *Asked) string {
	var b strings.Builder
	for i, piece := range r {
		if i%2 == 0 {
			b.WriteString(piece)
		} else {
			b.WriteString(placeholders[piece](a))
		}
	}
	return b.String()
}
