package proxyproto

import (
	"bytes"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

const (
	from4  = "\xc0\x00\x02\x01\xc6\x33\x64\x02\x12\x34\x01\xbb" // 192.0.2.1:4660 to 198.51.100.2:443
	from6  = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\x12\x34\x01\xbb"
	mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\x12\x34\x01\xbb"
)

// v2 is a header of version 2 with the right length.
func v2(command, family byte, rest string) string {
	return signature2 + string([]byte{command, family, byte(len(rest) >> 8), byte(len(rest))}) + rest
}

func TestAHeaderNamesTheClient(t *testing.T) {
	for name, tt := range map[string]struct{ header, want string }{
		"1, TCP4":              {"PROXY TCP4 192.0.2.1 198.51.100.2 4660 443\r\n", "192.0.2.1:4660"},
		"1, TCP6":              {"PROXY TCP6 2001:db8::1 2001:db8::2 4660 443\r\n", "[2001:db8::1]:4660"},
		"1, TCP6 with IPv4":    {"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 4660 443\r\n", "192.0.2.1:4660"},
		"1, the longest":       {"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff1]:65535"},
		"1, unknown":           {"PROXY UNKNOWN\r\n", ""},
		"1, unknown with more": {"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", ""},
		"2, TCP4":              {v2(0x21, 0x11, from4), "192.0.2.1:4660"},
		"2, UDP4":              {v2(0x21, 0x12, from4), "192.0.2.1:4660"},
		"2, TCP6":              {v2(0x21, 0x21, from6), "[2001:db8::1]:4660"},
		"2, TCP6 with IPv4":    {v2(0x21, 0x21, mapped), "192.0.2.1:4660"},
		"2, with more":         {v2(0x21, 0x11, from4+"\x04\x00\x03abc"), "192.0.2.1:4660"},
		"2, with all it may":   {v2(0x21, 0x11, from4+strings.Repeat("x", most2-len(from4))), "192.0.2.1:4660"},
		"2, unspecified":       {v2(0x21, 0x00, ""), ""},
		"2, a Unix socket":     {v2(0x21, 0x31, strings.Repeat("\x00", 216)), ""},
		"2, local":             {v2(0x20, 0x00, ""), ""},
		"2, local with more":   {v2(0x20, 0x11, from4), ""},
	} {
		for how, wrap := range map[string]func(io.Reader) io.Reader{"at once": func(r io.Reader) io.Reader { return r }, "by bytes": iotest.OneByteReader} {
			r := strings.NewReader(tt.header + "GET / HTTP/1.1\r\n")
			got, err := Read(wrap(r))
			var want netip.AddrPort
			if tt.want != "" {
				want = netip.MustParseAddrPort(tt.want)
			}
			if err != nil || got != want {
				t.Errorf("%s, %s: %v, %v", name, how, got, err)
			}
			if rest, _ := io.ReadAll(r); string(rest) != "GET / HTTP/1.1\r\n" {
				t.Errorf("%s, %s: what follows is %q", name, how, rest)
			}
		}
	}
}

func TestWhatIsNoHeaderIsAnError(t *testing.T) {
	for name, header := range map[string]string{
		"nothing":                 "",
		"a request":               "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"a short request":         "GET /",
		"TLS":                     "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh",
		"1, cut off":              "PROXY TCP4 192.0.2.1",
		"1, a bare LF":            "PROXY TCP4 192.0.2.1 198.51.100.2 4660 443\n",
		"1, no end":               "PROXY " + strings.Repeat("x", 200),
		"1, too long by one":      "PROXY UNKNOWN " + strings.Repeat("x", most1-15) + "\r\n",
		"1, lower case":           "proxy TCP4 192.0.2.1 198.51.100.2 4660 443\r\n",
		"1, another family":       "PROXY UDP4 192.0.2.1 198.51.100.2 4660 443\r\n",
		"1, the wrong family":     "PROXY TCP4 2001:db8::1 2001:db8::2 4660 443\r\n",
		"1, the other one":        "PROXY TCP6 192.0.2.1 192.0.2.2 4660 443\r\n",
		"1, two spaces":           "PROXY TCP4  192.0.2.1 198.51.100.2 4660 443\r\n",
		"1, one more":             "PROXY TCP4 192.0.2.1 198.51.100.2 4660 443 1\r\n",
		"1, one fewer":            "PROXY TCP4 192.0.2.1 198.51.100.2 4660\r\n",
		"1, a port too large":     "PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
		"1, a port with a sign":   "PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n",
		"1, a port with a zero":   "PROXY TCP4 192.0.2.1 198.51.100.2 01 443\r\n",
		"1, an address in octal":  "PROXY TCP4 0300.0.2.1 198.51.100.2 1 443\r\n",
		"1, a zone":               "PROXY TCP6 fe80::1%eth0 2001:db8::2 1 443\r\n",
		"1, a bad destination":    "PROXY TCP4 192.0.2.1 x 1 443\r\n",
		"2, cut off":              signature2 + "\x21",
		"2, cut off in addresses": signature2 + "\x21\x11\x00\x0c" + from4[:11],
		"2, another version":      v2(0x11, 0x11, from4),
		"2, another command":      v2(0x22, 0x11, from4),
		"2, another family":       v2(0x21, 0x41, from4),
		"2, another protocol":     v2(0x21, 0x13, from4),
		"2, too short for IPv4":   v2(0x21, 0x11, from4[:11]),
		"2, too short for IPv6":   v2(0x21, 0x21, from4),
		"2, too short for Unix":   v2(0x21, 0x31, from6),
		"2, too long":             v2(0x21, 0x11, from4+strings.Repeat("x", most2)),
	} {
		if got, err := Read(strings.NewReader(header)); err == nil || got.IsValid() {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 198.51.100.2 4660 443\r\nGET"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(v2(0x21, 0x11, from4+"\x04\x00\x03abc")))
	f.Add([]byte(v2(0x21, 0x21, from6)))
	f.Add([]byte(v2(0x20, 0x00, "")))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		a, err := Read(r)
		if read := len(b) - r.Len(); read > 16+most2 {
			t.Errorf("%d bytes were read", read)
		}
		if err != nil && a.IsValid() || a.Addr().Is4In6() || a.Addr().Zone() != "" {
			t.Errorf("%v, %v", a, err)
		}
	})
}
