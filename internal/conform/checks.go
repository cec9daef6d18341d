package conform

import (
	"fmt"
	"slices"
	"strings"
)

// FailureKind says in what way a case failed.
type FailureKind string

// The kinds of failures. Setup means that the case says nothing, Retry that
// somebody sent a request twice, Aborted that no response came in time; with
// Broken (no response at all, or no request at the origin) and Unmet the
// expectation itself failed.
const (
	Unmet   FailureKind = "unmet"
	Setup   FailureKind = "setup"
	Retry   FailureKind = "retry"
	Aborted FailureKind = "aborted"
	Broken  FailureKind = "broken"
)

// Failure is the first check of a case that failed.
type Failure struct {
	Kind    FailureKind
	Message string
}

// fail makes a failure of a check of request n.
func fail(setup bool, n int, format string, args ...any) *Failure {
	kind := Unmet
	if setup {
		kind = Setup
	}
	return &Failure{kind, fmt.Sprintf("response %d: ", n) + fmt.Sprintf(format, args...)}
}

// checkResponse judges the response to request n of a case, and returns the
// first failure.
func checkResponse(c *Case, id string, n int, res *Response) *Failure {
	r := &c.Requests[n-1]
	numbers := strings.Fields(res.header.value("Request-Numbers"))
	slices.Sort(numbers)
	if len(slices.Compact(slices.Clone(numbers))) < len(numbers) {
		return &Failure{Retry, fmt.Sprintf("response %d: a request reached the origin twice: %v", n, numbers)}
	}
	for _, check := range []func(*Request, int, *Response) *Failure{
		checkType, checkStatus, checkHeader, checkMissing, checkInterim,
	} {
		if f := check(r, n, res); f != nil {
			return f
		}
	}
	return checkBody(r, id, n, res)
}

func checkType(r *Request, n int, res *Response) *Failure {
	count, counted := res.header.number("Server-Request-Count")
	setup := r.setup("expected_type")
	switch r.ExpectedType {
	case "cached":
		if res.status == 304 && !counted || counted && count < n {
			return nil
		}
		return fail(setup, n, "not from the cache (%s)", describe(res))
	case "not_cached":
		if !counted || count != n {
			return fail(setup, n, "from the cache, or something besides reached the origin (%s)", describe(res))
		}
	}
	return nil
}

// describe says what a response was, for whoever reads the failure.
func describe(res *Response) string {
	parts := []string{fmt.Sprintf("status %d", res.status)}
	for _, name := range []string{"Server-Request-Count", "Cache-Status", "Proxy-Status"} {
		if v, ok := res.header.get(name); ok {
			parts = append(parts, name+": "+v)
		}
	}
	return strings.Join(parts, ", ")
}

func checkStatus(r *Request, n int, res *Response) *Failure {
	switch {
	case r.ExpectedStatus.Set:
		if want := r.ExpectedStatus.Value; want != nil && *want != res.status {
			return fail(r.setup("expected_status"), n, "want status %d (%s)", *want, describe(res))
		}
	case r.Status != nil:
		if r.Status.Code != res.status {
			return fail(true, n, "want status %d (%s)", r.Status.Code, describe(res))
		}
	case res.status == 999:
		return fail(r.setup("expected_type"), n, "the request should have been conditional (%s)", describe(res))
	case res.status != 200:
		return fail(true, n, "want status 200 (%s)", describe(res))
	}
	return nil
}

func checkHeader(r *Request, n int, res *Response) *Failure {
	setup := r.setup("expected_response_headers")
	for _, e := range r.ExpectedHeader {
		got, ok := res.header.get(e.Name)
		switch {
		case e.Presence:
			if !ok {
				return fail(setup, n, "%s is missing", e.Name)
			}
		case e.Greater:
			if k, isNumber := res.header.number(e.Name); !isNumber || k <= e.Offset {
				return fail(setup, n, "%s is %q, want more than %d", e.Name, got, e.Offset)
			}
		default:
			want := locate(r.MagicLocations, e.Field, res.header.value("Server-Base-Url"))
			if e.Dated {
				then, _ := res.header.number("Server-Now")
				want = dateAt(then, e.Offset)
			}
			if !ok || got != want {
				return fail(setup, n, "%s is %q, want %q", e.Name, got, want)
			}
		}
	}
	return nil
}

func checkMissing(r *Request, n int, res *Response) *Failure {
	for _, e := range r.ExpectedMissing {
		if got, ok := res.header.get(e.Name); e.Presence && ok {
			return fail(r.setup("expected_response_headers_missing"), n, "%s is there: %q", e.Name, got)
		}
	}
	return nil
}

