package forward

import (
	"testing"

	"fwdproxy/internal/unit"
	"fwdproxy/tunnel"
)

func TestTheDefaultListensOnLoopbackAlone(t *testing.T) {
	c := DefaultConfig()
	if p := c.Validate(); len(p) > 0 || len(c.Listen) != 1 || c.Listen[0] != "127.0.0.1:3128" {
		t.Errorf("%v: %v", c.Listen, p)
	}
}

func TestListenAddressesAreCheckedWithTheirKeys(t *testing.T) {
	for address, right := range map[string]bool{
		"127.0.0.1:3128": true, ":3128": true, "[::1]:0": true, "0.0.0.0:65535": true,
		"": false, "3128": false, "127.0.0.1": false, "localhost:3128": false, "127.0.0.1:65536": false,
		"127.0.0.1:http": false, "127.0.0.1:+1": false, "127.0.0.1:01": false, "::1:3128": false, "127.0.0.1:": false,
	} {
		c := DefaultConfig()
		c.Listen = append(c.Listen, address)
		p := c.Validate()
		if right && len(p) > 0 || !right && (len(p) != 1 || p[0].Key != "forward.listen[1]" || p[0].Hint == "") {
			t.Errorf("%q: %v", address, p)
		}
	}
	none := Config{Tunnel: tunnel.DefaultConfig(), PAC: PACConfig{Fallback: fallbackNone}}
	if p := none.Validate(); len(p) != 1 || p[0].Key != "forward.listen" {
		t.Errorf("no address: %v", p)
	}
	c := DefaultConfig()
	c.Auth.Groups = "g"
	if p := c.Validate(); len(p) != 1 || p[0].Key != "forward.auth.groups" {
		t.Errorf("groups alone: %v", p)
	}
	c.TLS.ClientCA = "ca.pem"
	if p := c.Validate(); len(p) > 0 {
		t.Errorf("groups of those who have certificates: %v", p)
	}
	c.TLS.Listen = []string{"127.0.0.1:3129", "3130"}
	if p := c.Validate(); len(p) != 2 || p[0].Key != "forward.tls.listen[1]" || p[1].Key != "forward.tls.cert" {
		t.Errorf("TLS without a certificate: %v", p)
	}
	c = DefaultConfig()
	c.Tunnel.Ports = append(c.Tunnel.Ports, unit.PortRange{})
	if p := c.Validate(); len(p) != 1 || p[0].Key != "forward.tunnel.ports[1]" {
		t.Errorf("the tunnel's own problems: %v", p)
	}
}
