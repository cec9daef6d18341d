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
	strictStart = regexp.MustCompile(`^([!#$%&'*+.^_|~0-9A-Za-z\x60-]+) ([!-~\x80-\xff]+) HTTP/1\.1\r\n$`)
	strictField = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?((?:[!-~\\x80-\\xff](?:[ \\t!-~\\x80-\\xff]*[!-~\\x80-\\xff])?)?)\r\n$")
	strictChunk = regexp.MustCompile(`^([0-9a-f]{1,15})\r\n$`)
)

// readStrict reads one request by the letter of RFC 9112, written apart from
// the code it checks. io.EOF is the end between requests.
func readStrict(r *bufio.Reader) (strictRequest, error) {
	var q strictRequest
	line, err := r.ReadString('\n')
	if err == io.EOF && line == "" {
		return q, io.EOF
	}
	m := strictStart.FindStringSubmatch(line)
	if m == nil {
		return q, fmt.Errorf("request line %q (%v)", line, err)
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
		_, err = io.ReadFull(r, body)
		q.Body = string(body)
	}
	if err != nil {
		return q, errors.New("body: " + err.Error())
	}
	return q, nil
}

func strictFields(r *bufio.Reader) ([]string, error) {
	var fields []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, errors.New("the head ends early")
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
		m := strictChunk.FindStringSubmatch(line)
		if m == nil {
			return fmt.Errorf("chunk %q (%v)", line, err)
		}
		n, _ := strconv.ParseInt(m[1], 16, 64)
		if n == 0 {
			q.Trailers, err = strictFields(r)
			return err
		}
		data := make([]byte, n+2)
		if _, err := io.ReadFull(r, data); err != nil {
			return err
		}
		if string(data[n:]) != "\r\n" {
			return fmt.Errorf("behind a chunk: %q", data[n:])
		}
		q.Body += string(data[:n])
	}
}
