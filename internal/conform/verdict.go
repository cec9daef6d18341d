package conform

// Verdict is what a case counts as.
type Verdict string

// The verdicts. Pass and Yes are good; No is an answer to a check, which is no
// failure, though cases may depend on it.
const (
	Pass           Verdict = "pass"
	Fail           Verdict = "fail"
	OptionalFail   Verdict = "optional_fail"
	Yes            Verdict = "yes"
	No             Verdict = "no"
	Untested       Verdict = "untested"
	DependencyFail Verdict = "dependency_fail"
	SetupFail      Verdict = "setup_fail"
	HarnessFail    Verdict = "harness_fail"
	RetryFail      Verdict = "retry"
)

// Good reports whether cases that depend on this one count.
func (v Verdict) Good() bool { return v == Pass || v == Yes }

// Judge gives each case its verdict. A case whose dependency is not good is
// void, whatever its own result.
func Judge(cases []Case, results map[string]Result) map[string]Verdict {
	j := judge{cases: map[string]*Case{}, results: results, verdicts: map[string]Verdict{}}
	for i := range cases {
		j.cases[cases[i].ID] = &cases[i]
	}
	for id := range j.cases {
		j.verdict(id)
	}
	return j.verdicts
}

type judge struct {
	cases    map[string]*Case
	results  map[string]Result
	verdicts map[string]Verdict
}

func (j judge) verdict(id string) Verdict {
	if v, ok := j.verdicts[id]; ok {
		return v
	}
	result, ran := j.results[id]
	c, known := j.cases[id]
	if !ran || !known {
		j.verdicts[id] = Untested
		return Untested
	}
	// For the time being, against cases that depend on each other.
	j.verdicts[id] = DependencyFail
	for _, d := range c.DependsOn {
		if !j.verdict(d).Good() {
			return DependencyFail
		}
	}
	v := own(c.Kind, result)
	j.verdicts[id] = v
	return v
}

// own is the verdict of a case by itself.
func own(kind Kind, result Result) Verdict {
	f := result.Failure
	if f == nil {
		f = result.AsMeant
	}
	if f == nil {
		if kind == Check {
			return Yes
		}
		return Pass
	}
	switch f.Kind {
	case Retry:
		return RetryFail
	case Setup:
		return SetupFail
	case Aborted:
		return HarnessFail
	}
	return map[Kind]Verdict{Required: Fail, Optimal: OptionalFail, Check: No}[kind]
}
