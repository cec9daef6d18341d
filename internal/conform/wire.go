package conform

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"
)

// head is a list of header fields as they stand on the wire, values in
// Latin-1 turned into Go strings.
type head []line

type line struct{ name, value string }

// add appends a field line.
func (h *head) add(name, value string) { *h = append(*h, line{name, value}) }

// join adds to the field's value as fetch() does: one line a name.
func (h *head) join(name, value string) {
	for i, l := range *h {
		if strings.EqualFold(l.name, name) {
			(*h)[i].value += ", " + value
			return
		}
	}
	h.add(name, value)
}

// setDefault adds the field unless it is there.
func (h *head) setDefault(name, value string) {
	if _, ok := h.get(name); !ok {
		h.add(name, value)
	}
}

// get returns the field's lines joined by ", ", and whether there is one.
func (h head) get(name string) (string, bool) {
	var values []string
	for _, l := range h {
		if strings.EqualFold(l.name, name) {
			values = append(values, l.value)
		}
	}
	return strings.Join(values, ", "), len(values) > 0
}

// value is get without the second result.
func (h head) value(name string) string {
	v, _ := h.get(name)
	return v
}

// number returns the field's value as an integer.
func (h head) number(name string) (int, bool) {
	n, err := strconv.Atoi(h.value(name))
	return n, err == nil
}

// encode writes a start line and the fields, in Latin-1.
func encode(start string, h head) []byte {
	var b strings.Builder
	b.WriteString(start + "\r\n")
	for _, l := range h {
		b.WriteString(l.name + ": " + l.value + "\r\n")
	}
	b.WriteString("\r\n")
	out := make([]byte, 0, b.Len())
	for _, r := range b.String() {
		out = append(out, byte(r))
	}
	return out
}

// latin1 is the Go string for bytes of a field.
func latin1(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

// readHead reads a start line and fields.
func readHead(r *bufio.Reader) (string, head, error) {
	start, err := readLine(r)
	if err != nil {
		return "", nil, err
	}
	var h head
	for {
		l, err := readLine(r)
		if err != nil {
			return "", nil, noEOF(err)
		}
		if l == "" {
			return start, h, nil
		}
		name, value, ok := strings.Cut(l, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return "", nil, fmt.Errorf("%q is no header field", l)
		}
		h.add(name, latin1(strings.Trim(value, " \t")))
	}
}

func readLine(r *bufio.Reader) (string, error) {
	l, err := r.ReadString('\n')
	if err != nil {
		if l != "" {
			err = noEOF(err)
		}
		return "", err
	}
	if !strings.HasSuffix(l, "\r\n") {
		return "", fmt.Errorf("%q does not end in CR LF", l)
	}
	return l[:len(l)-2], nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readBody reads a message body by RFC 9112, Section 6.3, strictly: a transfer
// coding other than chunked is an error. Without a length it ends with the
// connection when untilClose is set, and is empty otherwise.
func readBody(r *bufio.Reader, h head, untilClose bool) (string, error) {
	if coding, ok := h.get("Transfer-Encoding"); ok {
		if !strings.EqualFold(coding, "chunked") {
			return "", fmt.Errorf("unknown transfer coding %q", coding)
		}
		b, err := io.ReadAll(httputil.NewChunkedReader(r))
		if err != nil {
			return "", err
		}
		for {
			l, err := readLine(r)
			if err != nil || l == "" {
				return string(b), noEOF(err)
			}
		}
	}
	if value, ok := h.get("Content-Length"); ok {
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil {
			return "", fmt.Errorf("bad Content-Length %q", value)
		}
		b := make([]byte, n)
		_, err = io.ReadFull(r, b)
		return string(b), noEOF(err)
	}
	if !untilClose {
		return "", nil
	}
	b, err := io.ReadAll(r)
	return string(b), err
}

// imfDate is IMF-fixdate, cut to the second.
func imfDate(t time.Time) string { return t.UTC().Format(http.TimeFormat) }

// rfc850Date is the obsolete form of RFC 9110, Section 5.6.7.
func rfc850Date(t time.Time) string { return t.UTC().Format("Monday, 02-Jan-06 15:04:05") + " GMT" }

// dateAt is the IMF-fixdate some seconds from a time in milliseconds.
func dateAt(milliseconds int, offset int) string {
	return imfDate(time.UnixMilli(int64(milliseconds)).Add(time.Duration(offset) * time.Second))
}
