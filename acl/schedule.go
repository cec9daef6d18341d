package acl

import (
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // the same zones on every machine, with or without a database of its own

	"fwdproxy/internal/problem"
)

// schedule is windows of time in one zone.
type schedule struct {
	zone    *time.Location
	windows []window
}

// window is hours on certain days, in minutes since midnight; one that ends
// before it begins ends on the next day.
type window struct {
	days       [7]bool // by time.Weekday; on which it begins
	begin, end int
}

const (
	wholeDay = 24 * 60
	whenHint = `write for example "Mon-Fri 09:00-18:00 Europe/Berlin", "Sat,Sun UTC" or "22:00-06:00 America/New_York"`
)

// holds reports whether now lies in one of the windows, by what the clocks of
// the zone show.
func (s *schedule) holds(now time.Time) bool {
	local := now.In(s.zone)
	hour, minute, _ := local.Clock()
	m, today := hour*60+minute, local.Weekday()
	yesterday := (today + 6) % 7
	return slices.ContainsFunc(s.windows, func(w window) bool {
		if w.begin < w.end {
			return w.days[today] && w.begin <= m && m < w.end
		}
		return w.days[today] && w.begin <= m || w.days[yesterday] && m < w.end
	})
}

// parseSchedule reads "DAYS HOURS ZONE", in which days or hours may be left
// out; windows before the last one, parted by ";", have no zone of their own.
func parseSchedule(text string) (*schedule, *mistake) {
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return nil, mistaken(whenHint, "the time is empty")
	}
	name := fields[len(fields)-1]
	zone, bad := parseZone(name)
	if bad != nil {
		return nil, bad
	}
	s := &schedule{zone: zone}
	for part := range strings.SplitSeq(strings.Join(fields[:len(fields)-1], " "), ";") {
		windows, bad := parseWindows(strings.Fields(part), text)
		if bad != nil {
			return nil, bad
		}
		s.windows = append(s.windows, windows...)
	}
	return s, nil
}

func parseZone(name string) (*time.Location, *mistake) {
	if looksLikeHours(name) || isDays(name) {
		return nil, mistaken(whenHint, "the time zone is missing")
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" || name == "" {
		return nil, mistaken(`write a zone of the IANA database, as "Europe/Berlin", "America/New_York" or "UTC"`, "there is no time zone %s", quote(name))
	}
	return zone, nil
}

// parseWindows reads the fields "DAYS", "HOURS" or both.
func parseWindows(fields []string, all string) ([]window, *mistake) {
	days := [7]bool{true, true, true, true, true, true, true}
	rest := fields
	if len(rest) > 0 && !looksLikeHours(rest[0]) {
		var bad *mistake
		if days, bad = parseDays(rest[0]); bad != nil {
			return nil, bad
		}
		rest = rest[1:]
	}
	switch {
	case len(fields) == 0:
		return nil, mistaken(whenHint, "%s has neither days nor hours", quote(all))
	case len(rest) == 0:
		return []window{{days: days, end: wholeDay}}, nil
	case len(rest) > 1:
		return nil, mistaken(whenHint, "%s: %s is not expected there", quote(all), quote(rest[1]))
	}
	var out []window
	for text := range strings.SplitSeq(rest[0], ",") {
		first, last, _ := strings.Cut(text, "-")
		begin, ok := parseClock(first)
		end, ok2 := parseClock(last)
		switch {
		case !ok || !ok2 || begin == wholeDay:
			return nil, mistaken(`write hours from "00:00" to "24:00", as in "09:00-18:00"`, "%s are no hours of a day", quote(text))
		case begin == end:
			return nil, mistaken(`write "00:00-24:00" for the whole day`, "%s ends when it begins", quote(text))
		}
		out = append(out, window{days, begin, end})
	}
	return out, nil
}

func looksLikeHours(s string) bool { return s != "" && '0' <= s[0] && s[0] <= '9' }

// parseClock reads "HH:MM" as minutes since midnight.
func parseClock(s string) (int, bool) {
	if s == "24:00" {
		return wholeDay, true
	}
	t, err := time.Parse("15:04", s)
	return t.Hour()*60 + t.Minute(), err == nil && len(s) == 5
}

var dayNames = []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"} // by time.Weekday

func isDays(s string) bool {
	_, bad := parseDays(s)
	return bad == nil
}

// parseDays reads "Mon-Fri,Sun"; a range may go over the end of the week.
func parseDays(s string) (days [7]bool, bad *mistake) {
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		for _, name := range []string{first, last} {
			if !slices.Contains(dayNames, name) {
				hint := "the days are Mon Tue Wed Thu Fri Sat Sun"
				if near := problem.Nearest(name, dayNames); near != "" {
					hint = "did you mean \"" + near + "\"?"
				}
				return days, mistaken(hint, "%s is not a day", quote(name))
			}
		}
		end := slices.Index(dayNames, last)
		for d := slices.Index(dayNames, first); ; d = (d + 1) % 7 {
			days[d] = true
			if d == end {
				break
			}
		}
	}
	return days, nil
}
