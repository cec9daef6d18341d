package unit

import (
	"testing"
	"time"
)

func TestSizesDurationsAndPortsAreReadAsPeopleWriteThem(t *testing.T) {
	for in, want := range map[string]Size{"64KiB": 64 << 10, "256MiB": 256 << 20, "10GiB": 10 << 30, "1kB": 1000, "0": 0, "17B": 17, "5 MB": 5e6} {
		var got Size
		if err := got.UnmarshalText([]byte(in)); err != nil || got != want {
			t.Errorf("size %q: %d, %v", in, got, err)
		}
		var again Size
		if err := again.UnmarshalText([]byte(got.String())); err != nil || again != got {
			t.Errorf("size %q prints as %q, which reads as %d", in, got, again)
		}
	}
	for in, want := range map[string]time.Duration{"90s": 90 * time.Second, "10m": 10 * time.Minute, "7d": 7 * 24 * time.Hour, "1h30m": 90 * time.Minute, "0s": 0} {
		var got Duration
		if err := got.UnmarshalText([]byte(in)); err != nil || got.D() != want {
			t.Errorf("duration %q: %v, %v", in, got, err)
		}
	}
	for _, in := range []any{int64(443), "443", "8443-8449", " 1 - 65535 "} {
		var got PortRange
		if err := got.UnmarshalTOML(in); err != nil {
			t.Errorf("port %v: %v", in, err)
		}
	}
}

func TestWhatIsNoQuantityIsAnError(t *testing.T) {
	for _, in := range []string{"", "MiB", "-1KiB", "1.5GiB", "99999999999TiB", "12 parsecs", "0x10"} {
		var v Size
		if err := v.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("size %q reads as %d", in, v)
		}
	}
	for _, in := range []string{"", "10", "-5s", "d", "1.5d", "999999999d"} {
		var v Duration
		if err := v.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("duration %q reads as %v", in, v)
		}
	}
	for _, in := range []any{int64(0), int64(65536), "0", "9-1", "a", "1-", 4.5, "-1"} {
		var v PortRange
		if err := v.UnmarshalTOML(in); err == nil {
			t.Errorf("port %v reads as %v", in, v)
		}
	}
}

func TestAPortRangeHoldsItsEnds(t *testing.T) {
	r := PortRange{8443, 8449}
	for port, want := range map[uint16]bool{8442: false, 8443: true, 8449: true, 8450: false} {
		if r.Contains(port) != want {
			t.Errorf("port %d", port)
		}
	}
}
