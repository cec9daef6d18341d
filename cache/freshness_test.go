package cache

import (
	"math"
	"net/http"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestLifetimeIsTheFirstThatIsStated(t *testing.T) { // RFC 9111, Section 4.2.1
	at := func(d time.Duration) string { return httpDate(noon.Add(d)) }
	for _, tc := range []struct {
		name   string
		status int
		lines  []string
		want   time.Duration
		source Source
	}{
		{"nothing", 200, nil, 0, NoLifetime},
		{"s-maxage before max-age", 200, []string{"Cache-Control: max-age=5, s-maxage=7", "Expires: " + at(time.Hour)}, 7 * time.Second, FromSMaxAge},
		{"max-age before Expires", 200, []string{"Cache-Control: max-age=5", "Expires: " + at(time.Hour)}, 5 * time.Second, FromMaxAge},
		{"max-age of zero before Expires", 200, []string{"Cache-Control: max-age=0", "Expires: " + at(time.Hour)}, 0, FromMaxAge},
		{"Expires minus Date", 200, []string{"Expires: " + at(time.Hour), "Date: " + at(-time.Hour)}, 2 * time.Hour, FromExpires},
		{"Expires without Date counts from the arrival", 200, []string{"Expires: " + at(time.Hour)}, time.Hour, FromExpires},
		{"Expires with an invalid Date", 200, []string{"Expires: " + at(time.Hour), "Date: foo"}, time.Hour, FromExpires},
		{"Expires in the past", 200, []string{"Expires: " + at(-time.Hour)}, 0, FromExpires},
		{"Expires far in the future", 200, []string{"Expires: Thu, 01 Jan 9999 00:00:00 GMT"}, maxAge.duration(), FromExpires},
		{"Expires of 0 forbids the heuristic", 200, []string{"Expires: 0", "Last-Modified: " + at(-time.Hour)}, 0, FromExpires},
		{"Expires in another zone", 200, []string{"Expires: Sun, 01 Mar 2026 13:00:00 AEST"}, 0, FromExpires},
		{"Expires of RFC 850 in another zone", 200, []string{"Expires: Sunday, 01-Mar-26 13:00:00 AEST"}, 0, FromExpires},
		{"Expires with an odd case", 200, []string{"Expires: SUN, 01 mar 2026 13:00:00 gmt"}, time.Hour, FromExpires},
		{"Expires of RFC 850", 200, []string{"Expires: Sunday, 01-Mar-26 13:00:00 GMT"}, time.Hour, FromExpires},
		{"Expires of asctime", 200, []string{"Expires: Sun Mar  1 13:00:00 2026"}, time.Hour, FromExpires},
		{"of two Expires the earlier", 200, []string{"Expires: " + at(time.Hour), "Expires: " + at(time.Minute)}, time.Minute, FromExpires},
		{"one of two Expires malformed", 200, []string{"Expires: " + at(time.Hour), "Expires: x"}, 0, FromExpires},
		{"a tenth of the time since Last-Modified", 200, []string{"Last-Modified: " + at(-10*time.Hour)}, time.Hour, FromHeuristic},
		{"from Date", 200, []string{"Last-Modified: " + at(-10*time.Hour), "Date: " + at(-5*time.Hour)}, 30 * time.Minute, FromHeuristic},
		{"a day at most", 200, []string{"Last-Modified: " + at(-10000*time.Hour)}, 24 * time.Hour, FromHeuristic},
		{"Last-Modified in the future", 200, []string{"Last-Modified: " + at(time.Hour)}, 0, NoLifetime},
		{"a status that allows no heuristic", 302, []string{"Last-Modified: " + at(-10*time.Hour)}, 0, NoLifetime},
		{"unless it is public", 599, []string{"Last-Modified: " + at(-10*time.Hour), "Cache-Control: public"}, time.Hour, FromHeuristic},
		{"404", 404, []string{"Last-Modified: " + at(-10*time.Hour)}, time.Hour, FromHeuristic},
	} {
		h := fields(tc.lines...)
		got, source := Lifetime(tc.status, h, parseResponse(h), noon, true)
		if got != tc.want || source != tc.source {
			t.Errorf("%s: got %v from %v, want %v from %v", tc.name, got, source, tc.want, tc.source)
		}
		if source == FromHeuristic {
			if got, source := Lifetime(tc.status, h, parseResponse(h), noon, false); got != 0 || source != NoLifetime {
				t.Errorf("%s: without heuristic got %v from %v", tc.name, got, source)
			}
		}
	}
}

func TestAgeIsTheFirstMemberAndNeverTooYoung(t *testing.T) { // RFC 9111, Section 5.1
	for value, want := range map[string]seconds{
		"0": 0, "60": 60, " 60 ": 60, "60, 0": 60, "0, 60": 0, "0, old": 0,
		"abc": 0, "-60": 0, "": 0, "old, 60": 0,
		"1.5": maxAge, "7200;a=b": maxAge, "60s": maxAge,
		"2147483647": maxAge - 1, "2147483648": maxAge, "2147483649": maxAge, "99999999999999999999999999": maxAge,
	} {
		if got := ageValue(http.Header{"Age": {value}}); got != want {
			t.Errorf("%q: got %d, want %d", value, got, want)
		}
	}
	if got := ageValue(http.Header{"Age": {"7200", "0"}}); got != 7200 {
		t.Errorf("of two lines got %d", got)
	}
}

func TestCurrentAgeCountsDateAgeAndDelay(t *testing.T) { // RFC 9111, Section 4.2.3
	sent := noon.Add(-2 * time.Second)
	for _, tc := range []struct {
		name  string
		lines []string
		want  time.Duration
	}{
		{"the delay", nil, 2 * time.Second},
		{"Age and the delay", []string{"Age: 10"}, 12 * time.Second},
		{"an old Date", []string{"Date: " + httpDate(noon.Add(-time.Hour))}, time.Hour},
		{"an old Date and a greater Age", []string{"Date: " + httpDate(noon.Add(-time.Hour)), "Age: 7200"}, 7202 * time.Second},
		{"a Date in the future", []string{"Date: " + httpDate(noon.Add(time.Hour))}, 2 * time.Second},
		{"a Date from long ago", []string{"Date: Mon, 01 Jan 1601 00:00:00 GMT"}, maxAge.duration()},
		{"an endless Age", []string{"Age: 99999999999"}, maxAge.duration()},
	} {
		if got := InitialAge(fields(tc.lines...), sent, noon); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
	if got := CurrentAge(time.Minute, noon, noon.Add(time.Hour)); got != time.Hour+time.Minute {
		t.Errorf("got %v", got)
	}
}

func TestAClockThatStepsBackDoesNoHarm(t *testing.T) {
	if got := CurrentAge(time.Minute, noon, noon.Add(-time.Second)); got != time.Minute {
		t.Errorf("the current age is %v", got)
	}
	if got := CurrentAge(time.Minute, noon, noon.Add(-time.Hour)); got != maxAge.duration() {
		t.Errorf("a response of an hour from now is %v old", got)
	}
	if got := InitialAge(http.Header{}, noon.Add(time.Hour), noon); got != 0 {
		t.Errorf("the initial age is %v", got)
	}
}

func FuzzDatesAndAges(f *testing.F) {
	for _, s := range []string{"0", "Sun, 01 Mar 2026 13:00:00 GMT", "Sunday, 01-Mar-26 13:00:00 GMT", "Sun Mar  1 13:00:00 2026", "7200;x", "\x00"} {
		f.Add(s, s, s, s, int64(0))
	}
	f.Fuzz(func(t *testing.T, date, expires, modified, age string, after int64) {
		h := http.Header{"Date": {date}, "Expires": {expires}, "Last-Modified": {modified}, "Age": {age}}
		now := noon.Add(time.Duration(after))
		most := maxAge.duration()
		for _, heuristic := range []bool{true, false} {
			if l, _ := Lifetime(200, h, parseResponse(h), noon, heuristic); l < 0 || l > most {
				t.Fatalf("a lifetime of %v", l)
			}
		}
		delete(h, "Expires")
		if l, _ := Lifetime(200, h, parseResponse(h), noon, true); l < 0 || l > heuristicMax {
			t.Fatalf("a heuristic lifetime of %v", l)
		}
		initial := InitialAge(h, noon.Add(-time.Second), noon)
		if initial < time.Second || initial > most {
			t.Fatalf("an initial age of %v", initial)
		}
		if a := CurrentAge(initial, noon, now); a < initial || a > most {
			t.Fatalf("a current age of %v", a)
		}
	})
}

func TestLifetimesCannotOverflow(t *testing.T) {
	if d := seconds(math.MaxInt64).duration(); d != maxAge.duration() {
		t.Error(d)
	}
	r := &record{lifetime: maxAge.duration(), initialAge: maxAge.duration(), received: noon, staleIfError: maxAge, staleRevalidate: maxAge}
	if ttl := r.ttl(noon.Add(math.MaxInt64)); ttl != 0 {
		t.Error(ttl)
	}
}
