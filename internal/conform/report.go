package conform

import (
	"fmt"
	"io"
	"strings"
)

// Report is the outcome of one run.
type Report struct {
	cases    []Case
	results  map[string]Result
	verdicts map[string]Verdict
}

// NewReport judges the results, which are in the order of the cases.
func NewReport(cases []Case, results []Result) *Report {
	r := &Report{cases: cases, results: map[string]Result{}}
	for i, c := range cases {
		r.results[c.ID] = results[i]
	}
	r.verdicts = Judge(cases, r.results)
	return r
}

// Score is how many of a set of cases are good.
type Score struct{ Good, Total int }

func (s Score) String() string { return fmt.Sprintf("%d/%d", s.Good, s.Total) }

// count scores the cases that of picks, by good.
func (r *Report) count(of func(*Case) bool, good func(*Case) bool) Score {
	var s Score
	for i := range r.cases {
		if c := &r.cases[i]; of(c) {
			s.Total++
			if good(c) {
				s.Good++
			}
		}
	}
	return s
}

// Score counts the cases of a kind that are good.
func (r *Report) Score(k Kind) Score { return r.count(ofKind(k), r.good) }

// Raw counts the cases of a kind as the suite's own browser page does: without
// dependencies, and without the checks that the suite has but never makes.
func (r *Report) Raw(k Kind) Score {
	return r.count(ofKind(k), func(c *Case) bool { return r.results[c.ID].Failure == nil })
}

func ofKind(k Kind) func(*Case) bool { return func(c *Case) bool { return c.Kind == k } }

func (r *Report) good(c *Case) bool { return r.verdicts[c.ID].Good() }

// Failing lists what is required or optimal and not good, as "id verdict", in
// the order of the suite.
func (r *Report) Failing() []string {
	var list []string
	for i := range r.cases {
		if c := &r.cases[i]; c.Kind != Check && !r.good(c) {
			list = append(list, c.ID+" "+string(r.verdicts[c.ID]))
		}
	}
	return list
}

// Summary is the line of figures.
func (r *Report) Summary() string {
	return fmt.Sprintf("required %v optimal %v", r.Score(Required), r.Score(Optimal))
}

// targeted is the group of RFC 9213, which the servers with published figures
// do not implement.
const targeted = "cdn-cache-control"

// Write prints the figures and everything that is not good.
func (r *Report) Write(w io.Writer, title string) {
	fmt.Fprintf(w, "%s: %s\n", title, r.Summary())
	fmt.Fprintf(w, "  raw, dependencies ignored: required %v optimal %v\n", r.Raw(Required), r.Raw(Optimal))
	isTargeted := func(k Kind) func(*Case) bool {
		return func(c *Case) bool { return c.Kind == k && c.Group == targeted }
	}
	fmt.Fprintf(w, "  of these targeted fields (RFC 9213): required %v optimal %v\n",
		r.count(isTargeted(Required), r.good), r.count(isTargeted(Optimal), r.good))
	fmt.Fprintf(w, "  of these fields that must not be stored, whose check the suite never makes: required %v\n",
		r.count(hasAsMeant, r.good))
	for _, k := range []Kind{Required, Optimal} {
		r.writeKind(w, k)
	}
	fmt.Fprintf(w, "  checks, which are neither right nor wrong: %v are a yes\n", r.Score(Check))
	r.writeKind(w, Check)
}

func (r *Report) writeKind(w io.Writer, k Kind) {
	for i := range r.cases {
		c := &r.cases[i]
		if c.Kind == k && !r.good(c) {
			fmt.Fprintf(w, "    %-8s %-16s %s: %s\n", k, r.verdicts[c.ID], c.ID, r.why(c))
		}
	}
}

// why is the failure of a case, and the dependencies that it fell with.
func (r *Report) why(c *Case) string {
	var parts []string
	for _, d := range c.DependsOn {
		if v := r.verdicts[d]; !v.Good() {
			parts = append(parts, fmt.Sprintf("needs %s, which is %s", d, v))
		}
	}
	result := r.results[c.ID]
	switch {
	case result.Failure != nil:
		parts = append(parts, result.Failure.Message)
	case result.AsMeant != nil:
		parts = append(parts, result.AsMeant.Message)
	default:
		parts = append(parts, "it holds by itself")
	}
	return strings.Join(parts, "; ")
}
