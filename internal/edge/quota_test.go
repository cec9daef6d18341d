package edge

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"fwdproxy/acl"
	"fwdproxy/internal/proxytest"
	"fwdproxy/internal/quota"
	"fwdproxy/internal/unit"
)

// limited serves with the limits behind a rule that allows everything.
func limited(t *testing.T, next http.RoundTripper, limits ...acl.LimitConfig) *stand {
	return newStand(t, next, func(d *Door) {
		e, problems := acl.Compile(acl.Config{Default: "allow", PrivateDestinations: "allow", Limits: limits}, nil)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		d.ACL, d.Quotas = e, quota.NewTable()
	})
}

func TestWhatIsOverALimitGets429Or503AndIsNotSent_RFC6585_4(t *testing.T) {
	for per, want := range map[string]string{"client": "429", "user": "429", "all": "503"} {
		t.Run(per, func(t *testing.T) {
			sent := 0
			s := limited(t, roundTrip(func(r *http.Request) (*http.Response, error) {
				sent++
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("x")), Request: r}, nil
			}), acl.LimitConfig{Name: "one a day", Per: per, Requests: unit.Rate{Amount: 1, Period: 24 * time.Hour}})
			const get = "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
			proxytest.Talk(t, s.addr, get)
			head := proxytest.Talk(t, s.addr, get)
			if status(head) != want || field(head, "Retry-After") == "" || sent != 1 {
				t.Errorf("sent %d, answered %s", sent, head)
			}
			<-s.records
			if r := <-s.records; r.Limit != "one a day" || r.Rule != "limit one a day" || strconv.Itoa(r.Status) != want {
				t.Errorf("%+v", r)
			}
		})
	}
}
