package main

import (
	"fmt"
	"strings"
	"testing"

	"fwdproxy/internal/proxytest"
)

// hostile is a request that must not get through: what is sent, where {B} is
// the origin's URL (nothing in reverse mode) and {H} its host.
type hostile struct {
	name, raw string
	want      string // status
}

func post(fields, body string) string {
	return "POST {B}/evil HTTP/1.1\r\nHost: {H}\r\n" + fields + "\r\n" + body
}

func get(fields string) string { return "GET {B}/evil HTTP/1.1\r\nHost: {H}\r\n" + fields + "\r\n" }

func hostileHeads() []hostile {
	list := []hostile{
		{"Content-Length beside Transfer-Encoding (9112 6.1)", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), "400"},
		{"Transfer-Encoding before Content-Length (9112 6.1)", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), "400"},
		{"Transfer-Encoding in HTTP/1.0 (9112 6.1)", "POST {B}/evil HTTP/1.0\r\nHost: {H}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
		{"Transfer-Encoding in kept-alive HTTP/1.0 (9112 6.1)", "POST {B}/evil HTTP/1.0\r\nHost: {H}\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
		{"a Transfer-Encoding that is no more than Content-Length's in 1.0 (9112 6.1)", "POST {B}/evil HTTP/1.0\r\nHost: {H}\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", "400"},
		{"two equal Content-Lengths (9112 6.3)", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), "400"},
		{"two Content-Lengths that differ (9112 6.3)", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), "400"},
		{"two Content-Lengths in other cases (9112 6.3)", post("content-length: 5\r\nCONTENT-LENGTH: 5\r\n", "hello"), "400"},
		{"two Transfer-Encodings (9112 6.1)", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), "400"},
		{"two Transfer-Encodings, identity first (9112 6.1)", post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), "400"},
		{"gzip below chunked (9112 6.1)", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), "501"},
		{"an unknown coding below chunked (9112 6.1)", post("Transfer-Encoding: what,chunked\r\n", "0\r\n\r\n"), "501"},
		{"a blank before the colon of Transfer-Encoding (9112 5.1)", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), "400"},
		{"a tab before the colon of Transfer-Encoding (9112 5.1)", post("Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n"), "400"},
		{"an underscore in Content_Length", post("Content_Length: 5\r\n", "hello"), "400"},
		{"an underscore in Transfer_Encoding", post("Transfer_Encoding: chunked\r\n", "0\r\n\r\n"), "400"},
		{"Trailer that names Content-Length (9110 6.5.1)", post("Transfer-Encoding: chunked\r\nTrailer: X, Content-Length\r\n", "0\r\n\r\n"), "400"},
		{"Trailer that names Transfer-Encoding (9110 6.5.1)", post("Transfer-Encoding: chunked\r\nTrailer: transfer-encoding\r\n", "0\r\n\r\n"), "400"},

		{"LF alone everywhere (9112 2.2)", "GET {B}/evil HTTP/1.1\nHost: {H}\n\n", "400"},
		{"LF alone behind the request line (9112 2.2)", "GET {B}/evil HTTP/1.1\nHost: {H}\r\n\r\n", "400"},
		{"LF alone behind a field (9112 2.2)", get("X: a\n"), "400"},
		{"LF alone as the empty line (9112 2.2)", "GET {B}/evil HTTP/1.1\r\nHost: {H}\r\n\n", "400"},
		{"LF alone before the request (9112 2.2)", "\n" + get(""), "400"},
		{"two empty lines before the request (9112 2.2)", "\r\n\r\n" + get(""), "400"},
		{"CR alone before the request (9112 2.2)", "\r" + get(""), "400"},
		{"CR alone in a field (9112 2.2)", get("X: a\rb\r\n"), "400"},
		{"two CRs behind a field (9112 2.2)", get("X: a\r\r\n"), "400"},
		{"CR alone instead of CRLF (9112 2.2)", get("X: a\rTransfer-Encoding: chunked\r\n"), "400"},
		{"CR in the request line (9112 2.2)", "GET {B}/evil\r HTTP/1.1\r\nHost: {H}\r\n\r\n", "400"},

		{"a folded line (9112 5.2)", get("X: a\r\n b\r\n"), "400"},
		{"a line folded with a tab (9112 5.2)", get("X: a\r\n\tb\r\n"), "400"},
		{"a folded Host (9112 5.2)", "GET {B}/evil HTTP/1.1\r\nHost:\r\n {H}\r\n\r\n", "400"},
		{"a folded Transfer-Encoding (9112 5.2)", post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), "400"},
		{"a folded Content-Length (9112 5.2)", post("Content-Length:\r\n 5\r\n", "hello"), "400"},
		{"a blank before the first field (9112 2.2)", "GET {B}/evil HTTP/1.1\r\n Host: {H}\r\n\r\n", "400"},
		{"a tab before the first field (9112 2.2)", "GET {B}/evil HTTP/1.1\r\n\tX: y\r\nHost: {H}\r\n\r\n", "400"},
		{"a line of blanks (9112 5.2)", get(" \r\n"), "400"},

		{"a blank before a colon (9112 5.1)", get("X : a\r\n"), "400"},
		{"a blank before Host's colon (9112 5.1)", "GET {B}/evil HTTP/1.1\r\nHost : {H}\r\n\r\n", "400"},
		{"an empty name (9110 5.1)", get(": a\r\n"), "400"},
		{"no colon (9112 5)", get("X\r\n"), "400"},
		{"no colon, with blanks (9112 5)", get("GET /smuggled HTTP/1.1\r\n"), "400"},

		{"no Host in HTTP/1.1 (9112 3.2)", "GET {B}/evil HTTP/1.1\r\nX: a\r\n\r\n", "400"},
		{"no Host and no field (9112 3.2)", "GET {B}/evil HTTP/1.1\r\n\r\n", "400"},
		{"two Hosts (9112 3.2)", get("Host: b.test\r\n"), "400"},
		{"two equal Hosts (9112 3.2)", get("Host: {H}\r\n"), "400"},
		{"two Hosts in other cases (9112 3.2)", get("HOST: {H}\r\n"), "400"},
		{"two Hosts in HTTP/1.0 (9112 3.2)", "GET {B}/evil HTTP/1.0\r\nHost: {H}\r\nHost: b.test\r\n\r\n", "400"},

		{"a Connection that nominates nothing valid still frames once (9112 6.1)", post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n", "0\r\n\r\n"), "400"},
		{"TLS to a plain port", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400"},
		{"an HTTP/2 preface (9113 3.4)", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"},
		{"a request of HTTP/0.9", "GET {B}/evil\r\n\r\n", "400"},
		{"an unknown expectation (9110 10.1.1)", post("Expect: 200-ok\r\nContent-Length: 5\r\n", "hello"), "417"},
		{"100-continue beside another expectation (9110 10.1.1)", post("Expect: 100-continue, x=y\r\nContent-Length: 5\r\n", "hello"), "417"},
		{"100-continue on one line, another on a second (9110 10.1.1)", post("Expect: 100-continue\r\nExpect: x=y\r\nContent-Length: 5\r\n", "hello"), "417"},

		{"a request line beyond the limit (9110 15.5.15)", "GET {B}/" + strings.Repeat("a", 5000) + " HTTP/1.1\r\nHost: {H}\r\n\r\n", "414"},
		{"a request line without end (9110 15.5.15)", "GET {B}/" + strings.Repeat("a", 9000), "414"},
		{"a method without end (9110 15.5.15)", strings.Repeat("A", 9000), "414"},
		{"a field beyond the limit (6585 5)", get("X: " + strings.Repeat("a", 17000) + "\r\n"), "431"},
		{"a field without end (6585 5)", "GET {B}/evil HTTP/1.1\r\nHost: {H}\r\nX: " + strings.Repeat("a", 30000), "431"},
		{"a name without end (6585 5)", "GET {B}/evil HTTP/1.1\r\nHost: {H}\r\n" + strings.Repeat("a", 30000), "431"},
		{"ten thousand fields (6585 5)", get(strings.Repeat("a: b\r\n", 10000)), "431"},
		{"one field too many (6585 5)", get(strings.Repeat("a: b\r\n", 40)), "431"},
	}
	add := func(name, want, format string, values ...string) {
		for _, v := range values {
			list = append(list, hostile{fmt.Sprintf("%s: %q", name, v), fmt.Sprintf(format, v), want})
		}
	}
	add("Content-Length (9112 6.3)", "400", post("Content-Length: %s\r\n", "hello"),
		"+5", "-1", "-0", "0x5", "5 5", "5,6", "5,5", "5, 5", "", "1e1", "5.0", "0005", "00", "05", "5;", "5\x0b", "\x0c5", "5\u00a0", "٥",
		"99999999999999999999", "9223372036854775808", "18446744073709551621", "5_0", `"5"`, "5\x00", "five", "0b101", "5 ;x")
	add("Transfer-Encoding (9112 6.1, 6.3)", "400", post("Transfer-Encoding: %s\r\n", "0\r\n\r\n"),
		"", "identity", "xchunked", "chunkedx", ",chunked", "chunked,", "chunked, gzip", "chunked, identity", "chunked,chunked", "gzip",
		"\x0bchunked", "chunked\x0b", "chunked\x00", `"chunked"`, "'chunked'", "chunked;q=1", "chunked; x", "chun ked", "chunked chunked",
		"chunke\u1e0b", "\u017fhunked", "\xa0chunked", "[chunked]", "x, x chunked", "chunk")
	add("Host (9112 3.2)", "400", "GET {B}/evil HTTP/1.1\r\nHost: %s\r\n\r\n",
		"", " ", "a,b", "a, b", "a b", "a/b", "a@b", "user@{H}", "user:pass@{H}", "a?b", "a#b", `a\b`, "http://a", "//a", "a:b", "a:80:80", "a:-1", "a:+80", "a:80a", "a:123456",
		":80", "[::1", "::1]", "[]", "[::1]x", "[g::1]", "[::1%25eth0]", "a%2eb", "a%00", "a\x00", "a\x7f", "ä.test", "a;b", "a|b", "<a>", `"a"`, "a*", "a'", "(a)")
	add("a field's value (9110 5.5)", "400", get("X: %s\r\n"),
		"\x00", "a\x00b", "\x01", "a\x08", "\x0b", "\x0c", "a\x1bb", "\x1f", "\x7f")
	add("a field's name (9110 5.1)", "400", get("%s: a\r\n"),
		"a b", "a(b)", "a/b", "a@b", "a[b]", "a{b}", `a"b`, `a\b`, "a;b", "a,b", "a=b", "a?b", "<a>", "\x85", "ä", "a\x00", "a\x7f", "a\x0b", "\x00", "(", "\xc2\x85a")
	add("a request line (9112 3)", "400", "%s\r\nHost: {H}\r\n\r\n",
		"GET  {B}/evil HTTP/1.1", "GET {B}/evil  HTTP/1.1", " GET {B}/evil HTTP/1.1", "GET {B}/evil HTTP/1.1 ", "GET\t{B}/evil HTTP/1.1", "GET {B}/evil\tHTTP/1.1",
		"GET {B}/evil", "GET", "GET ", "GET HTTP/1.1", "GET  HTTP/1.1", "GET {B}/e vil HTTP/1.1", "GET {B}/e\x00vil HTTP/1.1", "GET {B}/e\x7fvil HTTP/1.1", "GET {B}/e\x0bvil HTTP/1.1",
		"G(T {B}/evil HTTP/1.1", "G\x00T {B}/evil HTTP/1.1", "GÄT {B}/evil HTTP/1.1", `"GET" {B}/evil HTTP/1.1`, "GET: {B}/evil HTTP/1.1", "GET? {B}/evil HTTP/1.1",
		"GET {B}/evil http/1.1", "GET {B}/evil HTTP/1", "GET {B}/evil HTTP/1.", "GET {B}/evil HTTP/.1", "GET {B}/evil HTTP/1.11", "GET {B}/evil HTTP/01.1", "GET {B}/evil HTTP/1.32", "GET {B}/evil HTTP/+1.1",
		"GET {B}/evil HTTP/1,1", "GET {B}/evil HTTP/1.1x", "GET {B}/evil HTTP /1.1", "GET {B}/evil HTTPS/1.1", "GET {B}/evil HTTP/1.\xd9\xa1", "GET {B}/evil ICY/1.1", "GET {B}/evil HTTP/1.1,GET {B}/smuggled HTTP/1.1",
		"GET {B}/e%%zz HTTP/1.1", "GET {B}/e%% HTTP/1.1", "GET {B}/e%%4 HTTP/1.1", "GET {B}/evil#x HTTP/1.1", "GET #x HTTP/1.1", "GET evil HTTP/1.1", "GET http://[::1/ HTTP/1.1", "GET http://a:b/ HTTP/1.1",
		"GET http://a b/ HTTP/1.1", "GET http://a%%00/ HTTP/1.1", "CONNECT [::1:443 HTTP/1.1", "CONNECT a%%20b:443 HTTP/1.1")
	add("a version (9110 15.6.6)", "505", "GET {B}/evil %s\r\nHost: {H}\r\n\r\n",
		"HTTP/0.9", "HTTP/1.2", "HTTP/1.9", "HTTP/2.0", "HTTP/3.0", "HTTP/9.9", "HTTP/0.0", "HTTP/2.1")
	return list
}

// smuggled is what follows each hostile request on its connection.
const smuggled = "GET {B}/smuggled HTTP/1.1\r\nHost: {H}\r\nConnection: close\r\n\r\n"

func TestWhatTwoPartiesCouldReadDifferentlyIsRefusedAndGoesNoFurther(t *testing.T) {
	list := hostileHeads()
	if len(list) < 200 {
		t.Errorf("the table has only %d requests", len(list))
	}
	bothModes(t, func(t *testing.T, mode string) {
		w := startWire(t, mode, "", fine)
		for _, h := range list {
			raw := w.expand(strings.ReplaceAll(h.raw, "%%", "%") + smuggled)
			reply := proxytest.Talk(t, w.addr, raw)
			if got := statuses(reply); got != h.want {
				t.Errorf("%s: got %q, want %s\n%s", h.name, got, h.want, reply)
				continue
			}
			if ps := proxytest.Field(reply, "Proxy-Status"); !strings.HasPrefix(ps, "fwdproxy; error=http_request_error; details=\"") ||
				proxytest.Field(reply, "Connection") != "close" || proxytest.Field(reply, "Via") != "1.1 fwdproxy" {
				t.Errorf("%s: Proxy-Status %q\n%s", h.name, ps, reply)
			}
			if bytes, seen := w.origin.take(); bytes != "" {
				t.Errorf("%s: the origin got %q (%v)", h.name, bytes, seen)
			}
		}
		records := strings.Split(strings.TrimSpace(w.logText(t, len(list))), "\n")
		if len(records) != len(list) {
			t.Errorf("%d records of %d requests", len(records), len(list))
		}
		for _, r := range records {
			if !strings.Contains(r, `"error":"http_request_error"`) || !strings.Contains(r, `"client":"127.0.0.1`) || strings.ContainsAny(r, "\x00\x0b\x7f\x1b") {
				t.Errorf("record %q", r)
			}
		}
	})
}

func TestAMalformedBodyIsNeverCompletedUpstream(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"0x before a size (9112 7.1)":             {"0x5\r\nhello\r\n0\r\n\r\n", "400"},
		"a sign before a size (9112 7.1)":         {"+5\r\nhello\r\n0\r\n\r\n", "400"},
		"a minus before a size (9112 7.1)":        {"-5\r\nhello\r\n0\r\n\r\n", "400"},
		"an underscore in a size (9112 7.1)":      {"5_0\r\nhello\r\n0\r\n\r\n", "400"},
		"a blank before a size (9112 7.1)":        {" 5\r\nhello\r\n0\r\n\r\n", "400"},
		"a blank behind a size (9112 7.1)":        {"5 \r\nhello\r\n0\r\n\r\n", "400"},
		"a tab behind a size (9112 7.1)":          {"5\t\r\nhello\r\n0\r\n\r\n", "400"},
		"a blank before an extension (9112 7.1)":  {"5 ;a=b\r\nhello\r\n0\r\n\r\n", "400"},
		"an empty size (9112 7.1)":                {"\r\nhello\r\n0\r\n\r\n", "400"},
		"only an extension (9112 7.1)":            {";a=b\r\nhello\r\n0\r\n\r\n", "400"},
		"17 digits (9112 7.1)":                    {"00000000000000005\r\nhello\r\n0\r\n\r\n", "400"},
		"a size beyond 63 bits (9112 7.1)":        {"8000000000000000\r\nhello\r\n0\r\n\r\n", "400"},
		"a size that wraps (9112 7.1)":            {"10000000000000005\r\nhello\r\n0\r\n\r\n", "400"},
		"letters beyond f (9112 7.1)":             {"g\r\nhello\r\n0\r\n\r\n", "400"},
		"CR alone in an extension (9112 7.1.1)":   {"5;a=\r\r\nhello\r\n0\r\n\r\n", "400"},
		"NUL in an extension (9112 7.1.1)":        {"5;a=\x00\r\nhello\r\n0\r\n\r\n", "400"},
		"LF in an extension (9112 7.1.1)":         {"5;a=\nb\r\nhello\r\n0\r\n\r\n", "400"},
		"an endless extension (9112 7.1.1)":       {"5;a=" + strings.Repeat("b", 64<<10) + "\r\nhello\r\n0\r\n\r\n", "400"},
		"many long extensions (9112 7.1.1)":       {strings.Repeat("1;"+strings.Repeat("b", 400)+"\r\nx\r\n", 100) + "0\r\n\r\n", "400"},
		"LF alone behind a size (9112 7.1)":       {"5\nhello\r\n0\r\n\r\n", "400"},
		"LF alone behind data (9112 7.1)":         {"5\r\nhello\n0\r\n\r\n", "400"},
		"CR alone behind data (9112 7.1)":         {"5\r\nhello\r0\r\n\r\n", "400"},
		"no CRLF behind data (9112 7.1)":          {"5\r\nhello0\r\n\r\n", "400"},
		"data longer than its size (9112 7.1)":    {"3\r\nhello\r\n0\r\n\r\n", "400"},
		"LF alone behind the last size":           {"5\r\nhello\r\n0\n\r\n", "400"},
		"LF alone as the end (9112 7.1)":          {"5\r\nhello\r\n0\r\n\n", "400"},
		"a trailer without colon (9112 7.1.2)":    {"5\r\nhello\r\n0\r\nX\r\n\r\n", "400"},
		"a trailer that is folded (9112 7.1.2)":   {"5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n", "400"},
		"a trailer with a blank before its colon": {"5\r\nhello\r\n0\r\nX : a\r\n\r\n", "400"},
		"a trailer without a name (9112 7.1.2)":   {"5\r\nhello\r\n0\r\n: a\r\n\r\n", "400"},
		"a trailer with NUL (9112 7.1.2)":         {"5\r\nhello\r\n0\r\nX: \x00\r\n\r\n", "400"},
		"a trailer with CR alone (9112 7.1.2)":    {"5\r\nhello\r\n0\r\nX: a\rb\r\n\r\n", "400"},
		"a trailer too large (9112 7.1.2)":        {"5\r\nhello\r\n0\r\nX: " + strings.Repeat("a", 9000) + "\r\n\r\n", "431"},
		"trailers too large (9112 7.1.2)":         {"5\r\nhello\r\n0\r\n" + strings.Repeat("X: "+strings.Repeat("a", 500)+"\r\n", 20) + "\r\n", "431"},
		"too many trailers (9112 7.1.2)":          {"5\r\nhello\r\n0\r\n" + strings.Repeat("X: a\r\n", 50) + "\r\n", "431"},
	} {
		t.Run(name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, mode string) {
				w := startWire(t, mode, "", fine)
				reply := proxytest.Talk(t, w.addr, w.expand(post("Transfer-Encoding: chunked\r\n", c.body)+smuggled))
				if got := statuses(reply); got != c.want || proxytest.Field(reply, "Connection") != "close" {
					t.Errorf("got %q, want %s\n%s", got, c.want, reply)
				}
				if raw, seen := w.origin.take(); len(seen) > 0 || strings.Contains(raw, "smuggled") || strings.HasSuffix(raw, "0\r\n\r\n") {
					t.Errorf("the origin got %q", raw)
				}
			})
		})
	}
}

func bothModes(t *testing.T, f func(t *testing.T, mode string)) {
	for _, mode := range []string{modeForward, modeReverse} {
		t.Run(mode, func(t *testing.T) { f(t, mode) })
	}
}
