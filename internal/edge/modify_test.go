package edge

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"

	"fwdproxy/accesslog"
	"fwdproxy/acl"
	"fwdproxy/internal/hop"
)

// modifying serves with the tables behind a rule that allows everything.
func modifying(t *testing.T, next http.RoundTripper, tables ...acl.ModifyConfig) *stand {
	return newStand(t, next, func(d *Door) {
		e, problems := acl.Compile(acl.Config{Default: "allow", PrivateDestinations: "allow", Modify: tables}, nil)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		d.ACL = e
	})
}

const getOnce = "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n%s\r\n"

func TestFieldsOfRequestAndResponseAreModified(t *testing.T) {
	var sent http.Header
	var told hop.Hop
	s := modifying(t, roundTrip(func(r *http.Request) (*http.Response, error) {
		sent = r.Header
		if err := httptrace.ContextClientTrace(r.Context()).Got1xxResponse(103, textproto.MIMEHeader{"Link": {"</a>"}, "Alt-Svc": {"early"}}); err != nil {
			t.Error(err)
		}
		h := hop.From(r.Context())
		told.Apart, told.Bypass, told.MaxStored = h.Apart, h.Bypass, h.MaxStored
		res := &http.Response{StatusCode: 200, Header: http.Header{"Alt-Svc": {"h3"}, "X-Frame": {"a", "b"}}, ContentLength: -1, Request: r,
			Body: io.NopCloser(strings.NewReader("x")), Trailer: http.Header{"Alt-Svc": {"late"}, "X-Sum": {"1"}}}
		return res, nil
	}), acl.ModifyConfig{Name: "t", SetRequest: map[string]string{"X-Tenant": "one"}, RemoveRequest: []string{"X-Client-Data"},
		SetResponse: map[string]string{"X-Frame": "c"}, RemoveResponse: []string{"Alt-Svc"}, BypassCache: true, MaxResponse: 100})
	// Connection cannot nominate away what a table sets (RFC 9110, Section 7.6.1).
	got := s.talk(t, fmt.Sprintf(getOnce, "Connection: X-Tenant\r\nX-Tenant: mine\r\nX-Client-Data: secret\r\nX_client_data: secret\r\nRange: bytes=0-1,4-5\r\n"))
	early, got, _ := strings.Cut(got, "\r\n\r\n")
	if early != "HTTP/1.1 103 Early Hints\r\nLink: </a>" {
		t.Errorf("before came %s", early)
	}
	if status(got) != "200" || strings.Contains(got, "Alt-Svc") || !strings.Contains(got, "\r\nX-Frame: c\r\n") || !strings.Contains(got, "X-Sum: 1") {
		t.Errorf("got %s", got)
	}
	delete(sent, "Via")
	if fields := sortedFields(sent); fields != "X-Tenant=one" {
		t.Errorf("sent %s", fields)
	}
	if told.Apart != "remove X-Client-Data\nset X-Tenant: one\nsent X-Tenant: one\n" || told.Bypass != "modify t" || told.MaxStored != 100 {
		t.Errorf("told %q, %q, %d", told.Apart, told.Bypass, told.MaxStored)
	}
}

func TestAnAnswerThatIsTooLargeIsRefusedOrBrokenOff_RFC9209_2_3_19(t *testing.T) {
	const most = 10
	for name, tc := range map[string]struct {
		method, fields, body string
		length               int64
		status               int
		contentRange         string
		want                 string // the status that the client gets
		cut                  bool
	}{
		"just fits":                 {"GET", "", "0123456789", 10, 200, "", "200", false},
		"just fits, unknown length": {"GET", "", "0123456789", -1, 200, "", "200", false},
		"too large":                 {"GET", "", "0123456789a", 11, 200, "", "502", false},
		"too large, an error":       {"GET", "", "0123456789a", 11, 404, "", "502", false},
		"unknown length":            {"GET", "", "0123456789a", -1, 200, "", "200", true},
		"HEAD brings nothing":       {"HEAD", "", "", 11, 200, "", "200", false},
		"304 brings nothing":        {"GET", "", "", 11, 304, "", "304", false},
		"a part of what fits":       {"GET", "Range: bytes=0-1\r\n", "01", 2, 206, "bytes 0-1/10", "206", false},
		"a part of what does not":   {"GET", "Range: bytes=0-1\r\n", "01", 2, 206, "bytes 0-1/11", "502", false},
		"a part of nobody knows":    {"GET", "Range: bytes=0-1\r\n", "01", 2, 206, "bytes 0-1/*", "502", false},
		"several parts":             {"GET", "", "01", 2, 206, "", "502", false},
		"a part in another unit":    {"GET", "Range: pages=0-1\r\n", "01", 2, 206, "pages 0-1/3", "502", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := modifying(t, roundTrip(func(r *http.Request) (*http.Response, error) {
				res := &http.Response{StatusCode: tc.status, Header: http.Header{}, ContentLength: tc.length, Request: r, Body: io.NopCloser(strings.NewReader(tc.body))}
				if tc.length >= 0 {
					res.Header.Set("Content-Length", fmt.Sprint(tc.length))
				}
				if tc.contentRange != "" {
					res.Header.Set("Content-Range", tc.contentRange)
				}
				return res, nil
			}), acl.ModifyConfig{Name: "small", MaxResponse: most}, acl.ModifyConfig{Name: "larger", MaxResponse: most + 1})
			got := s.talk(t, strings.Replace(fmt.Sprintf(getOnce, tc.fields), "GET", tc.method, 1))
			r := s.record(t)
			if status(got) != tc.want {
				t.Errorf("got %s", got)
			}
			refused := tc.want == "502"
			if said := field(got, "Proxy-Status"); refused != strings.Contains(said, `error=http_response_body_size; details="rule modify small"`) {
				t.Errorf("Proxy-Status %q", said)
			}
			if refused != (r.Tag == accesslog.TagDenied && r.Rule == "modify small") {
				t.Errorf("logged %s by %q", r.Tag, r.Rule)
			}
			_, body, _ := strings.Cut(got, "\r\n\r\n")
			if complete := strings.HasSuffix(body, "\r\n0\r\n\r\n") || tc.length >= 0; complete == tc.cut {
				t.Errorf("the body looks complete: %q", body)
			}
			if tc.cut != (r.Error == "http_response_incomplete") || tc.cut && !strings.Contains(r.ErrorCause, `max_response of "small"`) {
				t.Errorf("logged %q, %q", r.Error, r.ErrorCause)
			}
		})
	}
}
