package conform

import (
	"strings"
	"testing"
)

func TestTheDataAreThePartOfTheSuiteThatAppliesToAProxy(t *testing.T) {
	cases, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	count, ids := map[Kind]int{}, map[string]bool{}
	for _, c := range cases {
		count[c.Kind]++
		ids[c.ID] = true
	}
	if count[Required] != 119 || count[Optimal] != 84 || count[Check] != 73 {
		t.Errorf("%v", count)
	}
	for _, c := range cases {
		for _, d := range c.DependsOn {
			if !ids[d] {
				t.Errorf("%s depends on %s, which is not there", c.ID, d)
			}
		}
	}
}

func TestDataThatNoCheckKnowsAreRefused(t *testing.T) {
	for _, request := range []string{
		`{"expected_weather":"fair"}`,
		`{"expected_response_headers":[["a","=","b"]]}`,
		`{"response_headers":[["a"]]}`,
		`{"response_headers":[["a",1.5]]}`,
		`{"response_headers":[["a","b","c"]]}`,
	} {
		text := `{"suites":[{"id":"g","tests":[{"id":"x","requests":[` + request + `]}]}]}`
		if cases, err := parse([]byte(text)); err == nil {
			t.Errorf("%s is read as %+v", request, cases[0].Requests)
		} else if !strings.Contains(err.Error(), "g:") {
			t.Errorf("the error does not say where: %v", err)
		}
	}
}
