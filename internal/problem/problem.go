// Package problem holds what is wrong with a policy, in the form that a person
// can act on: the key, what is wrong, and what would be right.
package problem

import "fmt"

// Problem is one thing wrong with a policy.
type Problem struct {
	Key     string // as in "acl.rule[0].to[1]"; indexes count from 0
	Line    int    // in the policy file, from 1; 0 when not known
	Message string // what is wrong, without the key
	Hint    string // what would be right; may be empty
}

func (p Problem) String() string {
	s := p.Key + ": " + p.Message
	if p.Key == "" {
		s = p.Message
	}
	if p.Line > 0 {
		s = fmt.Sprintf("line %d: %s", p.Line, s)
	}
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

// List gathers problems, so that all are reported at once.
type List []Problem

// Add appends a problem.
func (l *List) Add(key, hint, format string, args ...any) {
	*l = append(*l, Problem{Key: key, Message: fmt.Sprintf(format, args...), Hint: hint})
}
