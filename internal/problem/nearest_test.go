package problem

import "testing"

func TestTheNearestNameIsTheOneThatWasMeant(t *testing.T) {
	known := []string{"social", "ads", "games", "listen"}
	for name, want := range map[string]string{
		"socail": "social", "socal": "social", "socials": "social", "Social": "social", "ad": "ads", "gmaes": "games",
		"listne": "listen", "social": "social", "malware": "", "x": "", "": "",
	} {
		if got := Nearest(name, known); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestWithNothingKnownNothingIsNear(t *testing.T) {
	if got := Nearest("a", nil); got != "" {
		t.Errorf("Nearest = %q, want none", got)
	}
}
