package cache

import "testing"

func TestAPurgeOfAURLReachesWhatARuleKeepsUnderAnotherKey(t *testing.T) {
	for _, soft := range []bool{false, true} {
		b := newBench(t, always(200, "x", "Cache-Control: max-age=60"))
		b.ruled(RuleConfig{IgnoreQuery: []string{"utm_*"}, KeyHost: "m"})
		b.do("GET", page+"?a=1&utm_x=1")
		b.purge([3]string{page + "?utm_x=2&a=1"}, soft)
		if r := b.do("GET", page+"?a=1"); r.outcome.Result == Hit {
			t.Errorf("soft %v: still served: %s", soft, r.outcome.Status)
		}
	}
}

func TestAPurgeOfAURLReachesWhatAnswersForIt(t *testing.T) { // draft-ietf-httpbis-no-vary-search
	for _, soft := range []bool{false, true} {
		b := newBench(t, always(200, "x", "Cache-Control: max-age=60", "No-Vary-Search: params"))
		b.do("GET", page+"?a=1")
		if r := b.do("GET", page+"?a=2"); r.outcome.Result != Hit {
			t.Fatal(r.outcome)
		}
		b.purge([3]string{page + "?a=2"}, soft)
		if r := b.do("GET", page+"?a=2"); r.outcome.Result == Hit {
			t.Errorf("soft %v: still served: %s", soft, r.outcome.Status)
		}
	}
}
