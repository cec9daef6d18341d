package accesslog

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func guardedRecord(w WAF) Record {
	return edited(func(r *Record) { r.Mode, r.WAF = "reverse", &w })
}

func TestTheLogSaysWhatTheFirewallFoundAndNothingWhereThatIsNothing(t *testing.T) {
	for _, c := range []struct {
		waf  WAF
		want string // "" for nothing at all
	}{
		{WAF{Site: "app", Verdict: WAFPass}, ""},
		{WAF{Site: "app", Verdict: WAFBlock, Rules: []int{942100, 941100}, Message: "SQL \"x\"\n", Score: 10},
			`"waf":"block","waf_rules":[942100,941100],"waf_message":"SQL \"x\"\n","waf_score":10,"request_id":`},
		{WAF{Site: "app", Verdict: WAFMatch, Rules: []int{920350}, Message: "a number", Score: 3},
			`"waf":"match","waf_rules":[920350],"waf_message":"a number","waf_score":3,"request_id":`},
		{WAF{Verdict: WAFDetect}, `"waf":"detect","waf_rules":[],"waf_score":0,"request_id":`},
	} {
		r := guardedRecord(c.waf)
		got := encode(formatJSON, &r)
		if c.want == "" && strings.Contains(got, "waf") || !strings.Contains(got, c.want) {
			t.Errorf("%+v: %s", c.waf, got)
		}
	}
}

func TestFirewallsAreCountedBySiteAndByRule(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	for _, w := range []WAF{
		{Site: "app", Verdict: WAFPass}, {Site: "app", Verdict: WAFPass}, {Site: "app", Verdict: WAFBlock, Rules: []int{942100, 941100}},
		{Site: "api", Verdict: WAFDetect, Rules: []int{942100}}, {Site: "api", Verdict: WAFMatch, Rules: []int{920350}},
	} {
		r := guardedRecord(w)
		m.Observe(&r)
	}
	got := series(t, reg)
	for name, want := range map[string]float64{
		"fwdproxy_waf_requests_total{site=app,verdict=pass}":   2,
		"fwdproxy_waf_requests_total{site=app,verdict=block}":  1,
		"fwdproxy_waf_requests_total{site=api,verdict=detect}": 1,
		"fwdproxy_waf_requests_total{site=api,verdict=match}":  1,
		"fwdproxy_waf_rule_hits_total{rule=942100}":            2,
		"fwdproxy_waf_rule_hits_total{rule=941100}":            1,
		"fwdproxy_waf_rule_hits_total{rule=920350}":            1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}
