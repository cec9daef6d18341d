package http1

import (
	"bytes"
	"net/url"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/target"
)

// checkTarget refuses a request-target that net/http would refuse to read. Who
// is meant by it, and whether the form fits, is for the front doors.
func checkTarget(method, form []byte) *fault.Error {
	if form[0] == '/' {
		return checkPath(form)
	}
	if rest, ok := bytes.CutPrefix(form, []byte("http://")); ok && string(method) != "CONNECT" {
		i := 0
		for i < len(rest) && target.IsHostOctet(rest[i]) {
			i++
		}
		if i > 0 && (i == len(rest) || rest[i] == '/') {
			return checkPath(rest[i:])
		}
	}
	// Ports, addresses in brackets, other schemes, userinfo: net/url says.
	s := string(form)
	if string(method) == "CONNECT" {
		s = "http://" + s
	}
	if _, err := url.ParseRequestURI(s); err != nil {
		return errTarget
	}
	return nil
}

// checkPath holds the percent-encoding of the path to RFC 3986, Section 2.1.
func checkPath(p []byte) *fault.Error {
	if i := bytes.IndexByte(p, '?'); i >= 0 {
		p = p[:i]
	}
	for {
		i := bytes.IndexByte(p, '%')
		if i < 0 {
			return nil
		}
		if i+2 >= len(p) {
			return errTarget
		}
		_, hi := target.Unhex(p[i+1])
		_, lo := target.Unhex(p[i+2])
		if !hi || !lo {
			return errTarget
		}
		p = p[i+3:]
	}
}
