package acl

import (
	"net/textproto"
	"strings"

	"fwdproxy/internal/unit"
)

// ModifyConfig is one table [[acl.modify]]. Its conditions are read as those of
// a rule, save that one which cannot be told (a user who did not say who they
// are, a path that two servers may read differently) holds, so that leaving
// something out is no way around; and that an address under to or not_to is
// about hosts that are written as one, never about what a name resolves to.
type ModifyConfig struct {
	// Name is shown in the log, in Cache-Status and to whoever max_response refuses;
	// it can not be left out.
	Name string `toml:"name"`
	// From holds clients, users and groups, as in a rule; nobody is asked who they
	// are for its sake, and who has not said it counts as meant.
	From []string `toml:"from"`
	// NotFrom holds for clients that are none of these.
	NotFrom []string `toml:"not_from"`
	// To holds destinations, as in a rule; addresses hold for hosts that are written
	// as one alone.
	To []string `toml:"to"`
	// NotTo holds for destinations that are none of these.
	NotTo []string `toml:"not_to"`
	// Ports are destination ports: numbers, and ranges as "8443-8449".
	Ports []unit.PortRange `toml:"ports"`
	// Methods are request methods in upper case. What goes through a tunnel
	// (CONNECT) that is not intercepted cannot be modified.
	Methods []string `toml:"methods"`
	// Schemes are "http" and "https".
	Schemes []string `toml:"schemes"`
	// Path is an RE2 expression for the path, as in a rule.
	Path string `toml:"path"`
	// Query is an RE2 expression for the query, as in a rule.
	Query string `toml:"query"`
	// Header holds names of fields that the client sent and an RE2 expression each,
	// as in a rule.
	Header map[string]string `toml:"header"`
	// UserAgent is an RE2 expression for the User-Agent field, as in a rule.
	UserAgent string `toml:"user_agent"`
	// When holds windows of time, as in a rule.
	When string `toml:"when"`
	// Listen is where the client connected to, as in a rule.
	Listen []string `toml:"listen"`
	// SetRequest holds fields and the value that each gets in the request, in place of
	// what the client sent. Responses to it are stored apart: nobody for whom other
	// tables apply gets them, nor who sends the same by themselves. Fields of a
	// connection, of framing, of ranges and conditions, credentials (Authorization,
	// Cookie) and what the proxy itself says cannot be set.
	SetRequest map[string]string `toml:"set_request"`
	// RemoveRequest holds fields that the request goes on without; "_" in a name
	// that a client sends counts as "-". Responses are stored apart as well.
	RemoveRequest []string `toml:"remove_request"`
	// SetResponse holds fields and the value that each gets in the response, on its
	// way to the client: what is stored stays as it came.
	SetResponse map[string]string `toml:"set_response"`
	// RemoveResponse holds fields that the client gets the response without.
	RemoveResponse []string `toml:"remove_response"`
	// BypassCache sends the request past the cache, which neither answers it nor
	// stores what comes.
	BypassCache bool `toml:"bypass_cache"`
	// MaxResponse is the largest body that the client gets, as it is transferred. A
	// larger one is refused (502) where its length is known, even by a range of it
	// alone, else broken off; 0 sets no limit. Who asks for several ranges at once
	// gets the whole.
	MaxResponse unit.Size `toml:"max_response"`
}

// modifier is one compiled table.
type modifier struct {
	config   ModifyConfig
	does     string   // what, for people
	request  []change // sorted by name
	response []change // likewise
	apart    string   // what keeps responses to changed requests apart; "" where none is changed
	when     rule     // its conditions; as one that denies, so that doubt holds
}

func (k *compiler) modifier(i int, c ModifyConfig) modifier {
	key := index("acl.modify", i)
	m := modifier{config: c}
	m.when.conditions = k.conditions(key, RuleConfig{From: c.From, NotFrom: c.NotFrom, To: c.To, NotTo: c.NotTo, Ports: c.Ports,
		Methods: c.Methods, Schemes: c.Schemes, Path: c.Path, Query: c.Query, Header: c.Header, UserAgent: c.UserAgent, When: c.When, Listen: c.Listen})
	k.tableName("acl.modify", i, "the table", c.Name, func(j int) string { return k.config.Modify[j].Name })
	k.notTunnels(key+".methods", c.Methods, "CONNECT")
	k.notTunnels(key+".schemes", c.Schemes, Tunnel)
	m.request = k.changes(key, "request", c.SetRequest, c.RemoveRequest, refusedRequest)
	m.response = k.changes(key, "response", c.SetResponse, c.RemoveResponse, refusedResponse)
	m.apart = describe(m.request)
	if c.MaxResponse < 0 {
		k.problems.Add(key+".max_response", `write a size as "100MiB", or 0 for no limit`, "%s is out of range", c.MaxResponse)
	}
	if m.does = c.does(); m.does == "" {
		k.problems.Add(key, `give it "set_request", "remove_request", "set_response", "remove_response", "bypass_cache" or "max_response"`,
			"the table modifies nothing")
	}
	return m
}

