package accesslog

import (
	"slices"
	"strings"

	"fwdproxy/internal/problem"
)

// Where the log goes when it is not a file.
const (
	toStdout = "stdout"
	toStderr = "stderr"
	toNone   = "none"
)

// The formats.
const (
	formatJSON     = "json"
	formatSquid    = "squid"
	formatCombined = "combined"
)

// Config is the table [log].
type Config struct {
	// Access is where the access log goes: "stdout", "stderr", "none", or the
	// path of a file, which SIGHUP opens anew after a rotation.
	Access string `toml:"access"`
	// Format is "json", "squid" (Squid's native access.log) or "combined"
	// (Apache's and nginx's, with the result tag at the end as Squid writes it).
	Format string `toml:"format"`
}

// DefaultConfig logs JSON to standard output.
func DefaultConfig() Config { return Config{Access: toStdout, Format: formatJSON} }

// Validate returns every problem of the table; it opens no file.
func (c Config) Validate() problem.List {
	var p problem.List
	words := []string{toStdout, toStderr, toNone}
	lower := strings.ToLower(strings.TrimSpace(c.Access))
	switch {
	case lower == "":
		p.Add("log.access", `write "stdout", "stderr", "none" or a path`, "no place for the access log")
	case slices.Contains(words, lower) && lower != c.Access:
		p.Add("log.access", `write "`+lower+`", or "./`+c.Access+`" for a file of that name`, "%q would be a file", c.Access)
	case strings.HasSuffix(c.Access, "/"):
		p.Add("log.access", "name the file, as in \"access.log\"", "%q is a folder", c.Access)
	}
	if encoders[c.Format] == nil {
		p.Add("log.format", `write "json", "squid" or "combined"`, "%q is no format of the access log", c.Format)
	}
	return p
}
