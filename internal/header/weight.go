package header

import "strings"

// Weight is one member of an Accept-Encoding or Accept-Language.
type Weight struct {
	Name string // in lower case
	Q    int    // in thousandths
}

// ParseWeight reads a name with an optional quality (RFC 9110, Section 12.4.2).
func ParseWeight(s string) (Weight, bool) {
	name, param, has := strings.Cut(s, ";")
	w := Weight{strings.ToLower(Trim(name)), 1000}
	if !IsToken(w.Name) {
		return w, false
	}
	if !has {
		return w, true
	}
	key, value, _ := strings.Cut(Trim(param), "=")
	if !strings.EqualFold(key, "q") || len(value) == 0 || len(value) > len("0.000") || len(value) > 1 && value[1] != '.' {
		return w, false
	}
	digits := value[:1] + strings.TrimPrefix(value[1:], ".")
	digits += strings.Repeat("0", 4-len(digits))
	w.Q = 0
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return w, false
		}
		w.Q = w.Q*10 + int(c-'0')
	}
	return w, w.Q <= 1000
}
