package target

import (
	"net/url"
	"testing"
)

func TestDecodingLeavesWhatIsNoEscape_RFC3986_2_1(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "abc": "abc", "%41": "A", "%4a%4A": "JJ", "%2541": "%41", "%": "%", "%4": "%4", "%4g": "%4g", "a%00b": "a\x00b", "%ff": "\xff", "100%": "100%",
	} {
		if got := Decode(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("a%2fb%")
	f.Fuzz(func(t *testing.T, s string) {
		if want, err := url.PathUnescape(s); err == nil && Decode(s) != want {
			t.Errorf("%q: got %q, net/url gives %q", s, Decode(s), want)
		}
	})
}
