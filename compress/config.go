// Package compress encodes what a pool answers for the clients of a site: gzip,
// brotli or zstd, below the cache, which so stores each encoded form once.
//
// It touches no answer that has a content coding, is a part, or says
// no-transform, and none in forward mode.
package compress

import (
	"slices"
	"strconv"
	"strings"

	"fwdproxy/internal/problem"
	"fwdproxy/internal/unit"
)

// Config is the table [reverse.compress]; it holds for sites with compress =
// true.
type Config struct {
	// Encodings are the content codings that clients may get, "zstd", "br" and "gzip",
	// the best first: among what a client likes equally, it gets the first.
	Encodings []string `toml:"encodings"`
	// Types are the media types of answers that are encoded; "text/*" is all of text.
	Types []string `toml:"types"`
	// MinSize is the least Content-Length that is worth it. Answers without one are
	// encoded whatever their length.
	MinSize unit.Size `toml:"min_size"`
}

// DefaultConfig is for what shrinks.
func DefaultConfig() Config {
	return Config{
		Encodings: []string{"zstd", "br", "gzip"},
		Types: []string{"text/html", "text/css", "text/plain", "text/xml", "text/csv", "text/javascript", "text/markdown", "application/javascript", "application/json",
			"application/ld+json", "application/manifest+json", "application/xml", "application/rss+xml", "application/atom+xml", "application/xhtml+xml", "application/wasm",
			"image/svg+xml", "image/bmp", "font/ttf", "font/otf"},
		MinSize: 1 << 10,
	}
}

// Validate reports every problem of the table.
func (c Config) Validate() problem.List {
	var p problem.List
	for i, e := range c.Encodings {
		if coders[e] == nil {
			p.Add("reverse.compress.encodings["+strconv.Itoa(i)+"]", `write "zstd", "br" or "gzip"`, "%q is not a content coding that is made here", e)
		} else if slices.Contains(c.Encodings[:i], e) {
			p.Add("reverse.compress.encodings["+strconv.Itoa(i)+"]", "leave one of them out", "%q is there twice", e)
		}
	}
	for i, t := range c.Types {
		kind, sub, ok := strings.Cut(t, "/")
		if !ok || kind == "" || kind == "*" || sub == "" || strings.ContainsAny(t, "; \t") || strings.ToLower(t) != t {
			p.Add("reverse.compress.types["+strconv.Itoa(i)+"]", `write for example "text/html" or "text/*", in lower case and without parameters`, "%q is not a media type", t)
		}
		if t == "text/event-stream" {
			p.Add("reverse.compress.types["+strconv.Itoa(i)+"]", "leave it out", "a stream of events is sent as it comes, and never encoded")
		}
	}
	return p
}
