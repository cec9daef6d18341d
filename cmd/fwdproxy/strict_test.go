package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// strictRequest is a request as readStrict found it.
type strictRequest struct {
	Method, Target, Host string
	Fields               []string // "name: value", names in lower case
	Body                 string
	Trailers             []string
}

func (q strictRequest) field(name string) string {
	var values []string
	for _, f := range q.Fields {
		if v, ok := strings.CutPrefix(f, name+": "); ok {
			values = append(values, v)
		}
	}
	return strings.Join(values, "|")
}

var (
	strictStart = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^\\x00-\\x20\\x7f]+) HTTP/1\\.1\r\n$")
	strictField = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+): ((?:[^\\x00-\\x20\\x7f](?:[^\\x00-\\x08\\x0a-\\x1f\\x7f]*[^\\x00-\\x20\\x7f])?)?)\r\n$")
	strictChunk = regexp.MustCompile(`^([0-9a-f]{1,15})\r\n$`)
)

// errCut means that the connection broke off in the middle of a request.
var errCut = errors.New("the request breaks off")

// readStrict reads one request by the letter of RFC 9112, written apart from
// the code it checks. io.EOF is the end between requests.
func readStrict(r *bufio.Reader) (strictRequest, error) {
	var q strictRequest
	line, err := r.ReadString('\n')
	if err == io.EOF && line == "" {
		return q, io.EOF
	}
	if err != nil {
		return q, errCut
	}
	m := strictStart.FindStringSubmatch(line)
	if m == nil {
		return q, fmt.Errorf("request line %q", line)
	}
	q.Method, q.Target = m[1], m[2]
	if q.Fields, err = strictFields(r); err != nil {
		return q, err
	}
	count := map[string]int{}
	for _, f := range q.Fields {
		name, value, _ := strings.Cut(f, ": ")
		if count[name]++; name == "host" {
			q.Host = value
		}
	}
	length, coding := q.field("content-length"), q.field("transfer-encoding")
	switch {
	case count["host"] != 1 || q.Host == "":
		return q, fmt.Errorf("%d Hosts: %q", count["host"], q.Fields)
	case count["content-length"]+count["transfer-encoding"] > 1:
		return q, fmt.Errorf("two framings: %q", q.Fields)
	case count["transfer-encoding"] == 1 && coding != "chunked":
		return q, fmt.Errorf("Transfer-Encoding %q", coding)
	case coding != "":
		err = strictChunks(r, &q)
	case length != "":
		n, bad := strconv.Atoi(length)
		if bad != nil || strconv.Itoa(n) != length || n < 0 {
			return q, fmt.Errorf("Content-Length %q", length)
		}
		body := make([]byte, n)
		if _, bad = io.ReadFull(r, body); bad != nil {
			return q, errCut
		}
		q.Body = string(body)
	}
	return q, err
}

func strictFields(r *bufio.Reader) ([]string, error) {
	var fields []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, errCut
		}
		if line == "\r\n" {
			return fields, nil
		}
		m := strictField.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("field %q", line)
		}
		fields = append(fields, strings.ToLower(m[1])+": "+m[2])
	}
}

func strictChunks(r *bufio.Reader, q *strictRequest) error {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return errCut
		}
		m := strictChunk.FindStringSubmatch(line)
		if m == nil {
			return fmt.Errorf("chunk %q", line)
		}
		n, _ := strconv.ParseInt(m[1], 16, 64)
		if n == 0 {
			q.Trailers, err = strictFields(r)
			return err
		}
		data := make([]byte, n+2)
		if _, err := io.ReadFull(r, data); err != nil {
			return errCut
		}
		if string(data[n:]) != "\r\n" {
			return fmt.Errorf("behind a chunk: %q", data[n:])
		}
		q.Body += string(data[:n])
	}
}
