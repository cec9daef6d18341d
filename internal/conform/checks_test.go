package conform

import (
	"encoding/json"
	"testing"
)

// TestEachCheckHoldsAndFails gives each check a response that is right and one
// that is wrong.
func TestEachCheckHoldsAndFails(t *testing.T) {
	fresh := head{{"Server-Request-Count", "2"}, {"Server-Now", "1600000000000"}, {"Server-Base-Url", "/b"}}
	with := func(lines ...string) head {
		h := append(head(nil), fresh...)
		for i := 0; i < len(lines); i += 2 {
			h.add(lines[i], lines[i+1])
		}
		return h
	}
	ok := func(h head) *Response { return &Response{status: 200, header: h, body: "id"} }
	for _, c := range []struct {
		request     string
		good, wrong *Response
		want        FailureKind
	}{
		{`{}`, ok(with("Request-Numbers", "1 2")), ok(with("Request-Numbers", "1 2 2")), Retry},
		{`{"expected_type":"cached"}`, ok(head{{"Server-Request-Count", "1"}}), ok(fresh), Unmet},
		{`{"expected_type":"cached","setup":true}`, ok(head{{"Server-Request-Count", "1"}}), ok(nil), Setup},
		{`{"expected_type":"cached","expected_status":304}`, &Response{status: 304}, &Response{status: 304, header: fresh}, Unmet},
		{`{"expected_type":"not_cached"}`, ok(fresh), ok(head{{"Server-Request-Count", "1"}}), Unmet},
		{`{"expected_type":"not_cached","setup_tests":["expected_type"]}`, ok(fresh), ok(head{{"Server-Request-Count", "3"}}), Setup},
		{`{"expected_status":304}`, &Response{status: 304}, ok(fresh), Unmet},
		{`{"expected_status":null,"check_body":false}`, &Response{status: 502}, nil, ""},
		{`{"response_status":[404,"Not Found"]}`, &Response{status: 404, body: "id"}, ok(fresh), Setup},
		{`{"expected_type":"etag_validated"}`, ok(fresh), &Response{status: 999, body: "id"}, Unmet},
		{`{}`, ok(fresh), &Response{status: 504, body: "id"}, Setup},
		{`{"expected_response_headers":["age"]}`, ok(with("Age", "")), ok(fresh), Unmet},
		{`{"expected_response_headers":[["a","1, 2"]]}`, ok(with("A", "1", "a", "2")), ok(with("A", "1")), Unmet},
		{`{"expected_response_headers":[["a","1"]],"setup":true}`, ok(with("A", "1")), ok(fresh), Setup},
		{`{"expected_response_headers":[["Expires",-1]]}`, ok(with("Expires", "Sun, 13 Sep 2020 12:26:39 GMT")), ok(with("Expires", "Sun, 13 Sep 2020 12:26:40 GMT")), Unmet},
		{`{"expected_response_headers":[["Age",">",5]]}`, ok(with("Age", "6")), ok(with("Age", "5")), Unmet},
		{`{"magic_locations":true,"expected_response_headers":[["Location","x"]]}`, ok(with("Location", "/b/x")), ok(with("Location", "x")), Unmet},
		{`{"expected_response_headers_missing":["age"]}`, ok(fresh), ok(with("Age", "1")), Unmet},
		{`{"expected_interim_responses":[[102]]}`, &Response{status: 200, body: "id", interim: []interim{{102, nil}}}, ok(fresh), Unmet},
		{`{"expected_interim_responses":[[103,[["link","x"]]]]}`, &Response{status: 200, body: "id", interim: []interim{{103, head{{"Link", "y"}}}}}, &Response{status: 200, body: "id", interim: []interim{{103, nil}}}, Unmet},
		{`{"expected_interim_responses":[]}`, ok(fresh), &Response{status: 200, body: "id", interim: []interim{{102, nil}}}, Unmet},
		{`{}`, ok(fresh), &Response{status: 200, body: "other"}, Setup},
		{`{"response_body":"b"}`, &Response{status: 200, body: "b"}, ok(fresh), Setup},
		{`{"expected_response_text":"t"}`, &Response{status: 200, body: "t"}, ok(fresh), Unmet},
		{`{"expected_response_text":null}`, &Response{status: 200, body: "t"}, nil, ""},
		{`{"request_method":"HEAD"}`, &Response{status: 200}, nil, ""},
	} {
		k := &Case{Requests: make([]Request, 2)}
		if err := json.Unmarshal([]byte(c.request), &k.Requests[1]); err != nil {
			t.Fatal(err)
		}
		if f := checkResponse(k, "id", 2, c.good); f != nil {
			t.Errorf("%s: %v", c.request, *f)
		}
		if c.wrong == nil {
			continue
		}
		if f := checkResponse(k, "id", 2, c.wrong); f == nil || f.Kind != c.want {
			t.Errorf("%s, wrong: %v, want %s", c.request, f, c.want)
		}
	}
}

