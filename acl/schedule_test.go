package acl

import (
	"testing"
	"time"
)

func TestWindowsOfTime(t *testing.T) {
	for _, tt := range []struct {
		when    string
		in, out []string // RFC 3339
	}{
		{"Mon-Fri 09:00-18:00 Europe/Berlin",
			[]string{"2026-01-07T09:00:00+01:00", "2026-01-07T17:59:59+01:00", "2026-01-07T08:00:00Z", "2026-07-08T07:00:00Z"},
			[]string{"2026-01-07T08:59:59+01:00", "2026-01-07T18:00:00+01:00", "2026-01-10T12:00:00+01:00", "2026-07-08T16:00:00Z", "2026-01-07T17:30:00Z"}},
		{"Fri 22:00-06:00 UTC",
			[]string{"2026-01-09T22:00:00Z", "2026-01-10T05:59:59Z", "2026-01-10T00:00:00Z"},
			[]string{"2026-01-09T21:59:59Z", "2026-01-10T06:00:00Z", "2026-01-09T03:00:00Z", "2026-01-10T22:30:00Z"}},
		{"Sat-Mon UTC", []string{"2026-01-10T00:00:00Z", "2026-01-11T12:00:00Z", "2026-01-12T23:59:59Z"}, []string{"2026-01-09T23:59:59Z", "2026-01-13T00:00:00Z"}},
		{"12:00-13:00,20:00-24:00 America/New_York", []string{"2026-01-07T12:30:00-05:00", "2026-01-07T23:59:59-05:00"}, []string{"2026-01-08T00:00:00-05:00", "2026-01-07T12:30:00Z"}},
		{"Mon-Thu 08:00-17:00; Fri,Sat 08:00-12:00 UTC", []string{"2026-01-08T16:00:00Z", "2026-01-09T11:00:00Z"}, []string{"2026-01-09T13:00:00Z", "2026-01-11T09:00:00Z"}},
		{"00:00-24:00 UTC", []string{"2026-01-07T00:00:00Z", "2026-01-07T23:59:59Z"}, nil},
		// The clocks go from 02:00 to 03:00 on 29 March, and from 03:00 back to 02:00 on 25 October.
		{"02:00-03:00 Europe/Berlin",
			[]string{"2026-03-28T01:30:00Z", "2026-10-25T00:00:00Z", "2026-10-25T01:59:59Z"},
			[]string{"2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z", "2026-10-25T02:00:00Z", "2026-10-24T23:59:59Z"}},
		{"Sat 23:00-04:00 Europe/Berlin", []string{"2026-03-29T01:59:59Z", "2026-10-25T02:59:59Z"}, []string{"2026-03-29T02:00:00Z", "2026-10-25T03:00:00Z"}},
	} {
		s, bad := parseSchedule(tt.when)
		if bad != nil {
			t.Errorf("%s: %s", tt.when, bad.message)
			continue
		}
		for want, times := range map[bool][]string{true: tt.in, false: tt.out} {
			for _, text := range times {
				now, err := time.Parse(time.RFC3339, text)
				if err != nil {
					t.Fatal(err)
				}
				if s.holds(now) != want {
					t.Errorf("%s holds at %s: %v", tt.when, text, !want)
				}
			}
		}
	}
}

func FuzzTimeWindows(f *testing.F) {
	for _, s := range []string{"Mon-Fri 09:00-18:00 Europe/Berlin", "Fri 22:00-06:00 UTC", "UTC", "Sat;Sun UTC", "24:00-01:00 UTC", "Mon 09:00-18:00", "09:00-24:00,1 UTC", "Sun-Sat Etc/GMT+5"} {
		f.Add(s, int64(1767786000))
	}
	f.Fuzz(func(t *testing.T, text string, unix int64) {
		s, bad := parseSchedule(text)
		if bad != nil {
			if s != nil || bad.message == "" || bad.hint == "" {
				t.Fatalf("%q: %v, %+v", text, s, bad)
			}
			return
		}
		ever, always := false, true
		start := time.Unix(unix%1e11, 0)
		for i := range 7 * 24 * 4 {
			holds := s.holds(start.Add(time.Duration(i) * 15 * time.Minute))
			ever, always = ever || holds, always && holds
		}
		for _, w := range s.windows {
			length := w.end - w.begin
			if w.begin == w.end || w.begin < 0 || w.begin >= wholeDay || w.end > wholeDay {
				t.Fatalf("%q: window %+v", text, w)
			}
			// A window of two hours is met in every week, even where the clocks skip one.
			if (length >= 120 || length < 0 && length+wholeDay >= 120) && !ever {
				t.Fatalf("%q never holds in the week from %s", text, start)
			}
			if length == wholeDay && w.days == [7]bool{true, true, true, true, true, true, true} && !always {
				t.Fatalf("%q does not always hold", text)
			}
		}
	})
}
