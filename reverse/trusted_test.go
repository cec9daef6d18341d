package reverse

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func asked(t *testing.T, c TrustedConfig, from string, fields ...string) string {
	t.Helper()
	if p := c.validate(); len(p) > 0 {
		t.Fatal(p)
	}
	trusted := NewTrusted(c)
	r := httptest.NewRequest("GET", "http://a.test/", nil)
	r.RemoteAddr = from
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Add(name, value)
	}
	a := trusted.ask(r)
	return fmt.Sprint(a.scheme, " ", a.chain())
}

func TestWhoAsksIsTheFirstHopThatIsNotTrusted(t *testing.T) {
	c := TrustedConfig{From: []string{"10.0.0.0/8", "192.0.2.7", "2001:db8::/32"}, Field: "X-Forwarded-For"}
	const lb, stranger = "10.0.0.1:999", "203.0.113.9:999"
	for _, tt := range []struct {
		from   string
		fields []string
		want   string
	}{
		{lb, nil, " 10.0.0.1"},
		{stranger, []string{"X-Forwarded-For: 198.51.100.1", "X-Forwarded-Proto: https"}, " 203.0.113.9"},
		{lb, []string{"X-Forwarded-For: 198.51.100.1", "X-Forwarded-Proto: HTTPS"}, "https 198.51.100.1, 10.0.0.1"},
		// What the client itself sent stands before what was appended.
		{lb, []string{"X-Forwarded-For: 127.0.0.1, 198.51.100.1", "X-Forwarded-Proto: https, http"}, "http 198.51.100.1, 10.0.0.1"},
		{lb, []string{"X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: 198.51.100.1"}, " 198.51.100.1, 10.0.0.1"},
		{lb, []string{"X-Forwarded-For: 198.51.100.1, 192.0.2.7"}, " 198.51.100.1, 192.0.2.7, 10.0.0.1"},
		{lb, []string{"X-Forwarded-For: 10.1.1.1, 10.2.2.2"}, " 10.1.1.1, 10.2.2.2, 10.0.0.1"},
		{lb, []string{"X-Forwarded-For: 198.51.100.1, unknown"}, " 10.0.0.1"},
		{lb, []string{"X-Forwarded-For: 198.51.100.1, nonsense, 10.3.3.3"}, " 10.3.3.3, 10.0.0.1"},
		{lb, []string{"X-Forwarded-For: 198.51.100.1:4711"}, " 198.51.100.1, 10.0.0.1"},
		{lb, []string{"X-Forwarded-For: [2001:db9::1]:4711"}, " 2001:db9::1, 10.0.0.1"},
		{lb, []string{"X-Forwarded-For: ::ffff:198.51.100.1"}, " 198.51.100.1, 10.0.0.1"},
		{lb, []string{"X-Forwarded-For: fe80::1%eth0"}, " 10.0.0.1"},
		{lb, []string{"X-Forwarded-Proto: https"}, "https 10.0.0.1"},
		{lb, []string{"X-Forwarded-Proto: gopher"}, " 10.0.0.1"},
		{"[2001:db8::5]:1", []string{"X-Forwarded-For: 198.51.100.1"}, " 198.51.100.1, 2001:db8::5"},
		// The other field is the client's own word.
		{lb, []string{"Forwarded: for=198.51.100.1;proto=https"}, " 10.0.0.1"},
		{lb, []string{"X-Forwarded-For: " + strings.Repeat("10.1.1.1, ", 500) + "10.1.1.1"}, " 10.1.1.1" + strings.Repeat(", 10.1.1.1", 31) + ", 10.0.0.1"},
	} {
		if got := asked(t, c, tt.from, tt.fields...); got != tt.want {
			t.Errorf("%s %v: got %q, want %q", tt.from, tt.fields, got, tt.want)
		}
	}
	c.From = nil
	if got := asked(t, c, lb, "X-Forwarded-For: 198.51.100.1"); got != " 10.0.0.1" {
		t.Errorf("nobody is trusted, and yet: %q", got)
	}
}