func TestEachCheckOfTheLogHoldsAndFails(t *testing.T) {
	for _, c := range []struct {
		request     string
		good, wrong *entry
		want        FailureKind
	}{
		{`{"expected_type":"not_cached"}`, &entry{number: 1}, &entry{number: 2}, Unmet},
		{`{"expected_type":"not_cached"}`, &entry{number: 1}, nil, Broken},
		{`{"expected_type":"etag_validated"}`, &entry{header: head{{"if-none-match", "x"}}}, &entry{}, Unmet},
		{`{"expected_type":"lm_validated","setup":true}`, &entry{header: head{{"If-Modified-Since", "x"}}}, nil, Setup},
		{`{"expected_request_headers":["a"]}`, &entry{header: head{{"A", ""}}}, &entry{}, Unmet},
		{`{"expected_request_headers":[["a","1"]]}`, &entry{header: head{{"A", "1"}}}, &entry{header: head{{"A", "2"}}}, Unmet},
		{`{"expected_request_headers":["a"]}`, &entry{header: head{{"A", "1"}}}, nil, Broken},
		{`{"expected_method":"HEAD"}`, &entry{method: "HEAD"}, &entry{method: "GET"}, Unmet},
		{`{}`, &entry{remembered: head{{"seen", "1, 2"}, {"date", "other"}}}, &entry{remembered: head{{"seen", "1"}}}, Setup},
	} {
		k := &Case{Requests: make([]Request, 1)}
		if err := json.Unmarshal([]byte(c.request), &k.Requests[0]); err != nil {
			t.Fatal(err)
		}
		responses := []*Response{{status: 200, header: head{{"Seen", "1"}, {"Seen", "2"}}}}
		if f := checkLog(k, []entry{*c.good}, responses); f != nil {
			t.Errorf("%s: %v", c.request, *f)
		}
		var log []entry
		if c.wrong != nil {
			log = append(log, *c.wrong)
		}
		if f := checkLog(k, log, responses); f == nil || f.Kind != c.want {
			t.Errorf("%s, wrong: %v, want %s", c.request, f, c.want)
		}
	}
}

func TestTheLogIsReadPastWhatTheCacheAnswered(t *testing.T) {
	var k Case
	if err := json.Unmarshal([]byte(`{"requests":[{},{"expected_type":"cached"},{"expected_type":"not_cached"}]}`), &k); err != nil {
		t.Fatal(err)
	}
	responses := []*Response{{}, {}, {}}
	if f := checkLog(&k, []entry{{number: 1}, {number: 3}}, responses); f != nil {
		t.Error(f.Message)
	}
	if f := checkLog(&k, []entry{{number: 1}, {number: 2}, {number: 3}}, responses); f == nil {
		t.Error("that the second request reached the origin goes unnoticed")
	}
}

func TestAFieldThatMustNotBeStored(t *testing.T) {
	var k Case
	if err := json.Unmarshal([]byte(`{"requests":[{"expected_response_headers_missing":[["TE","secret"]]}]}`), &k); err != nil {
		t.Fatal(err)
	}
	if !hasAsMeant(&k) {
		t.Error("the check is not known as one that the suite never makes")
	}
	for value, want := range map[string]bool{"": true, "other": true, "secret": false, "a, secret": false} {
		res := &Response{header: head{{"Te", value}}}
		if got := checkAsMeant(&k, 1, res) == nil; got != want {
			t.Errorf("TE %q holds: %v, want %v", value, got, want)
		}
	}
}
