// Package unit holds the value types of the policy file that TOML has no type
// for: durations, sizes and port ranges.
package unit

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is written as in "90s", "10m", "24h" or "7d".
type Duration time.Duration

// D returns the standard library's form.
func (d Duration) D() time.Duration { return time.Duration(d) }

func (d Duration) String() string { return time.Duration(d).String() }

// UnmarshalText reads Go's duration syntax and whole days ("7d").
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	bad := fmt.Errorf("%q is not a duration; write for example \"90s\", \"10m\", \"24h\" or \"7d\"", s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 32)
		if err != nil || n > math.MaxInt64/uint64(24*time.Hour) {
			return bad
		}
		*d = Duration(n) * Duration(24*time.Hour)
		return nil
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return bad
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Size is a number of bytes, written as in "64KiB", "256MiB" or "10GiB".
type Size int64

var sizes = []struct {
	suffix string
	n      int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1},
}

// UnmarshalText reads a whole number and a unit.
func (v *Size) UnmarshalText(text []byte) error {
	s := string(text)
	for _, u := range sizes {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 63)
		if err != nil || int64(n) > math.MaxInt64/u.n {
			break
		}
		*v = Size(int64(n) * u.n)
		return nil
	}
	return fmt.Errorf("%q is not a size; write for example \"64KiB\", \"256MiB\" or \"10GiB\"", s)
}

// MarshalText writes what UnmarshalText reads.
func (v Size) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

func (v Size) String() string {
	for _, u := range []struct {
		suffix string
		n      Size
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if v >= u.n && v%u.n == 0 {
			return strconv.FormatInt(int64(v/u.n), 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(v), 10) + "B"
}

// PortRange is one port, or all ports from First to Last.
type PortRange struct{ First, Last uint16 }

// Contains reports whether port lies in the range.
func (r PortRange) Contains(port uint16) bool { return r.First <= port && port <= r.Last }

func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// UnmarshalTOML reads a number (443) or a string ("443", "8443-8449").
func (r *PortRange) UnmarshalTOML(v any) error {
	switch v := v.(type) {
	case int64:
		p, err := port(strconv.FormatInt(v, 10))
		*r = PortRange{p, p}
		return err
	case string:
		first, last, isRange := strings.Cut(v, "-")
		if !isRange {
			last = first
		}
		a, err := port(strings.TrimSpace(first))
		if err != nil {
			return err
		}
		b, err := port(strings.TrimSpace(last))
		if err != nil {
			return err
		}
		if a > b {
			return fmt.Errorf("port range %q ends before it begins", v)
		}
		*r = PortRange{a, b}
		return nil
	}
	return errors.New("a port is a number (443) or a range in quotes (\"8443-8449\")")
}

func port(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port; write a number from 1 to 65535, or a range as \"8443-8449\"", s)
	}
	return uint16(n), nil
}

// Rate is an amount in a time, written as in "100/s", "10MiB/s" or "1GiB/d".
// Its zero value is none.
type Rate struct {
	Amount Size
	Period time.Duration
}

var periods = []struct {
	name string
	d    time.Duration
}{{"s", time.Second}, {"min", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}}

// UnmarshalText reads an amount above zero, "/" and "s", "min", "h" or "d".
func (r *Rate) UnmarshalText(text []byte) error {
	amount, period, _ := strings.Cut(string(text), "/")
	for _, p := range periods {
		if p.name != period {
			continue
		}
		var v Size
		if err := v.UnmarshalText([]byte(amount)); err != nil || v <= 0 {
			break
		}
		*r = Rate{v, p.d}
		return nil
	}
	return fmt.Errorf("%q is not a rate; write for example \"100/s\", \"600/min\", \"10MiB/s\", \"50GiB/h\" or \"1TiB/d\"", text)
}

// MarshalText writes what UnmarshalText reads, "" for none.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func (r Rate) String() string {
	for _, p := range periods {
		if p.d != r.Period {
			continue
		}
		amount := r.Amount.String()
		if !strings.HasSuffix(amount, "iB") {
			amount = strconv.FormatInt(int64(r.Amount), 10) // of requests, or odd
		}
		return amount + "/" + p.name
	}
	return ""
}

// PerSecond returns the amount for one second.
func (r Rate) PerSecond() float64 {
	if r.Period == 0 {
		return 0
	}
	return float64(r.Amount) / r.Period.Seconds()
}
