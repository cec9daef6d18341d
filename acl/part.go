package acl

import "slices"

// part settles v, and where that permits the request tells Allow from
// Intercept: a rule before it that waits and permits as well, but the other
// way, leaves that open.
func (e *Engine) part(w *walk, r *Request, v Verdict) Verdict {
	v = e.settle(w, v)
	if !v.Action.Permits() || !e.intercepts || r.Method != "CONNECT" {
		return v
	}
	first := func(of *int, i int) {
		if *of < 0 {
			*of = i
		}
	}
	// permits is the first that hangs on the address whichever way it permits.
	permits, address, named, both := -1, -1, -1, -1
	for i := range e.rules {
		if i == v.Index {
			break
		}
		u := &e.rules[i]
		if u.shadow || !u.action.Permits() {
			continue
		}
		t, _ := u.match(r)
		if t == unknown {
			first(&permits, i)
		}
		switch {
		case u.action == v.Action:
		case t == unknown:
			first(&address, i)
		case t == nameless:
			first(&named, i)
		case t == open:
			first(&both, i)
		}
	}
	switch {
	case named >= 0:
		return e.wait(named, v, permits >= 0 && permits < named, true)
	case both >= 0:
		return e.wait(both, v, true, true)
	}
	v.ActionPending = address >= 0
	if v.Action == Intercept {
		if i, hangs := e.asksInside(r); i >= 0 {
			v = e.wait(i, v, v.ActionPending || hangs, true)
			v.Reason = reasonInside
		}
	}
	return v
}

// asksInside returns the first rule that may hang on who asks for a request in
// the tunnel that r opens, -1 for none, and whether that hangs on the address:
// in there nobody can be asked any more.
func (e *Engine) asksInside(r *Request) (rule int, hangs bool) {
	rule = -1
	if r.User != "" || !r.MayIdentify {
		return rule, false
	}
	for i := range e.rules {
		u := &e.rules[i]
		if u.shadow || u.connect {
			continue
		}
		asks, sure := u.mayAsk(r)
		if sure {
			break // it decides all that is in there
		}
		switch asks {
		case nameless:
			return i, false
		case open:
			if rule < 0 {
				rule, hangs = i, true
			}
		}
	}
	return rule, hangs
}

// mayAsk returns nameless where the rule hangs on who asks, open where on the
// address as well, and no where it does not, or where what is known of the
// tunnel rules it out for what is in it. It is sure where the rule holds for
// all of that.
func (u *rule) mayAsk(r *Request) (asks truth, sure bool) {
	asks, sure = no, true
	waits := false
	for i := range u.conditions {
		c := &u.conditions[i]
		switch c.kind {
		case aboutFrom, aboutTo, aboutPort, aboutListen:
		case aboutMethod, aboutScheme:
			if c.leavesOut(r) {
				return no, false
			}
			sure = false
			continue
		default:
			sure = false
			continue
		}
		t, _ := c.test(r)
		if c.not {
			t = t.not()
		}
		sure = sure && t == yes
		switch t {
		case no:
			return no, false
		case nameless:
			asks = nameless
		case unknown:
			waits = true
		}
	}
	if waits && asks == nameless {
		return open, false
	}
	return asks, sure
}

// leavesOut reports whether a condition about the method or the scheme holds
// for no request in a tunnel.
func (c *condition) leavesOut(r *Request) bool {
	if c.kind == aboutScheme {
		return slices.Contains(c.words, "https") == c.not
	}
	return !c.not && !slices.ContainsFunc(c.words, func(m string) bool { return m != r.Method })
}
