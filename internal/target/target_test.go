package target

import (
	"net/netip"
	"net/url"
	"testing"
)

func TestOneCanonicalFormForEveryWayToWriteAHost(t *testing.T) {
	for in, want := range map[string]string{
		"Example.COM":         "example.com",
		"example.com.":        "example.com",
		"bücher.example":      "xn--bcher-kva.example",
		"BÜCHER.example.":     "xn--bcher-kva.example",
		"xn--bcher-kva.de":    "xn--bcher-kva.de",
		"my_host.example":     "my_host.example",
		"localhost":           "localhost",
		"192.0.2.7":           "192.0.2.7",
		"192.0.2.7.":          "192.0.2.7",
		"::1":                 "::1",
		"2001:DB8:0:0::1":     "2001:db8::1",
		"::ffff:10.0.0.1":     "10.0.0.1",
		"127。0。0。1":           "127.0.0.1",
		"①②⑦.0.0.1":           "127.0.0.1",
		"r3---sn-4g.gvt1.com": "r3---sn-4g.gvt1.com",
	} {
		got, addr, err := ParseHost(in)
		if err != nil || got != want {
			t.Errorf("ParseHost(%q) = %q, %v; want %q", in, got, err, want)
		}
		if a, err := netip.ParseAddr(want); err == nil && addr != a {
			t.Errorf("ParseHost(%q): address %v, want %v", in, addr, a)
		}
	}
}

func TestAHostThatTwoParsersCouldReadDifferentlyIsRefused(t *testing.T) {
	for _, in := range []string{
		"", ".", "..", "a..b", ".a", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.1..",
		"127.0.0.256", "1.2.3", "a.0x", "evil%2eallowed", "a b", "a\x00b", "a/b", "a@b", "fe80::1%eth0", "::g", "[::1]",
		"a,b", "xn--\x80", "a.b.1", "\xff0", "a.\x82", "\ufffd.test",
	} {
		if got, _, err := ParseHost(in); err == nil {
			t.Errorf("ParseHost(%q) = %q, want an error", in, got)
		}
	}
}

func TestAuthorityPortsAreStrict_RFC9110_4_2_3(t *testing.T) {
	for _, tt := range []struct{ in, scheme, hostPort, authority string }{
		{"a.test", "http", "a.test:80", "a.test"},
		{"a.test:80", "http", "a.test:80", "a.test"},
		{"a.test:443", "https", "a.test:443", "a.test"},
		{"a.test:8080", "http", "a.test:8080", "a.test:8080"},
		{"[::1]", "http", "[::1]:80", "[::1]"},
		{"[::1]:81", "http", "[::1]:81", "[::1]:81"},
		{"[::ffff:1.2.3.4]:80", "http", "1.2.3.4:80", "1.2.3.4"},
		{"a.test:443", "", "a.test:443", "a.test:443"},
	} {
		got, err := FromAuthority(tt.in, tt.scheme)
		if err != nil || got.HostPort() != tt.hostPort || got.Authority() != tt.authority {
			t.Errorf("FromAuthority(%q, %q) = %q %q, %v", tt.in, tt.scheme, got.HostPort(), got.Authority(), err)
		}
	}
	for _, in := range []string{"a.test", "a.test:", "a.test:0", "a.test:65536", "a.test:80a", "a.test:+80", "[::1]", "::1:80",
		"/path", "http://a:443", "u@a:443", "[a.test]:443", "[::1]x:443", "a.test:443:443", ":443"} {
		if got, err := FromAuthority(in, ""); err == nil {
			t.Errorf("FromAuthority(%q) = %v, want an error (RFC 9110, Section 9.3.6)", in, got)
		}
	}
}

func TestOnlyHTTPSchemesWithoutUserinfo_RFC9110_4_2_4(t *testing.T) {
	for _, in := range []string{"ftp://a/", "urn:x", "file:///etc/passwd", "ws://a/", "http:///", "http://u:p@a/", "http:a", "http://:80/"} {
		u, err := url.Parse(in)
		if err != nil {
			continue
		}
		if got, err := FromURL(u); err == nil {
			t.Errorf("FromURL(%q) = %v, want an error", in, got)
		}
	}
}

func FuzzParseHostIsIdempotent(f *testing.F) {
	for _, s := range []string{"a.b", "bücher.example", "::1", "0x7f.1", "xn--", "1.2.3.4.", "ⓐ.com"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once, addr, err := ParseHost(s)
		if err != nil {
			return
		}
		twice, addr2, err := ParseHost(once)
		if err != nil || twice != once || addr != addr2 {
			t.Fatalf("ParseHost(%q) = %q (%v), again %q (%v), %v", s, once, addr, twice, addr2, err)
		}
	})
}
