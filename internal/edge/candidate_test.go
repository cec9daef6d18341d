package edge

import (
	"net/http"
	"testing"
	"time"

	"fwdproxy/acl"
	"fwdproxy/internal/hop"
	"fwdproxy/tunnel"
)

// beside returns a stand with a candidate, whose next hop asks about the
// address and answers from it.
func beside(t *testing.T, live []acl.RuleConfig, address string, other *Door) *stand {
	t.Helper()
	return newStand(t, roundTrip(func(r *http.Request) (*http.Response, error) {
		if err := permit(r, address); err != nil {
			return nil, err
		}
		hop.From(r.Context()).Used(addrPort(address), "DIRECT")
		return answer(200, nil, "ok")(r)
	}), func(d *Door) {
		d.ACL, d.Candidate = rules(t, live...), NewCandidate(other)
	})
}

func TestACandidateIsAskedOnTheSameFactsAndOnlyDifferencesAreTold(t *testing.T) {
	all := acl.RuleConfig{Name: "all", Action: "allow"}
	deny := func(r acl.RuleConfig) []acl.RuleConfig {
		r.Name, r.Action = "new", "deny"
		return []acl.RuleConfig{r, {Name: "rest", Action: "allow"}}
	}
	denied := []acl.RuleConfig{{Name: "old", To: []string{"a.test"}, Action: "deny"}, all}
	for _, tt := range []struct {
		name            string
		live, candidate []acl.RuleConfig
		was, would      string // verdict and rule; "" where they say the same
	}{
		{"the same by another name", []acl.RuleConfig{all}, []acl.RuleConfig{{Name: "everything", Action: "allow"}}, "", ""},
		{"host", []acl.RuleConfig{all}, deny(acl.RuleConfig{To: []string{"a.test"}}), "allow all", "deny new"},
		{"another host", []acl.RuleConfig{all}, deny(acl.RuleConfig{To: []string{"b.test"}}), "", ""},
		{"address", []acl.RuleConfig{all}, deny(acl.RuleConfig{To: []string{"203.0.113.7"}}), "allow all", "deny new"},
		{"another address", []acl.RuleConfig{all}, deny(acl.RuleConfig{To: []string{"203.0.113.8"}}), "", ""},
		{"path", []acl.RuleConfig{all}, deny(acl.RuleConfig{Path: "^/x"}), "allow all", "deny new"},
		{"query", []acl.RuleConfig{all}, deny(acl.RuleConfig{Query: "q=1"}), "allow all", "deny new"},
		{"header", []acl.RuleConfig{all}, deny(acl.RuleConfig{Header: map[string]string{"X-Kind": "bot"}}), "allow all", "deny new"},
		{"not header", []acl.RuleConfig{all}, deny(acl.RuleConfig{NotHeader: map[string]string{"X-Kind": "bot"}}), "", ""},
		{"user agent", []acl.RuleConfig{all}, deny(acl.RuleConfig{UserAgent: "probe"}), "allow all", "deny new"},
		{"client", []acl.RuleConfig{all}, deny(acl.RuleConfig{From: []string{"127.0.0.1"}}), "allow all", "deny new"},
		{"default", []acl.RuleConfig{all}, []acl.RuleConfig{{To: []string{"b.test"}, Action: "allow"}}, "allow all", "deny default"},
		{"both deny", denied, deny(acl.RuleConfig{To: []string{".test"}}), "", ""},
		{"the candidate opens", denied, []acl.RuleConfig{{Name: "rest", Action: "allow"}}, "deny old", "allow rest"},
		{"nobody looked the address up", denied, deny(acl.RuleConfig{To: []string{"203.0.113.7"}}), "deny old", "pending new"},
	} {
		other := &Door{Mode: "forward", ACL: rules(t, tt.candidate...), Tunnel: tunnel.DefaultConfig()}
		s := beside(t, tt.live, "203.0.113.7:80", other)
		s.talk(t, "GET http://a.test/x?q=1 HTTP/1.1\r\nHost: a.test\r\nX-Kind: bot\r\nUser-Agent: probe\r\nConnection: close\r\n\r\n")
		rec := s.record(t)
		got := s.door.Candidate.Comparison()
		if got.Asked != 1 || got.Panicked != 0 || got.Differing != uint64(len(got.Differences)) {
			t.Errorf("%s: %+v", tt.name, got)
		}
		var was, would string
		for _, d := range got.Differences {
			was, would = d.Live.Verdict+" "+d.Live.Rule, d.Candidate.Verdict+" "+d.Candidate.Rule
			if d.Example.RequestID != rec.RequestID || d.Example.Target != "http://a.test" || d.Example.Client != "127.0.0.1" || d.Requests != 1 {
				t.Errorf("%s: %+v", tt.name, d)
			}
			if would != rec.CandidateSays+" "+rec.Candidate {
				t.Errorf("%s: logged %q by %q", tt.name, rec.CandidateSays, rec.Candidate)
			}
		}
		if was != tt.was || would != tt.would || tt.would == "" && rec.Candidate != "" {
			t.Errorf("%s: %q, would be %q; want %q and %q", tt.name, was, would, tt.was, tt.would)
		}
	}
}

