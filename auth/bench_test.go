package auth

import "testing"

// BenchmarkRemembered is what a request costs whose password was just right;
// bcrypt alone, at the cost of new passwords, is beside it.
func BenchmarkRemembered(b *testing.B) {
	s := newStand(b, config, people())
	fields := []string{basic("ann", "secret")}
	if _, err := s.Check(fields, client, noon); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = s.Check(fields, client, noon)
	}
}

func BenchmarkToken(b *testing.B) {
	s := newStand(b, config, people())
	fields := []string{"Bearer " + robot}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = s.Check(fields, client, noon)
	}
}

func BenchmarkBcrypt(b *testing.B) {
	h, err := HashPassword("secret")
	if err != nil {
		b.Fatal(err)
	}
	d := &Directory{passwords: map[string][]byte{"ann": []byte(h)}}
	for b.Loop() {
		d.fits("ann", "secret")
	}
}
