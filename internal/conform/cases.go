// Package conform plays the cases of the public conformance suite for HTTP
// caches (testdata/cache-tests.json) through a proxy: a raw origin on loopback,
// a raw client, what each response and the origin's log must show, and the
// verdicts. It knows nothing of the proxy but its address, and starts none.
package conform

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
)

//go:embed testdata/cache-tests.json
var suiteJSON []byte

// Kind says what a case stands for.
type Kind string

// The kinds of the suite: what RFC 9111 requires, what a good cache does
// beyond that, and what is merely of interest.
const (
	Required Kind = "required"
	Optimal  Kind = "optimal"
	Check    Kind = "check"
)

// Case is one case of the suite: requests that one client makes in turn, what
// the origin answers, and what must be seen.
type Case struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Kind        Kind      `json:"kind"`
	DependsOn   []string  `json:"depends_on"`
	BrowserOnly bool      `json:"browser_only"`
	Requests    []Request `json:"requests"`

	Group string `json:"-"` // the id of the suite's group that it stands in
}

// Request is one request of a case, with the origin's answer to it and the
// expectations.
type Request struct {
	Setup      bool     `json:"setup"`
	SetupTests []string `json:"setup_tests"`
	PauseAfter bool     `json:"pause_after"`

	Method   string   `json:"request_method"`
	Filename string   `json:"filename"`
	QueryArg string   `json:"query_arg"`
	Header   []Field  `json:"request_headers"`
	Body     string   `json:"request_body"`
	RFC850   []string `json:"rfc850date"`

	Disconnect     bool          `json:"disconnect"`
	ResponsePause  int           `json:"response_pause"` // seconds
	Interim        []InterimLine `json:"interim_responses"`
	Status         *Status       `json:"response_status"`
	ResponseHeader []Field       `json:"response_headers"`
	MagicLocations bool          `json:"magic_locations"`
	ResponseBody   string        `json:"response_body"`

	ExpectedType           string          `json:"expected_type"`
	ExpectedMethod         string          `json:"expected_method"`
	ExpectedStatus         Maybe[int]      `json:"expected_status"`
	ExpectedHeader         []ExpectedField `json:"expected_response_headers"`
	ExpectedMissing        []ExpectedField `json:"expected_response_headers_missing"`
	ExpectedInterim        []InterimLine   `json:"expected_interim_responses"`
	ExpectedText           Maybe[string]   `json:"expected_response_text"`
	ExpectedRequestHeaders []ExpectedField `json:"expected_request_headers"`
	CheckBody              *bool           `json:"check_body"`

	// These mean nothing to a raw client, which follows no redirect, and has
	// one connection a request.
	Redirect string `json:"redirect"`
	MagicIMS bool   `json:"magic_ims"`
}

// setup reports whether the failure of a check makes the case void rather than
// failed.
func (r *Request) setup(check string) bool { return r.Setup || slices.Contains(r.SetupTests, check) }

// method is the request's method.
func (r *Request) method() string {
	if r.Method == "" {
		return "GET"
	}
	return r.Method
}

// Field is a header field of a request or an answer.
type Field struct {
	Name  string
	Value string
	// Offset is seconds from the moment of sending, where Dated is set; Value is
	// empty then.
	Offset int
	Dated  bool
	// Forgotten is set for one that need not reach the client.
	Forgotten bool
}

// UnmarshalJSON reads [name, value] or [name, value, false], where an integer
// value is an offset in seconds.
func (f *Field) UnmarshalJSON(b []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	if len(parts) < 2 || len(parts) > 3 {
		return fmt.Errorf("a field has 2 or 3 parts: %s", b)
	}
	remember := true
	if len(parts) == 3 {
		if err := json.Unmarshal(parts[2], &remember); err != nil {
			return err
		}
	}
	f.Forgotten = !remember
	if err := json.Unmarshal(parts[0], &f.Name); err != nil {
		return err
	}
	if json.Unmarshal(parts[1], &f.Offset) == nil {
		f.Dated = true
		return nil
	}
	return json.Unmarshal(parts[1], &f.Value)
}

// ExpectedField is what a header field must be.
type ExpectedField struct {
	Field
	Presence bool // any value will do
	Greater  bool // an integer above Offset
}

// UnmarshalJSON reads name, [name, value], or [name, ">", integer].
func (e *ExpectedField) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, &e.Name) == nil {
		e.Presence = true
		return nil
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	if len(parts) != 3 {
		return e.Field.UnmarshalJSON(b)
	}
	if string(parts[1]) != `">"` {
		return fmt.Errorf("no such comparison: %s", b)
	}
	e.Greater = true
	if err := json.Unmarshal(parts[0], &e.Name); err != nil {
		return err
	}
	return json.Unmarshal(parts[2], &e.Offset)
}

// Status is a status line without its version.
type Status struct {
	Code   int
	Phrase string
}

// UnmarshalJSON reads [code, phrase].
func (s *Status) UnmarshalJSON(b []byte) error {
	parts := [2]any{&s.Code, &s.Phrase}
	return json.Unmarshal(b, &parts)
}

// InterimLine is an interim (1xx) response.
type InterimLine struct {
	Code   int
	Header []Field
}

// UnmarshalJSON reads [code] or [code, fields].
func (l *InterimLine) UnmarshalJSON(b []byte) error {
	parts := []any{&l.Code, &l.Header}
	return json.Unmarshal(b, &parts)
}

// Maybe is a value that is absent, null, or there.
type Maybe[T any] struct {
	Set   bool
	Value *T // nil for null
}

// UnmarshalJSON reads the value or null; it is not called for what is absent.
func (m *Maybe[T]) UnmarshalJSON(b []byte) error {
	m.Set = true
	return json.Unmarshal(b, &m.Value)
}

// Load returns the cases that apply to a proxy, in the order of the suite.
func Load() ([]Case, error) { return parse(suiteJSON) }

// parse reads a suite. A member that this package does not know is an error,
// since it would be a check that is never made.
func parse(b []byte) ([]Case, error) {
	var suite struct {
		Suites []struct {
			ID    string            `json:"id"`
			Tests []json.RawMessage `json:"tests"`
		} `json:"suites"`
	}
	if err := json.Unmarshal(b, &suite); err != nil {
		return nil, err
	}
	var cases []Case
	for _, group := range suite.Suites {
		for _, raw := range group.Tests {
			c, err := parseCase(raw)
			if err != nil {
				return nil, fmt.Errorf("%s: %.80s: %w", group.ID, raw, err)
			}
			c.Group = group.ID
			if !c.BrowserOnly {
				cases = append(cases, c)
			}
		}
	}
	return cases, nil
}

func parseCase(raw []byte) (Case, error) {
	var c struct {
		Case
		BrowserSkip bool     `json:"browser_skip"`
		CDNOnly     bool     `json:"cdn_only"`
		SpecAnchors []string `json:"spec_anchors"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	err := d.Decode(&c)
	return c.Case, err
}