func (k *compiler) notTunnels(key string, words []string, tunnel string) {
	for j, w := range words {
		if w == tunnel {
			k.problems.Add(index(key, j), `leave it out; a rule with action = "intercept" opens tunnels`, "what goes through a tunnel is not seen, and cannot be modified")
		}
	}
}

// does says what the table modifies, without values, which may be secrets.
func (c ModifyConfig) does() string {
	var parts []string
	for _, p := range []struct {
		key   string
		names []string
	}{{"set_request", sortedNames(c.SetRequest)}, {"remove_request", c.RemoveRequest},
		{"set_response", sortedNames(c.SetResponse)}, {"remove_response", c.RemoveResponse}} {
		if len(p.names) > 0 {
			parts = append(parts, p.key+" "+strings.Join(p.names, " "))
		}
	}
	if c.BypassCache {
		parts = append(parts, "bypass_cache")
	}
	if c.MaxResponse > 0 {
		parts = append(parts, "max_response "+c.MaxResponse.String())
	}
	return strings.Join(parts, ", ")
}

// Modification is what the tables that apply to one request make of it and of
// its response. Nil modifies nothing.
type Modification struct {
	Bypass      string // the table that sends the request past the cache; "" for none
	MaxResponse int64  // bytes of a body that the client may get; 0 is no limit
	MaxBy       string // the table that says so

	tables []*modifier
}

// Modify returns what the tables that apply make of a request that is allowed,
// nil where none applies. A CONNECT is never modified.
func (e *Engine) Modify(r Request) *Modification {
	if len(e.modifiers) == 0 || r.Method == "CONNECT" {
		return nil
	}
	r.plain()
	r.byName = true
	var out *Modification
	for i := range e.modifiers {
		m := &e.modifiers[i]
		if t, _ := m.when.match(&r); t == no {
			continue
		}
		if out == nil {
			out = &Modification{}
		}
		out.tables = append(out.tables, m)
		if m.config.BypassCache && out.Bypass == "" {
			out.Bypass = m.config.Name
		}
		if most := int64(m.config.MaxResponse); most > 0 && (out.MaxResponse == 0 || most < out.MaxResponse) {
			out.MaxResponse, out.MaxBy = most, m.config.Name
		}
	}
	return out
}

// Tables returns the names of the tables that apply, in their order.
func (m *Modification) Tables() []string {
	out := []string{}
	if m != nil {
		for _, t := range m.tables {
			out = append(out, t.config.Name)
		}
	}
	return out
}

// Modifies reports whether any table applies to the request.
func (e *Engine) Modifies(r Request) bool { return len(e.modifiers) > 0 && e.Modify(r) != nil }

// Request changes the fields of a request in the order of the policy.
func (m *Modification) Request(h map[string][]string) {
	if m != nil {
		for _, t := range m.tables {
			apply(t.request, h)
		}
	}
}

// Response changes the fields of a response on its way to the client.
func (m *Modification) Response(h map[string][]string) {
	if m != nil {
		for _, t := range m.tables {
			apply(t.response, h)
		}
	}
}

// Removes deletes from h, a trailer or the head of an informational response,
// what the tables set or remove in responses.
func (m *Modification) Removes(h map[string][]string) {
	if m != nil {
		for _, t := range m.tables {
			remove(t.response, h)
		}
	}
}

// Apart returns what keeps the response to a request apart in the cache from
// those to other requests for the same URL: what m changed in it, and what of
// the fields that any table sets h has, after Request, since hardly an origin
// names them in Vary. It is "" for a request that has nothing to do with them.
func (e *Engine) Apart(m *Modification, h map[string][]string) string {
	var b strings.Builder
	if m != nil {
		for _, t := range m.tables {
			b.WriteString(t.apart)
		}
	}
	if len(e.keyed) > 0 {
		e.appendSent(&b, h)
	}
	return b.String()
}

// ModifyStep is what one table came to when a request was explained.
type ModifyStep struct {
	Table   string `json:"table"`
	Does    string `json:"does"`    // what, for people
	Outcome string `json:"outcome"` // "applies", or why it does not, for people
}

// ExplainModify returns what Modify does, with the tables that do not apply.
func (e *Engine) ExplainModify(r Request) (out []ModifyStep) {
	r.plain()
	r.byName = true
	for i := range e.modifiers {
		m := &e.modifiers[i]
		s := ModifyStep{Table: m.config.Name, Does: m.does}
		t, why := m.when.match(&r)
		switch {
		case r.Method == "CONNECT":
			s.Outcome = "does not apply: what goes through a tunnel is not seen"
		default:
			s.Outcome = outcomeOf(t, why)
		}
		out = append(out, s)
	}
	return out
}

// outcomeOf says for people whether a table in which doubt holds applies.
func outcomeOf(t truth, why string) string {
	switch t {
	case no:
		return `does not apply: "` + why + `" does not hold`
	case yes:
		return "applies"
	}
	return `applies: "` + why + `" cannot be told, and so it holds`
}

func canonical(name string) string { return textproto.CanonicalMIMEHeaderKey(name) }
