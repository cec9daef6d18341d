package accesslog

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write the golden files anew")

// start is 1774000000.123 seconds after the epoch.
var start = time.Unix(1774000000, 123456789)

func sample() Record {
	return Record{
		Time: start, Duration: 42*time.Millisecond + 317*time.Microsecond, RequestID: "0123456789abcdef", Mode: "forward",
		Client: netip.MustParseAddrPort("192.0.2.10:51234"), User: "alice",
		Method: "GET", URL: "http://example.com/a?b=c", Proto: "HTTP/1.1", Status: 200,
		Tag: TagMiss, Rule: "office", Verdict: "allow", NextHop: "DIRECT/198.51.100.7",
		BytesOut: 1256, ContentType: "text/html; charset=utf-8",
		Referer: "http://example.com/", UserAgent: "curl/8.5.0", CacheStatus: "fwdproxy; fwd=miss; stored",
	}
}

// edited returns the sample after f has changed it.
func edited(f func(*Record)) Record {
	r := sample()
	f(&r)
	return r
}

// goldenRecords are what the golden files show, one line each.
func goldenRecords() []Record {
	return []Record{
		sample(),
		edited(func(r *Record) {
			r.Tag, r.NextHop, r.Duration, r.User = TagHit, "NONE", 87*time.Microsecond, ""
			r.CacheStatus = "fwdproxy; hit; ttl=30"
		}),
		edited(func(r *Record) {
			r.Method, r.URL, r.Tag, r.Duration = "CONNECT", "example.com:443", TagTunnel, 10*time.Minute
			r.BytesIn, r.BytesOut, r.ContentType, r.CacheStatus, r.Referer = 1517, 3000000000, "", "", ""
			r.Client, r.NextHop = netip.MustParseAddrPort("[2001:db8::1]:443"), "DIRECT/2001:db8::2"
		}),
		edited(func(r *Record) {
			r.Tag, r.Status, r.Rule, r.Verdict, r.NextHop = TagDenied, 403, "no social media", "deny", "NONE"
			r.Error, r.CacheStatus = "http_request_denied", ""
		}),
		edited(func(r *Record) {
			r.Mode, r.NextHop, r.Method, r.BytesIn = "reverse", "app/127.0.0.1:9000", "POST", 77
			r.Tag, r.Status, r.Error, r.ErrorCause = TagMiss, 502, "connection_refused", "dial tcp 127.0.0.1:9000: connect: connection refused"
		}),
		{Time: start, Client: netip.MustParseAddrPort("192.0.2.10:51234"), Status: 400, Tag: TagNone, NextHop: "NONE", Error: "http_request_error"},
		edited(func(r *Record) { // hostile
			r.User = "eve\r\n\x1b[31m \"-\" é"
			r.Method, r.Proto = "G\"E\nT", "HTTP/\x009"
			r.URL = "http://eve:hunter2@example.com/a b\r\nSet-Cookie: x\x1b[2J\"?token=abc&q=%0d%0a\u202e\xff"
			r.Referer = "https://sso.example/?code=xyz\"&x=1"
			r.UserAgent = "\"a\"\\\t[b]%\x7f\u0085\u2028\U000e0041"
			r.ContentType = "text/html\r\n; charset=\"utf-8\""
			r.Rule, r.NextHop = "rule \"\n1\"", "app/\n1"
			r.ErrorCause = "parse \"http://eve:hunter2@h:x/?password=hunter2\": invalid port"
		}),
		{},
	}
}

func encode(format string, r *Record) string {
	var l line
	encoders[format](&l, r)
	return string(l.out)
}

