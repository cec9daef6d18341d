package main

import (
	"errors"
	"testing"
	"time"

	"fwdproxy/acl"
	"fwdproxy/lists"
)

func TestADownloadIsDueAfterRefreshAndSoonerAfterAFailure(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for name, tt := range map[string]struct {
		refresh time.Duration
		err     error
		want    time.Duration
	}{
		"done":              {24 * time.Hour, nil, 24 * time.Hour},
		"failed":            {24 * time.Hour, errors.New("x"), 10 * time.Minute},
		"failed, but often": {time.Minute, errors.New("x"), time.Minute},
	} {
		var d downloads
		l := acl.Download{List: "l", URL: "http://a.test/", Refresh: tt.refresh}
		c := lists.Copies{Dir: t.TempDir()}
		if st := d.known(c, l); !st.due.IsZero() || !st.checked.IsZero() {
			t.Errorf("%s: without a copy: %+v", name, st)
		}
		d.note(l, tt.err, now)
		st := d.known(c, l)
		if got := st.due.Sub(now); got != tt.want || (st.err == "") != (tt.err == nil) || (st.failures == 0) != (tt.err == nil) || st.checked.IsZero() != (tt.err != nil) {
			t.Errorf("%s: due after %v, %+v", name, got, st)
		}
	}
}
