package conform

import "testing"

func TestVerdictsFollowTheKindTheFailureAndTheDependencies(t *testing.T) {
	failed := func(k FailureKind) Result { return Result{Failure: &Failure{Kind: k}} }
	cases := []Case{
		{ID: "good", Kind: Required}, {ID: "bad", Kind: Required}, {ID: "broken", Kind: Required},
		{ID: "nice", Kind: Optimal}, {ID: "poor", Kind: Optimal},
		{ID: "so", Kind: Check}, {ID: "not so", Kind: Check},
		{ID: "void", Kind: Required}, {ID: "twice", Kind: Check}, {ID: "slow", Kind: Optimal}, {ID: "meant", Kind: Required},
		{ID: "on so", Kind: Required, DependsOn: []string{"good", "so"}},
		{ID: "on not so", Kind: Required, DependsOn: []string{"good", "not so"}},
		{ID: "on that", Kind: Check, DependsOn: []string{"on not so"}},
		{ID: "on a bad void", Kind: Check, DependsOn: []string{"void"}},
		{ID: "on nothing", Kind: Optimal, DependsOn: []string{"unknown"}},
		{ID: "one", Kind: Optimal, DependsOn: []string{"other"}}, {ID: "other", Kind: Optimal, DependsOn: []string{"one"}},
	}
	results := map[string]Result{
		"bad": failed(Unmet), "broken": failed(Broken), "poor": failed(Unmet), "not so": failed(Broken),
		"void": failed(Setup), "twice": failed(Retry), "slow": failed(Aborted), "meant": {AsMeant: &Failure{Kind: Unmet}},
		"on a bad void": failed(Unmet),
	}
	for _, c := range cases {
		if _, ok := results[c.ID]; !ok {
			results[c.ID] = Result{}
		}
	}
	delete(results, "nice")
	got := Judge(cases, results)
	for id, want := range map[string]Verdict{
		"good": Pass, "bad": Fail, "broken": Fail, "nice": Untested, "poor": OptionalFail, "so": Yes, "not so": No,
		"void": SetupFail, "twice": RetryFail, "slow": HarnessFail, "meant": Fail,
		"on so": Pass, "on not so": DependencyFail, "on that": DependencyFail, "on a bad void": DependencyFail,
		"on nothing": DependencyFail, "one": DependencyFail, "other": DependencyFail,
	} {
		if got[id] != want {
			t.Errorf("%s: %s, want %s", id, got[id], want)
		}
	}
}
