package acl

// walk is what the rules before the one that decides came to.
type walk struct {
	// By side, the first rule that hangs on the address, on who asks, or on
	// both; -1 for none.
	address, nameless, both [2]int
	// opens says that a rule which hangs on the address alone would allow, with no
	// rule before it that denies and waits for who asks.
	opens       bool
	shadow      Shadow
	shadowWaits bool
}

// decide walks the rules until one decides. Where steps is not nil, it notes
// what each came to.
func (e *Engine) decide(r *Request, steps *[]Step) Verdict {
	none := [2]int{-1, -1}
	w := walk{address: none, nameless: none, both: none}
	for i := range e.rules {
		u := &e.rules[i]
		truth, why := u.match(r)
		if steps != nil {
			*steps = append(*steps, u.step(truth, why))
		}
		if truth == yes && !u.shadow {
			return e.part(&w, r, Verdict{Action: u.action, Rule: u.name, Index: i, Reason: why, Answer: u.answer})
		}
		if u.shadow {
			w.noteShadow(u, i, truth)
		} else {
			w.note(u.action, i, truth)
		}
	}
	return e.part(&w, r, Verdict{Action: e.fallback, Rule: defaultRule, Index: -1, Reason: reasonDefault})
}

func (w *walk) note(a Action, i int, t truth) {
	first := func(of *[2]int) {
		if of[a.side()] < 0 {
			of[a.side()] = i
		}
	}
	switch t {
	case unknown:
		first(&w.address)
		w.opens = w.opens || a.Permits() && w.nameless[Deny] < 0
	case nameless:
		first(&w.nameless)
	case open:
		first(&w.both)
	}
}

// noteShadow passes over a shadow that waits for who asks: nobody is asked for
// its sake.
func (w *walk) noteShadow(u *rule, i int, t truth) {
	switch {
	case t == yes && w.shadow.number == 0 && !w.shadowWaits:
		w.shadow = Shadow{u.name, u.action, i + 1}
	case t == unknown:
		w.shadowWaits = true
	}
}

// settle returns v, of the rule that surely holds, unless a rule before it that
// waits could give another action.
func (e *Engine) settle(w *walk, v Verdict) Verdict {
	v.Shadow, v.ShadowPending = w.shadow, w.shadowWaits && w.shadow.number == 0
	named := firstOf(w.nameless[Allow-v.Action.side()], w.both[Allow-v.Action.side()])
	switch {
	case v.Action.Permits() && w.nameless[Deny] < 0:
		// As the request is, it is allowed, unless at some address.
		if i := firstOf(w.address[Deny], w.both[Deny]); i >= 0 {
			return e.wait(i, v, true, w.address[Deny] < 0)
		}
		return v
	case w.opens:
		// It may be allowed as it is, at some address.
		return e.wait(w.address[Allow], v, true, named >= 0)
	case named >= 0:
		return e.wait(named, v, false, true)
	case w.address[Allow] >= 0:
		return e.wait(w.nameless[Deny], v, false, true)
	}
	return v
}

// wait returns the verdict that hangs on rule i.
func (e *Engine) wait(i int, v Verdict, pending, challenge bool) Verdict {
	v.Answer = nil
	if e.rules[i].action == Deny {
		v.Answer = e.rules[i].answer
	}
	v.Action, v.Rule, v.Index = Deny, e.rules[i].name, i
	v.Pending, v.Challenge = pending, challenge
	if v.Reason = reasonNameless; pending {
		v.Reason = reasonAwaiting
	}
	return v
}

// firstOf returns the smaller of two indexes, of which -1 is none.
func firstOf(a, b int) int {
	if a < 0 || b >= 0 && b < a {
		return b
	}
	return a
}
