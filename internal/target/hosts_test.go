package target

import "testing"

func TestHostsContainNamesAndWhatLiesBelowThem(t *testing.T) {
	var h Hosts
	for _, entry := range []string{"a.test", ".B.test.", "192.0.2.1", "::1"} {
		if err := h.Add(entry); err != nil {
			t.Error(err)
		}
	}
	for host, want := range map[string]bool{
		"a.test": true, "x.a.test": false, "b.test": true, "x.b.test": true, "y.x.b.test": true, "xb.test": false,
		"test": false, "": false, "192.0.2.1": true, "1.192.0.2.1": false, "::1": true,
	} {
		if h.Contain(host) != want {
			t.Errorf("%q: got %v", host, !want)
		}
	}
	if (Hosts{}).Contain("a.test") {
		t.Error("no hosts contain one")
	}
	for _, entry := range []string{"", ".", "a b", ".192.0.2.1", "a..b"} {
		if h.Add(entry) == nil {
			t.Errorf("%q is taken for a host", entry)
		}
	}
	if n := testing.AllocsPerRun(100, func() { h.Contain("y.x.b.test") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
