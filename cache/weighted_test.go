package cache

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"fwdproxy/internal/header"
)

func TestPreferencesThatMeanTheSameSelectTheSameResponse(t *testing.T) { // RFC 9111, Section 4.1; RFC 9110, Section 12.5
	for _, tc := range []struct {
		field, a, b string
		same        bool
	}{
		{"Accept-Language", "en, de", "de, en", true},
		{"Accept-Language", "en, de", "eN,,De", true},
		{"Accept-Language", "en;q=1, de;q=0.5", "de; Q=0.500 ,en", true},
		{"Accept-Language", "en, de;q=0.5", "de, en;q=0.5", false},
		{"Accept-Language", "en", "en, *", false},
		{"Accept-Language", "en-GB", "en", false},
		{"Accept-Language", "en;q=0", "en", false},
		{"Accept-Language", "en;q=0.001", "en;q=0", false},
		{"Accept-Language", "", "en", false},
		{"Accept-Language", "x-gzip", "gzip", false},
		{"Accept-Encoding", "gzip, br", "BR,gzip", true},
		{"Accept-Encoding", "x-gzip", "gzip;q=1.0", true},
		{"Accept-Encoding", "gzip;q=0, br", "br", false},
		{"Accept-Encoding", "identity;q=0", "", false},
		// What is malformed is compared as it stands.
		{"Accept-Language", "en, de;x=1", "de;x=1, en", false},
		{"Accept-Language", "en;q=2", "EN;q=2", false},
		{"Accept-Language", "en;q=0.1234", "EN;q=0.1234", false},
		{"Accept-Language", "en;q=0x", "EN;q=0x", false},
		{"Accept-Language", "en;q=", "en", false},
		{"Accept-Language", "en;", "en", false},
		{"Accept-Language", "e n", "E n", false},
		// Other fields are not ours to read.
		{"Accept", "a/b, c/d", "c/d, a/b", false},
		{"Foo", "en, de", "de, en", false},
	} {
		if got := sameVariant([]string{tc.field}, http.Header{tc.field: {tc.a}}, http.Header{tc.field: {tc.b}}); got != tc.same {
			t.Errorf("%s: %q and %q: same is %v", tc.field, tc.a, tc.b, got)
		}
	}
	for _, field := range []string{"Accept-Encoding", "Accept-Language"} {
		if sameVariant([]string{field}, http.Header{field: {""}}, http.Header{}) {
			t.Errorf("%s: empty is taken for absent", field)
		}
		if !sameVariant([]string{field}, http.Header{field: {"a", "b;q=0.1"}}, http.Header{field: {"b;q=0.1, a"}}) {
			t.Errorf("%s: two lines are not a list", field)
		}
	}
}

// Two values have one form only when they name the same things with the same
// quality, read here by other means; and a form is its own form.
func FuzzWeighted(f *testing.F) {
	f.Add("en, de;q=0.5", "de;q=0.50, EN")
	f.Add("gzip;q=0", "x-gzip; q=0.000")
	f.Add("a;q=1.000", "a;q=1.001")
	f.Fuzz(func(t *testing.T, a, b string) {
		read := func(s string) (out []string) {
			for _, e := range header.Tokens(http.Header{"X": {s}}, "X") {
				name, q, has := strings.Cut(strings.ToLower(e), ";")
				v := 1.0
				if has {
					v, _ = strconv.ParseFloat(strings.TrimPrefix(header.Trim(q), "q="), 64)
				}
				out = append(out, header.Trim(name)+" "+strconv.FormatFloat(v, 'f', -1, 64))
			}
			slices.Sort(out)
			return slices.Compact(out)
		}
		x, ok1 := weighted("Accept-Language", []string{a})
		y, ok2 := weighted("Accept-Language", []string{b})
		if ok1 && ok2 && (x == y) != slices.Equal(read(a), read(b)) {
			t.Fatalf("%q and %q: %q and %q", a, b, x, y)
		}
	})
}
