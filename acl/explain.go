package acl

// Step is what one rule came to when a request was explained.
type Step struct {
	Rule    string `json:"rule"`
	Action  string `json:"action"`
	Outcome string `json:"outcome"` // "decides", "would decide, but is a shadow", "no match" or "waits"
	Why     string `json:"why"`     // for people
}

// Explain returns what Decide does, with every rule that was considered, in
// order: it is the same code.
func (e *Engine) Explain(r Request) (Verdict, []Step) {
	steps := []Step{}
	return e.ask(&r, &steps), steps
}

func (u *rule) step(t truth, why string) Step {
	s := Step{Rule: u.name, Action: u.word(), Outcome: "decides", Why: why}
	switch {
	case t == yes && u.shadow:
		s.Outcome, s.Why = "would decide, but is a shadow", why
	case t == no && u.connect && why == "action":
		s.Outcome, s.Why = "no match", "it is about CONNECT alone"
	case t == no:
		s.Outcome, s.Why = "no match", `"`+why+`" does not hold`
	case t == unknown:
		s.Outcome, s.Why = "waits", `"`+why+`" hangs on the destination's address`
	case t == nameless:
		s.Outcome, s.Why = "waits", `"`+why+`" hangs on who asks`
	case t == open:
		s.Outcome, s.Why = "waits", "it hangs on who asks and on the destination's address"
	}
	return s
}

// word returns the action as the policy writes it.
func (u *rule) word() string {
	if u.connect {
		return u.config.Action
	}
	return u.action.String()
}