// checkAsMeant is the check that a field does not have a value, which the
// suite's own code never makes.
func checkAsMeant(c *Case, n int, res *Response) *Failure {
	for _, e := range c.Requests[n-1].ExpectedMissing {
		if got := res.header.value(e.Name); !e.Presence && strings.Contains(got, e.Value) {
			return fail(false, n, "%s is %q", e.Name, got)
		}
	}
	return nil
}

// hasAsMeant reports whether the case has such a check.
func hasAsMeant(c *Case) bool {
	return slices.ContainsFunc(c.Requests, func(r Request) bool {
		return slices.ContainsFunc(r.ExpectedMissing, func(e ExpectedField) bool { return !e.Presence })
	})
}

func checkInterim(r *Request, n int, res *Response) *Failure {
	if r.ExpectedInterim == nil {
		return nil
	}
	var got, want []int
	for _, i := range res.interim {
		got = append(got, i.status)
	}
	for _, i := range r.ExpectedInterim {
		want = append(want, i.Code)
	}
	if !slices.Equal(got, want) {
		return fail(r.setup("expected_interim_responses"), n, "interim responses %v, want %v", got, want)
	}
	for i, line := range r.ExpectedInterim {
		for _, f := range line.Header {
			if _, ok := res.interim[i].header.get(f.Name); !ok {
				return fail(r.setup("expected_interim_responses"), n, "%s is missing in interim response %d", f.Name, i+1)
			}
		}
	}
	return nil
}

func checkBody(r *Request, id string, n int, res *Response) *Failure {
	if r.CheckBody != nil && !*r.CheckBody {
		return nil
	}
	want, setup := id, true
	switch {
	case r.ExpectedText.Set:
		if r.ExpectedText.Value == nil {
			return nil
		}
		want, setup = *r.ExpectedText.Value, r.setup("expected_response_text")
	case r.ResponseBody != "":
		want = r.ResponseBody
	case res.status == 204 || res.status == 304 || r.method() == "HEAD":
		return nil
	}
	if res.body != want {
		return fail(setup, n, "the body is %q, want %q", res.body, want)
	}
	return nil
}

// checkLog judges what the origin was asked, once all responses are there. A
// request that it should have been asked and was not is a failure only where a
// check needs it.
func checkLog(c *Case, log []entry, responses []*Response) *Failure {
	next := 0
	for i := range c.Requests {
		r, n := &c.Requests[i], i+1
		if r.ExpectedType == "cached" {
			continue
		}
		var f *Failure
		if next < len(log) {
			f = checkEntry(r, n, &log[next], responses[i])
		} else {
			f = checkNoEntry(r, n)
		}
		if f != nil {
			return f
		}
		next++
	}
	return nil
}

// checkNoEntry judges a request that the origin was not asked.
func checkNoEntry(r *Request, n int) *Failure {
	switch {
	case validator(r) != "":
		return fail(r.setup("expected_type"), n, "the request wasn't sent to the origin")
	case r.ExpectedType == "not_cached", len(r.ExpectedRequestHeaders) > 0, r.ExpectedMethod != "":
		return &Failure{Broken, fmt.Sprintf("response %d: the request is not in the origin's log", n)}
	}
	return nil
}

// validator is the request field without which a request does not validate;
// empty where it need not.
func validator(r *Request) string {
	switch r.ExpectedType {
	case "etag_validated":
		return "If-None-Match"
	case "lm_validated":
		return "If-Modified-Since"
	}
	return ""
}

// checkEntry judges a request in the log, and whether the response to it came
// through unharmed.
func checkEntry(r *Request, n int, e *entry, res *Response) *Failure {
	if r.ExpectedType == "not_cached" && e.number != n {
		return fail(r.setup("expected_type"), n, "the origin was asked %d instead", e.number)
	}
	if name := validator(r); name != "" {
		if _, ok := e.header.get(name); !ok {
			return fail(r.setup("expected_type"), n, "the origin got no %s", name)
		}
	}
	for _, want := range r.ExpectedRequestHeaders {
		got, ok := e.header.get(want.Name)
		if !ok || !want.Presence && got != want.Value {
			return fail(r.setup("expected_request_headers"), n, "the origin got %s %q, want %q", want.Name, got, want.Value)
		}
	}
	for _, l := range e.remembered {
		if got := res.header.value(l.name); l.name != "date" && got != l.value {
			return fail(true, n, "the origin sent %s %q, the client got %q", l.name, l.value, got)
		}
	}
	if r.ExpectedMethod != "" && e.method != r.ExpectedMethod {
		return fail(r.setup("expected_method"), n, "the origin was asked with %s, want %s", e.method, r.ExpectedMethod)
	}
	return nil
}
