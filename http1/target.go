package http1

import (
	"bytes"
	"net/url"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/target"
)

// checkTarget refuses a request-target that net/http would refuse to read. Who
// is meant by it, and whether the form fits, is for the front doors.
func checkTarget(method, target []byte) *fault.Error {
	if target[0] == '/' {
		return checkPath(target)
	}
	if rest, ok := bytes.CutPrefix(target, []byte("http://")); ok && string(method) != "CONNECT" {
		i := 0
		for i < len(rest) && hostOctet(rest[i]) {
			i++
		}
		if i > 0 && (i == len(rest) || rest[i] == '/') {
			return checkPath(rest[i:])
		}
	}
	// Ports, addresses in brackets, other schemes, userinfo: net/url says.
	s := string(target)
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

func hostOctet(c byte) bool {
	return c >= 'a' && c <= 'z' || digit(c) || c == '-' || c == '.' || c >= 'A' && c <= 'Z' || c == '_'
}

// checkHost takes a name, an IPv4 address or a bracketed one, with or without a
// port (RFC 9110, Section 7.2): no list, no userinfo, no path, no escapes, and
// not nothing, since no http URL has an empty host (Section 4.2.1).
func checkHost(v []byte) *fault.Error {
	i := 0
	if len(v) > 0 && v[0] == '[' {
		for i = 1; i < len(v) && addressOctet(v[i]); i++ {
		}
		if i == len(v) || v[i] != ']' || i == 1 {
			return errHost
		}
		i++
	} else {
		for i < len(v) && hostOctet(v[i]) {
			i++
		}
	}
	if i == 0 {
		return errHost
	}
	if i == len(v) {
		return nil
	}
	port := v[i+1:]
	if v[i] != ':' || len(port) > 5 {
		return errHost
	}
	for _, c := range port {
		if !digit(c) {
			return errHost
		}
	}
	return nil
}

func addressOctet(c byte) bool {
	_, ok := target.Unhex(c)
	return ok || c == ':' || c == '.'
}
