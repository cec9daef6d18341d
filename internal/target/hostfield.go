package target

// IsHostField reports whether v is what a Host field, or :authority, may be: a
// name, an IPv4 address or a bracketed one, with or without a port (RFC 9110,
// Section 7.2): no list, no userinfo, no path, no escapes, and not nothing,
// since no http URL has an empty host (Section 4.2.1).
func IsHostField[T string | []byte](v T) bool {
	i := 0
	if len(v) > 0 && v[0] == '[' {
		for i = 1; i < len(v) && isAddressOctet(v[i]); i++ {
		}
		if i == len(v) || v[i] != ']' || i == 1 {
			return false
		}
		i++
	} else {
		for i < len(v) && IsHostOctet(v[i]) {
			i++
		}
	}
	if i == 0 {
		return false
	}
	if i == len(v) {
		return true
	}
	port := v[i+1:]
	if v[i] != ':' || len(port) > 5 {
		return false
	}
	for i := range len(port) {
		if port[i] < '0' || port[i] > '9' {
			return false
		}
	}
	return true
}

// IsHostOctet reports whether c may stand in a name or an IPv4 address.
func IsHostOctet(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c >= 'A' && c <= 'Z' || c == '_'
}

func isAddressOctet(c byte) bool {
	_, ok := Unhex(c)
	return ok || c == ':' || c == '.'
}
