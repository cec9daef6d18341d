package tunnel

import (
	"slices"
	"testing"
	"time"

	"fwdproxy/internal/unit"
)

func TestConnectGoesToTheConfiguredPortsAlone_RFC9110_9_3_6(t *testing.T) {
	c := Config{Ports: []unit.PortRange{{First: 443, Last: 443}, {First: 8443, Last: 8449}}}
	for port, want := range map[uint16]bool{
		443: true, 8443: true, 8446: true, 8449: true, 0: false, 22: false, 25: false, 442: false, 444: false, 8442: false, 8450: false, 65535: false,
	} {
		if got := c.Allows(port); got != want {
			t.Errorf("port %d: %v", port, got)
		}
	}
	if (Config{}).Allows(443) {
		t.Error("no ports at all let 443 through")
	}
	if d := DefaultConfig(); !d.Allows(443) || d.Allows(80) || d.Allows(8443) {
		t.Errorf("the default allows %v", d.Ports)
	}
}

func TestEveryProblemOfTheTableIsNamed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		keys   []string
	}{
		{"default", func(*Config) {}, nil},
		{"no ports", func(c *Config) { c.Ports = nil }, nil},
		{"port 0", func(c *Config) { c.Ports = []unit.PortRange{{First: 443, Last: 443}, {First: 0, Last: 0}} }, []string{"forward.tunnel.ports[1]"}},
		{"range from 0", func(c *Config) { c.Ports = []unit.PortRange{{First: 0, Last: 10}} }, []string{"forward.tunnel.ports[0]"}},
		{"range the wrong way", func(c *Config) { c.Ports = []unit.PortRange{{First: 9, Last: 8}} }, []string{"forward.tunnel.ports[0]"}},
		{"zero idle time", func(c *Config) { c.IdleTimeout = 0 }, []string{"forward.tunnel.idle_timeout"}},
		{"zero lifetime", func(c *Config) { c.Lifetime = 0 }, []string{"forward.tunnel.lifetime"}},
		{"a word that is neither", func(c *Config) { c.NotTLS, c.NoSNI, c.OtherSNI, c.ECH = "", "yes", "Deny", "maybe" }, []string{"forward.tunnel.not_tls", "forward.tunnel.no_sni", "forward.tunnel.other_sni", "forward.tunnel.ech"}},
		{"a port that is none", func(c *Config) { c.Peek = []unit.PortRange{{}} }, []string{"forward.tunnel.peek[0]"}},
		{"all at once", func(c *Config) {
			c.Ports, c.IdleTimeout = []unit.PortRange{{First: 2, Last: 1}, {First: 1, Last: 1}, {}}, unit.Duration(-time.Second)
		}, []string{"forward.tunnel.ports[0]", "forward.tunnel.ports[2]", "forward.tunnel.idle_timeout"}},
	} {
		c := DefaultConfig()
		tt.change(&c)
		var keys []string
		for _, p := range c.Validate() {
			keys = append(keys, p.Key)
			if p.Hint == "" || p.Message == "" {
				t.Errorf("%s: %+v says too little", tt.name, p)
			}
		}
		if !slices.Equal(keys, tt.keys) {
			t.Errorf("%s: problems %q, want %q", tt.name, keys, tt.keys)
		}
	}
}
