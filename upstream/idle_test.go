package upstream

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"fwdproxy/internal/unit"
)

func limits(most, perHost int, keep time.Duration) func(*Config) {
	return func(c *Config) { c.MaxIdle, c.MaxIdlePerHost, c.KeepAlive = most, perHost, unit.Duration(keep) }
}

// idleConn returns a connection for the key that can be kept.
func idleConn(tr *Transport, key string) *conn {
	c, _ := piped(tr)
	c.key = key
	return c
}

func TestTheConnectionsKeptAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, limits(5, 2, time.Minute))
		var conns []*conn
		for i := range 12 {
			conns = append(conns, idleConn(tr, fmt.Sprint(i%4)))
		}
		if idle, used := tr.Stats(); idle != 0 || used != 12 {
			t.Errorf("%d idle, %d used", idle, used)
		}
		for _, c := range conns {
			c.release()
			if len(tr.idle.byKey[c.key]) > 2 {
				t.Errorf("%d are kept for one host", len(tr.idle.byKey[c.key]))
			}
		}
		if idle, used := tr.Stats(); idle != 5 || used != 0 {
			t.Errorf("%d idle, %d used", idle, used)
		}
		tr.Close()
		late := idleConn(tr, "late")
		late.release()
		if idle, used := tr.Stats(); idle+used != 0 {
			t.Errorf("%d idle, %d used after Close", idle, used)
		}
	})
}

func TestAnUnusedConnectionIsClosedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, limits(100, 100, time.Minute))
		for range 6 {
			idleConn(tr, "a").release()
			time.Sleep(10 * time.Second)
		}
		for _, want := range []int{5, 4, 3, 2, 1, 0, 0} {
			synctest.Wait()
			if idle, used := tr.Stats(); idle != want || used != 0 {
				t.Errorf("%d idle, want %d", idle, want)
			}
			time.Sleep(10 * time.Second)
		}
		idleConn(tr, "a").release() // the timer starts again
		time.Sleep(time.Minute)
		synctest.Wait()
		if idle, _ := tr.Stats(); idle != 0 {
			t.Error("a connection is kept for ever")
		}
	})
}

func TestOneTimerServesAllConnections(t *testing.T) {
	tr := newTransport(t, limits(10, 10, time.Hour))
	c := idleConn(tr, "a")
	c.release()
	timer := tr.idle.sweep
	for range 10 {
		if tr.idle.pop("a") != c {
			t.Fatal("the connection is gone")
		}
		c.release()
		if tr.idle.sweep != timer || !tr.idle.sweeping {
			t.Fatal("another timer runs")
		}
	}
}

func TestTheLatestConnectionIsUsedFirstAndRefusedOnesStay(t *testing.T) {
	tr := newTransport(t, nil)
	o := answering(t, ok(""))
	var conns []*conn
	for range 3 {
		plain, addr, err := tr.race(t.Context(), []netip.AddrPort{netip.MustParseAddrPort(o.addr)})
		if err != nil {
			t.Fatal(err)
		}
		c := newConn(tr, "a", plain, plain, addr, "")
		conns = append(conns, c)
		tr.idle.put(c)
	}
	all := func(netip.AddrPort) bool { return true }
	if got := tr.idle.take("a", func(netip.AddrPort) bool { return false }); got != nil || tr.idle.size() != 3 {
		t.Errorf("a refused connection is used, or lost: %d are left", tr.idle.size())
	}
	asked := 0
	if got := tr.idle.take("a", func(netip.AddrPort) bool { asked++; return asked == 2 }); got == nil || tr.idle.size() != 2 {
		t.Errorf("the second choice is not used: %d are left", tr.idle.size())
	} else {
		got.close()
	}
	for tr.idle.size() > 0 {
		tr.idle.take("a", all).close()
	}
	for _, c := range conns {
		if c.r != nil {
			t.Error("a connection is lost")
		}
		c2 := idleConn(tr, "b")
		tr.idle.put(c2)
		if tr.idle.pop("b") != c2 {
			t.Error("the latest is not the first")
		}
		c2.close()
	}
}
