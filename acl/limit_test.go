package acl

import (
	"slices"
	"testing"
	"time"

	"fwdproxy/internal/quota"
	"fwdproxy/internal/unit"
)

func perSecond(n unit.Size) unit.Rate { return unit.Rate{Amount: n, Period: time.Second} }

func TestLimitsThatHoldApplyTogetherAndInDoubtTheyHold(t *testing.T) {
	limit := func(name string, c LimitConfig) LimitConfig {
		c.Name, c.Requests = name, perSecond(1)
		return c
	}
	e := compile(t, Config{Limits: []LimitConfig{
		limit("everybody", LimitConfig{}),
		limit("office", LimitConfig{From: []string{"10.0.0.0/8"}}),
		limit("ann", LimitConfig{From: []string{"user:ann"}}),
		limit("not ann", LimitConfig{NotFrom: []string{"user:ann"}}),
		limit("a network", LimitConfig{To: []string{"192.0.2.0/24"}}),
		limit("a domain", LimitConfig{To: []string{".example.com"}}),
		limit("tunnels", LimitConfig{Methods: []string{"CONNECT"}}),
	}}, nil)
	known := func(r Request, user string) Request { r.User, r.MayIdentify = user, true; return r }
	for name, c := range map[string]struct {
		r    Request
		want []string
	}{
		"ann":                       {known(ask("10.1.1.1", "203.0.113.1"), "ann"), []string{"everybody", "office", "ann"}},
		"bob":                       {known(ask("10.1.1.1", "203.0.113.1"), "bob"), []string{"everybody", "office", "not ann"}},
		"nobody said who":           {known(ask("198.51.100.1", "203.0.113.1"), ""), []string{"everybody", "ann", "not ann"}},
		"a name, not looked up yet": {known(ask("198.51.100.1", "www.example.com"), "bob"), []string{"everybody", "not ann", "a network", "a domain"}},
		"an address in IPv6 form":   {known(ask("::ffff:10.1.1.1", "192.0.2.1"), "bob"), []string{"everybody", "office", "not ann", "a network"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, s := range e.Limits(c.r) {
				got = append(got, s.Name)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
			var explained []string
			for _, s := range e.ExplainLimits(c.r) {
				if s.Outcome[:7] == "applies" {
					explained = append(explained, s.Limit)
				}
			}
			if !slices.Equal(got, explained) {
				t.Errorf("explained as %q, enforced as %q", explained, got)
			}
		})
	}
}

func TestALimitsNumbers(t *testing.T) {
	e := compile(t, Config{Limits: []LimitConfig{{
		Name: "all of it", Per: "all", Requests: unit.Rate{Amount: 600, Period: time.Minute}, Burst: 20,
		Bytes: unit.Rate{Amount: 86400, Period: 24 * time.Hour}, Bandwidth: perSecond(1 << 20), Concurrent: 7,
	}}}, nil)
	want := quota.Spec{Name: "all of it", Per: quota.All, Requests: quota.Bucket{Rate: 10, Burst: 20}, Bytes: quota.Bucket{Rate: 1, Burst: 86400},
		Bandwidth: quota.Bucket{Rate: 1 << 20, Burst: 1 << 18}, Concurrent: 7}
	got := e.Limits(ask("192.0.2.1", "a.example"))
	if len(got) != 1 || got[0] != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	const text = "requests 600/min, burst 20, bytes 86400/d, bandwidth 1MiB/s, concurrent 7 per all"
	if s := e.ExplainLimits(ask("192.0.2.1", "a.example")); s[0].Allows != text {
		t.Errorf("%q", s[0].Allows)
	}
}

func TestWhatIsWrongWithALimitIsSaidAllAtOnce(t *testing.T) {
	got := lines(Config{Limits: []LimitConfig{
		{Requests: perSecond(1)},
		{Name: "a", Per: "group", Requests: perSecond(1)},
		{Name: "a", From: []string{"office"}, Concurrent: -1},
		{Name: "b", Burst: 5},
		{Name: "c", Bandwidth: perSecond(100)},
		{Name: "d\n", Concurrent: 1, To: []string{"list:none"}},
	}}.Validate())
	golden(t, "limits.txt", got)
}