func TestForwardedIsReadAsWritten_RFC7239_4(t *testing.T) {
	c := TrustedConfig{From: []string{"10.0.0.0/8"}, Field: "Forwarded"}
	for field, want := range map[string]string{
		`for=198.51.100.1;proto=https;by=10.0.0.1`:    "https 198.51.100.1, 10.0.0.1",
		`For="198.51.100.1:80"; Proto="http"`:         "http 198.51.100.1, 10.0.0.1",
		`for="[2001:db8::1]"`:                         " 2001:db8::1, 10.0.0.1",
		`for="[2001:db8::1]:4711"`:                    " 2001:db8::1, 10.0.0.1",
		`for=127.0.0.1, for=198.51.100.1;proto=https`: "https 198.51.100.1, 10.0.0.1",
		`for=127.0.0.1;proto=https, for=198.51.100.1`: " 198.51.100.1, 10.0.0.1",
		`for=198.51.100.1, for=10.1.1.1`:              " 198.51.100.1, 10.1.1.1, 10.0.0.1",
		`for=_hidden;proto=https`:                     "https 10.0.0.1",
		`for=unknown`:                                 " 10.0.0.1",
		`for=198.51.100.1;for=198.51.100.2`:           " 10.0.0.1",
		`for="198.51.100.1`:                           " 10.0.0.1",
		`for="198.51\.100.1"`:                         " 10.0.0.1",
		`for=198.51.100.1;proto=https;`:               " 10.0.0.1",
		`for=2001:db8::1`:                             " 10.0.0.1", // has to be quoted
		`for="a,for=198.51.100.1"`:                    " 10.0.0.1",
		`host=evil;for=198.51.100.1`:                  " 198.51.100.1, 10.0.0.1",
	} {
		if got := asked(t, c, "10.0.0.1:1", "Forwarded: "+field, "X-Forwarded-For: 203.0.113.1", "X-Forwarded-Proto: http"); got != want {
			t.Errorf("%s: got %q, want %q", field, got, want)
		}
	}
}

func TestTrustedNetworksAreChecked(t *testing.T) {
	c := TrustedConfig{From: []string{"10.0.0.0/8", "10.0.0.1/8", "lb.test", "::ffff:10.0.0.0/104", "fe80::1%eth0", "2001:db8::1"}, Field: "X-Real-IP"}
	var got strings.Builder
	for _, p := range c.validate() {
		got.WriteString(" " + p.Key[len("reverse.trusted."):])
	}
	if got.String() != " from[1] from[2] from[3] from[4] field" {
		t.Errorf("problems:%s", got.String())
	}
}

func TestATrustedHopsWordGoesIntoRulesLogAndPool(t *testing.T) {
	var peerGot http.Header
	s := newStand(t, roundTrip(func(r *http.Request) (*http.Response, error) {
		peerGot = r.Header.Clone()
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Length": {"2"}}, Body: io.NopCloser(strings.NewReader("ok")), ContentLength: 2, Request: r}, nil
	}), []SiteConfig{
		{Hosts: []string{"*"}, Schemes: []string{"http"}, Redirect: "https://{host}{uri}"},
		{Hosts: []string{"*"}, Pool: "app"},
	})
	const tail = "Host: a.test\r\nConnection: close\r\n\r\n"
	const claim = "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\n"
	if got := s.talk(t, "GET /x HTTP/1.1\r\n"+claim+tail); status(got) != "302" {
		t.Errorf("from anybody:\n%s", got)
	}
	if rec := s.record(t); rec.Client.Addr().String() != "127.0.0.1" {
		t.Errorf("logged: %+v", rec)
	}
	s.settings.Trusted = NewTrusted(TrustedConfig{From: []string{"127.0.0.0/8"}, Field: "X-Forwarded-For"})
	if got := s.talk(t, "GET /x HTTP/1.1\r\n"+claim+"Forwarded: for=1.2.3.4\r\n"+tail); status(got) != "200" {
		t.Errorf("from a trusted hop:\n%s", got)
	}
	if rec := s.record(t); rec.Client.Addr().String() != "198.51.100.1" || rec.URL != "https://a.test/x" {
		t.Errorf("logged: %+v", rec)
	}
	if got := fmt.Sprint(peerGot["X-Forwarded-For"], peerGot["X-Forwarded-Proto"], peerGot["X-Forwarded-Host"], peerGot["Forwarded"]); got != "[198.51.100.1, 127.0.0.1] [https] [a.test] []" {
		t.Errorf("the pool got %s", got)
	}
}

func FuzzForwarded(f *testing.F) {
	for _, s := range []string{`for=198.51.100.1;proto=https`, `for="[2001:db8::1]:1", for=_x`, `"`, `for=";`, `=;=`} {
		f.Add(s)
	}
	both := []Trusted{
		NewTrusted(TrustedConfig{From: []string{"10.0.0.0/8"}, Field: "Forwarded"}),
		NewTrusted(TrustedConfig{From: []string{"10.0.0.0/8"}, Field: "X-Forwarded-For"}),
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, trusted := range both {
			r := &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"Forwarded": {value}, "X-Forwarded-For": {value}, "X-Forwarded-Proto": {value}}}
			a := trusted.ask(r)
			if !a.client.IsValid() || a.scheme != "" && a.scheme != "http" && a.scheme != "https" || strings.ContainsAny(a.chain(), "\r\n\"=") {
				t.Errorf("%q: %+v", value, a)
			}
			// Whoever stands behind the first stranger is not looked at.
			for _, hop := range a.hops {
				if !trusted.has(hop) {
					t.Errorf("%q: %v is not trusted", value, hop)
				}
			}
		}
	})
}
