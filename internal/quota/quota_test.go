package quota

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var begun = time.Unix(1_700_000_000, 0)

func client(s string) Subject { return Subject{Client: netip.MustParseAddr(s)} }

// admitted takes until the limit leaves nothing, and ends each at once.
func admitted(t *testing.T, table *Table, spec Spec, who Subject, now time.Time) (n int, last *Refusal) {
	t.Helper()
	for {
		h, err := table.Take([]Spec{spec}, who, now)
		if err != nil {
			if !errors.As(err, &last) {
				t.Fatal(err)
			}
			return n, last
		}
		h.Release()
		if n++; n > 1_000_000 {
			t.Fatal("nothing is ever refused")
		}
	}
}

func TestRequestsComeAtOnceUpToTheBurstAndThenAtTheRate(t *testing.T) {
	table, spec := NewTable(), Spec{Name: "r", Requests: Bucket{Rate: 10, Burst: 25}}
	who := client("192.0.2.1")
	n, refusal := admitted(t, table, spec, who, begun)
	if n != 25 || refusal.What != "requests" || refusal.Limit != "r" {
		t.Fatalf("%d, %+v", n, refusal)
	}
	if refusal.After <= 99*time.Millisecond || refusal.After > 101*time.Millisecond {
		t.Errorf("try again after %v", refusal.After)
	}
	if n, _ := admitted(t, table, spec, who, begun.Add(refusal.After)); n != 1 {
		t.Errorf("%d after the time that the refusal told", n)
	}
	if n, _ := admitted(t, table, spec, client("192.0.2.2"), begun); n != 25 {
		t.Errorf("%d for somebody else", n)
	}
}

func TestNeverMoreThanTheBurstAndTheRateTimesTheTimeIsAdmitted(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		spec := Spec{Name: "r", Requests: Bucket{Rate: 0.1 + 50*r.Float64(), Burst: 1 + r.IntN(40)}}
		table, now, latest, total := NewTable(), begun, begun, 0
		for range 200 {
			n, _ := admitted(t, table, spec, client("192.0.2.1"), now)
			total += n
			if now.After(latest) {
				latest = now
			}
			if most := float64(spec.Requests.Burst) + spec.Requests.Rate*latest.Sub(begun).Seconds(); float64(total) > most+1e-6 {
				t.Fatalf("seed %d: %d in %v, at most %f", seed, total, latest.Sub(begun), most)
			}
			// The clock may go back as well, which gives nobody more.
			now = now.Add(time.Duration(r.Int64N(int64(time.Second))) - 100*time.Millisecond)
			if now.Before(begun) {
				now = begun
			}
		}
	}
}

func TestWhoSharesALimit(t *testing.T) {
	ann, bob := Subject{netip.MustParseAddr("192.0.2.1"), "ann"}, Subject{netip.MustParseAddr("192.0.2.1"), "bob"}
	for name, c := range map[string]struct {
		per    Per
		a, b   Subject
		shared bool
	}{
		"one address":                    {Client, ann, bob, true},
		"two addresses":                  {Client, client("192.0.2.1"), client("192.0.2.2"), false},
		"one IPv6 /64":                   {Client, client("2001:db8::1"), client("2001:db8::2:3"), true},
		"two IPv6 /64":                   {Client, client("2001:db8::1"), client("2001:db8:0:1::1"), false},
		"an IPv4 address in IPv6":        {Client, client("192.0.2.1"), client("::ffff:192.0.2.1"), true},
		"two users":                      {User, ann, bob, false},
		"one user, elsewhere":            {User, ann, Subject{netip.MustParseAddr("198.51.100.1"), "ann"}, true},
		"nobody known, by address":       {User, client("192.0.2.1"), client("192.0.2.2"), false},
		"a user and nobody, one address": {User, ann, client("192.0.2.1"), false},
		"everybody":                      {All, ann, client("2001:db8::1"), true},
	} {
		t.Run(name, func(t *testing.T) {
			table, spec := NewTable(), Spec{Name: "r", Per: c.per, Requests: Bucket{Rate: 1, Burst: 5}}
			admitted(t, table, spec, c.a, begun)
			n, _ := admitted(t, table, spec, c.b, begun)
			if want := map[bool]int{true: 0, false: 5}[c.shared]; n != want {
				t.Errorf("the second got %d, want %d", n, want)
			}
		})
	}
}

func TestARefusalCountsNothingAgainstTheOtherLimits(t *testing.T) {
	table := NewTable()
	wide, narrow := Spec{Name: "wide", Requests: Bucket{Rate: 1, Burst: 10}}, Spec{Name: "narrow", Requests: Bucket{Rate: 1, Burst: 2}}
	for range 8 {
		if h, err := table.Take([]Spec{wide, narrow}, client("192.0.2.1"), begun); err == nil {
			h.Release()
		}
	}
	if n, _ := admitted(t, table, wide, client("192.0.2.1"), begun); n != 8 {
		t.Errorf("%d are left of 10 after two that were admitted", n)
	}
}

func TestConcurrentCountsWhatIsUnderWay(t *testing.T) {
	table, spec := NewTable(), []Spec{{Name: "c", Concurrent: 2}}
	who := client("192.0.2.1")
	first, err1 := table.Take(spec, who, begun)
	_, err2 := table.Take(spec, who, begun)
	_, err3 := table.Take(spec, who, begun)
	if err1 != nil || err2 != nil || err3 == nil {
		t.Fatal(err1, err2, err3)
	}
	first.Release()
	if _, err := table.Take(spec, who, begun); err != nil {
		t.Error("a place that was given back is not free: ", err)
	}
}

