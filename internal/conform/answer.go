package conform

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// respond makes the final response to request n of the case and logs it.
func (r *run) respond(id string, n int, q asked) reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := int(time.Now().UnixMilli())
	cfg := &r.c.Requests[n-1]
	status := Status{200, "OK"}
	if cfg.Status != nil {
		status = *cfg.Status
	}
	if strings.HasSuffix(cfg.ExpectedType, "validated") {
		status = Status{999, "304 Not Generated"}
		if r.validates(n, q.header) {
			status = Status{304, "Not Modified"}
		}
	}

	count := "NaN"
	if _, ok := q.header.number("Req-Num"); ok {
		count = strconv.Itoa(n)
	}
	h := head{
		{"Server-Base-Url", q.target},
		{"Server-Request-Count", strconv.Itoa(len(r.log) + 1)},
		{"Client-Request-Count", count},
		{"Server-Now", strconv.Itoa(now)},
	}
	var remembered head
	for i, f := range cfg.ResponseHeader {
		value := r.resolve(n, i, f, q.target, now)
		h.add(f.Name, value)
		if !f.Forgotten {
			remembered.join(strings.ToLower(f.Name), value)
		}
	}
	r.log = append(r.log, entry{number: n, method: q.method, header: q.header, remembered: remembered})
	if cfg.Disconnect {
		return reply{disconnect: true}
	}
	return finish(status, h, r.numbers(), now, q, bodyOf(cfg, id))
}

// numbers lists the Req-Num of every logged request.
func (r *run) numbers() string {
	var numbers []string
	for _, e := range r.log {
		numbers = append(numbers, strconv.Itoa(e.number))
	}
	return strings.Join(numbers, " ")
}

// bodyOf is the body of the answer: the case's, or else the id.
func bodyOf(cfg *Request, id string) string {
	if cfg.ResponseBody != "" {
		return cfg.ResponseBody
	}
	return id
}

// finish adds what a server adds by itself, and the body.
func finish(status Status, h head, numbers string, now int, q asked, body string) reply {
	h.setDefault("Content-Type", "text/plain")
	h.add("Request-Numbers", numbers)
	h.setDefault("Date", dateAt(now, 0))
	if _, ok := h.get("Connection"); !ok && closes(q.header) {
		h.add("Connection", "close")
	} else if !ok {
		h.add("Connection", "keep-alive")
		h.add("Keep-Alive", "timeout=5")
	}
	if status.Code == 204 || status.Code == 304 || q.method == "HEAD" {
		body = ""
	}
	_, coded := h.get("Transfer-Encoding")
	if body != "" && !coded {
		h.setDefault("Content-Length", strconv.Itoa(len(body)))
	}
	start := fmt.Sprintf("HTTP/1.1 %d %s", status.Code, status.Phrase)
	return reply{bytes: append(encode(start, h), body...), untilClose: coded && body != ""}
}

// validates reports whether the request names a validator of the answer to
// the request before n, exactly as it was sent.
func (r *run) validates(n int, asked head) bool {
	if n < 2 {
		return false
	}
	for i, f := range r.c.Requests[n-2].ResponseHeader {
		sent := f.Value
		if f.Dated {
			sent = r.dates[[2]int{n - 1, i}]
		}
		switch {
		case sent == "":
		case strings.EqualFold(f.Name, "Last-Modified") && asked.value("If-Modified-Since") == sent,
			strings.EqualFold(f.Name, "ETag") && asked.value("If-None-Match") == sent:
			return true
		}
	}
	return false
}

// resolve is the value of field i in the answer to request n.
func (r *run) resolve(n, i int, f Field, base string, now int) string {
	if f.Dated {
		key := [2]int{n, i}
		if r.dates[key] == "" {
			r.dates[key] = dateAt(now, f.Offset)
		}
		return r.dates[key]
	}
	return locate(r.c.Requests[n-1].MagicLocations, f, base)
}

// locate is the value of a field, with the base before a location.
func locate(magic bool, f Field, base string) string {
	if !magic || !strings.EqualFold(f.Name, "Location") && !strings.EqualFold(f.Name, "Content-Location") {
		return f.Value
	}
	if f.Value == "" {
		return base
	}
	return base + "/" + f.Value
}
