package hop

import (
	"errors"
	"net/netip"
	"testing"
)

func TestAForkHasThePermissionAndThePoolButNotTheAnswer(t *testing.T) {
	refused := errors.New("no")
	h := &Hop{Permit: func(netip.AddrPort) error { return refused }, Pool: "app"}
	h.Used(netip.MustParseAddrPort("192.0.2.1:80"), "DIRECT/192.0.2.1")
	f := From(With(t.Context(), h)).Fork()
	if err := f.Permit(netip.AddrPort{}); err != refused || f.Pool != "app" {
		t.Errorf("permit %v, pool %q", err, f.Pool)
	}
	if addr, name := f.Answered(); addr.IsValid() || name != "" {
		t.Errorf("the fork was answered by %v %q", addr, name)
	}
}

func TestNoHopGrantsNothing(t *testing.T) {
	h := From(t.Context())
	if h != nil || h.Fork().Permit != nil {
		t.Error("a context without a hop permits something")
	}
	h.Used(netip.AddrPort{}, "x") // must not panic
	if _, name := h.Answered(); name != "" {
		t.Errorf("answered by %q", name)
	}
}