func TestEachFormatLooksAsInItsGoldenFile(t *testing.T) {
	for format := range encoders {
		var got strings.Builder
		for _, r := range goldenRecords() {
			got.WriteString(encode(format, &r))
		}
		file := filepath.Join("testdata", format+".golden")
		if *update {
			if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got.String() != string(want) {
			t.Errorf("%s differs; run the test with -update and read the difference\ngot:\n%s\nwant:\n%s", file, got.String(), want)
		}
	}
}

func TestNoFormatShowsASecret(t *testing.T) {
	for format := range encoders {
		for i, r := range goldenRecords() {
			if out := encode(format, &r); strings.Contains(out, "hunter2") || strings.Contains(out, "abc&") || strings.Contains(out, "xyz") {
				t.Errorf("%s, record %d: %s", format, i, out)
			}
		}
	}
}

func TestTheLineOfATypicalRecordIsSquidsToTheByte(t *testing.T) {
	// What Squid's format "%ts.%03tu %6tr %>a %Ss/%03>Hs %<st %rm %ru %[un %Sh/%<a %mt"
	// makes of the same exchange.
	const want = "1774000000.165     42 192.0.2.10 TCP_MISS/200 1256 GET http://example.com/a?b=c alice HIER_DIRECT/198.51.100.7 text/html\n"
	r := sample()
	if got := encode(formatSquid, &r); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

func TestJSONKeepsItsFieldsAndTheirOrder(t *testing.T) {
	core := []string{"time", "client", "user", "method", "url", "status", "bytes_out", "bytes_in", "duration_ms", "tag", "rule", "verdict", "next_hop"}
	rest := []string{"request_id", "mode", "client_port", "protocol", "content_type", "cache_status", "referer", "user_agent", "error", "error_cause"}
	full := edited(func(r *Record) { r.Error, r.ErrorCause = "dns_error", "no such host" })
	for _, c := range []struct {
		r    Record
		want []string
	}{{Record{}, core}, {full, append(core, rest...)}} {
		d := json.NewDecoder(strings.NewReader(encode(formatJSON, &c.r)))
		if _, err := d.Token(); err != nil {
			t.Fatal(err)
		}
		var got []string
		for d.More() {
			key, err := d.Token()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, key.(string))
			if _, err := d.Token(); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Join(got, " ") != strings.Join(c.want, " ") {
			t.Errorf("got  %v\nwant %v", got, c.want)
		}
	}
}

func TestDurationsAreMillisecondsToTheMicrosecond(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0", 999: "0", time.Microsecond: "0.001", 87 * time.Microsecond: "0.087", 120 * time.Microsecond: "0.12",
		time.Millisecond: "1", 1500 * time.Microsecond: "1.5", 10 * time.Millisecond: "10", time.Hour: "3600000", -time.Second: "0",
	} {
		if got := string(appendMicros(nil, d)); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestTheTimeIsUTCWithMilliseconds_RFC3339(t *testing.T) {
	east := time.FixedZone("", 2*3600)
	at := time.Date(2026, 1, 2, 1, 4, 5, 6_999_999, east)
	if got := string(appendTime(nil, at)); got != "2026-01-01T23:04:05.006Z" {
		t.Error(got)
	}
	r := Record{Time: at}
	if got := encode(formatCombined, &r); !strings.Contains(got, "[01/Jan/2026:23:04:05 +0000]") {
		t.Error(got)
	}
}

func TestHierarchyCodesAreSquids(t *testing.T) {
	for hop, want := range map[string]string{
		"":                         "HIER_NONE/-",
		"NONE":                     "HIER_NONE/-",
		"DIRECT/192.0.2.1":         "HIER_DIRECT/192.0.2.1",
		"DIRECT/192.0.2.1:80":      "HIER_DIRECT/192.0.2.1",
		"DIRECT/2001:db8::1":       "HIER_DIRECT/2001:db8::1",
		"DIRECT/[2001:db8::1]:443": "HIER_DIRECT/2001:db8::1",
		"app/127.0.0.1:9000":       "FIRSTUP_PARENT/127.0.0.1",
		"app/[::1]:9000":           "FIRSTUP_PARENT/::1",
		"app/backend:9000":         "FIRSTUP_PARENT/backend",
	} {
		if got := string(appendHierarchy(nil, hop, true)); got != want {
			t.Errorf("%q: %q, want %q", hop, got, want)
		}
	}
}

func TestAFormattedRecordAllocatesNothing(t *testing.T) {
	for format, enc := range encoders {
		var l line
		for i, r := range goldenRecords() {
			enc(&l, &r)
			if n := testing.AllocsPerRun(100, func() {
				l.out = l.out[:0]
				enc(&l, &r)
			}); n != 0 {
				t.Errorf("%s, record %d: %v allocations", format, i, n)
			}
		}
	}
}

func FuzzEveryRecordIsOneLine(f *testing.F) {
	for _, r := range goldenRecords() {
		f.Add(r.User, r.Method, r.URL, r.Proto, r.Rule, r.NextHop, r.ContentType, r.Referer, r.UserAgent, r.ErrorCause, int64(r.Duration), r.Status)
	}
	f.Fuzz(func(t *testing.T, user, method, url, proto, rule, hop, kind, referer, agent, cause string, d int64, status int) {
		r := Record{
			Time: start, Duration: time.Duration(d), User: user, Method: method, URL: url, Proto: proto, Status: status, Rule: rule,
			NextHop: hop, ContentType: kind, Referer: referer, UserAgent: agent, ErrorCause: cause, Tag: Tag(rule), CacheStatus: agent, Error: kind,
		}
		for format := range encoders {
			out := encode(format, &r)
			body, ok := strings.CutSuffix(out, "\n")
			if !ok || !utf8.ValidString(body) || strings.ContainsFunc(body, func(c rune) bool { return !unicode.IsPrint(c) }) {
				t.Fatalf("%s is not one printable line: %q", format, out)
			}
			switch format {
			case formatJSON:
				checkJSON(t, body, user)
			case formatSquid:
				if n := len(strings.Fields(body)); n != 10 {
					t.Fatalf("%d columns in place of 10: %q", n, body)
				}
			case formatCombined:
				if n := strings.Count(body, `"`); n != 6 {
					t.Fatalf("%d quotes in place of 6: %q", n, body)
				}
			}
		}
	})
}

func checkJSON(t *testing.T, body, user string) {
	t.Helper()
	var v map[string]any
	d := json.NewDecoder(bytes.NewReader([]byte(body)))
	if err := d.Decode(&v); err != nil || d.More() {
		t.Fatalf("%v: %q", err, body)
	}
	want := orDash(string([]rune(user))) // as JSON has it: U+FFFD for what is not UTF-8
	if v["user"] != want {
		t.Fatalf("user %q became %q", want, v["user"])
	}
}

func BenchmarkFormat(b *testing.B) {
	for format, enc := range encoders {
		b.Run(format, func(b *testing.B) {
			r := sample()
			var l line
			b.ReportAllocs()
			for b.Loop() {
				l.out = l.out[:0]
				enc(&l, &r)
			}
		})
	}
}