func TestACandidateThatKnowsWhoMayAskWouldChallenge(t *testing.T) {
	other := &Door{Mode: "forward", Auth: checker(t), ACL: rules(t, acl.RuleConfig{Name: "sales", From: []string{"group:sales"}, Action: "allow"})}
	s := beside(t, []acl.RuleConfig{{Name: "all", Action: "allow"}}, "203.0.113.7:80", other)
	s.talk(t, "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
	if rec := s.record(t); rec.CandidateSays != "challenge" || rec.Candidate != "sales" || rec.Status != 200 {
		t.Errorf("%+v", rec)
	}
}

func TestAPanicOfTheCandidateStaysInIt(t *testing.T) {
	other := &Door{Mode: "forward"} // without rules at all
	s := beside(t, []acl.RuleConfig{{Name: "all", Action: "allow"}}, "203.0.113.7:80", other)
	s.talk(t, "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
	if rec := s.record(t); rec.Status != 200 || rec.Error != "" || rec.Verdict != "allow" {
		t.Errorf("%+v", rec)
	}
	if got := s.door.Candidate.Comparison(); got.Panicked != 1 || got.Differing != 0 {
		t.Errorf("%+v", got)
	}
}

func TestTheDifferencesAreBoundedAndBeginAgainWithANewCandidate(t *testing.T) {
	first, second := &Door{}, &Door{}
	c := NewCandidate(first)
	for i := range maxPairs + 7 {
		c.note(first, pair{Opinion{"deny", "a"}, Opinion{"allow", string(rune('!' + i))}}, time.Time{}, Example{})
	}
	if got := c.Comparison(); len(got.Differences) != maxPairs || got.Unlisted != 7 || got.Differing != maxPairs+7 {
		t.Errorf("%d listed, %d not, %d in all", len(got.Differences), got.Unlisted, got.Differing)
	}
	c.Use(second)
	c.note(first, pair{}, time.Time{}, Example{}) // of a request that began before
	if got := c.Comparison(); got.Differing != 0 || got.Differences == nil {
		t.Errorf("%+v", got)
	}
}

func BenchmarkCompare(b *testing.B) {
	e, _ := acl.Compile(acl.Config{Rules: []acl.RuleConfig{{Name: "b", To: []string{"b.test"}, Action: "deny"}, {Action: "allow"}}}, nil)
	x := &Exchange{door: &Door{Candidate: NewCandidate(&Door{Mode: "forward", ACL: e})}, w: &Writer{},
		r: &http.Request{Method: "CONNECT", RemoteAddr: "192.0.2.9:1"}}
	x.target.Host, x.target.Port = "a.test", 443
	x.rec.Verdict = "allow"
	b.ReportAllocs()
	for b.Loop() {
		x.compare(acl.Verdict{Action: acl.Allow})
	}
}