func TestBytesMayEndInADebtThatHasToBePaidFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, spec := NewTable(), []Spec{{Name: "b", Bytes: Bucket{Rate: 1000, Burst: 5000}}}
		h, err := table.Take(spec, client("192.0.2.1"), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := h.Pass(t.Context(), 4000); err != nil || h.Spent() != nil {
			t.Fatal(err, h.Spent())
		}
		_ = h.Pass(t.Context(), 4000)
		if time.Since(begin) != 0 {
			t.Error("a limit without bandwidth waited")
		}
		var r *Refusal
		if !errors.As(h.Spent(), &r) || r.Limit != "b" || r.What != "bytes" {
			t.Errorf("%+v", h.Spent())
		}
		h.Release()
		if _, err := table.Take(spec, client("192.0.2.1"), time.Now()); !errors.As(err, &r) || r.After < 3*time.Second || r.After > 3100*time.Millisecond {
			t.Fatalf("3000 bytes of debt at 1000/s: %+v", err)
		}
		time.Sleep(r.After)
		if _, err := table.Take(spec, client("192.0.2.1"), time.Now()); err != nil {
			t.Error(err)
		}
	})
}

func TestBandwidthIsSharedAndKeptWhoeverPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const speed, burst, flows, piece, pieces = 1 << 20, 256 << 10, 4, 16 << 10, 256
		table, spec := NewTable(), []Spec{{Name: "w", Bandwidth: Bucket{Rate: speed, Burst: burst}}}
		begin := time.Now()
		var wg sync.WaitGroup
		for range flows {
			wg.Go(func() {
				h, err := table.Take(spec, client("192.0.2.1"), time.Now())
				if err != nil {
					t.Error(err)
					return
				}
				defer h.Release()
				for range pieces {
					if err := h.Pass(t.Context(), piece); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		want := time.Duration(float64(flows*piece*pieces-burst) / speed * float64(time.Second))
		if took := time.Since(begin); took < want-time.Millisecond || took > want+time.Second/100 {
			t.Errorf("took %v, want %v", took, want)
		}
	})
}

func TestAWaitForBandwidthEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := NewTable().Take([]Spec{{Name: "w", Bandwidth: Bucket{Rate: 10, Burst: 10}}}, client("192.0.2.1"), time.Now())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.Pass(ctx, 1000); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestWhatWasTakenStaysTakenWhenAReloadChangesTheNumbers(t *testing.T) {
	table, spec, who := NewTable(), Spec{Name: "r", Requests: Bucket{Rate: 1, Burst: 10}}, client("192.0.2.1")
	admitted(t, table, spec, who, begun)
	spec.Requests.Burst = 15
	begun := begun.Add(10 * time.Millisecond) // by when a little of the next has come
	if n, _ := admitted(t, table, spec, who, begun); n != 5 {
		t.Errorf("%d, want the 5 that came with the change", n)
	}
	spec.Requests.Burst = 3
	if n, _ := admitted(t, table, spec, who, begun); n != 0 {
		t.Errorf("%d, want none", n)
	}
}

func TestAnyNumberOfClientsIsBoundedAndPushesOutNeitherWhoIsAtALimitNorWhatIsUnderWay(t *testing.T) {
	const kept = 4096
	table, spec := newTable(kept), Spec{Name: "r", Requests: Bucket{Rate: 0.001, Burst: 10}, Bytes: Bucket{Rate: 1, Burst: 1 << 30}, Bandwidth: Bucket{Rate: 1 << 20, Burst: 1 << 20}}
	busy := Spec{Name: "c", Concurrent: 1}
	offender := client("192.0.2.1")
	admitted(t, table, spec, offender, begun)
	if _, err := table.Take([]Spec{busy}, offender, begun); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range uint32(10 * kept) {
		var a [16]byte
		a[0] = 0x20
		binary.BigEndian.PutUint32(a[4:], i)
		h, err := table.Take([]Spec{spec}, Subject{Client: netip.AddrFrom16(a)}, begun)
		if err != nil {
			t.Fatal(err)
		}
		h.Release()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n := table.Len(); n > kept+1 {
		t.Errorf("%d are kept", n)
	}
	if grew := int64(after.HeapAlloc) - int64(before.HeapAlloc); grew > kept<<10 {
		t.Errorf("they take %d bytes each", grew/kept)
	}
	if n, _ := admitted(t, table, spec, offender, begun); n != 0 {
		t.Errorf("the offender was forgotten, and got %d more", n)
	}
	if _, err := table.Take([]Spec{busy}, offender, begun); err == nil {
		t.Error("what is under way was forgotten")
	}
	runtime.KeepAlive(table)
}

func TestManyAtOnceGetNoMoreThanThereIs(t *testing.T) {
	table := NewTable()
	spec := []Spec{{Name: "all", Per: All, Requests: Bucket{Rate: 1, Burst: 500}, Concurrent: 1000}, {Name: "each", Requests: Bucket{Rate: 1, Burst: 1000}}}
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := 0
	for g := range 16 {
		wg.Go(func() {
			for i := range 200 {
				h, err := table.Take(spec, client(fmt.Sprintf("10.0.%d.%d", g, i)), begun)
				if err != nil {
					continue
				}
				_ = h.Pass(t.Context(), 10)
				h.Release()
				mu.Lock()
				got++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if got != 500 {
		t.Errorf("%d were admitted", got)
	}
}
