package target

import (
	"fmt"
	"strings"
)

// Hosts is a set of hosts as a policy writes it: "a.b" is that host alone,
// ".a.b" it and all below it. Its zero value contains none.
type Hosts struct {
	set map[string]bool // what holds for all below a name stands with its leading dot as well
}

// Add takes an entry in any spelling; the error says why it is none.
func (h *Hosts) Add(entry string) error {
	name, below := strings.CutPrefix(entry, ".")
	name, addr, err := ParseHost(name)
	if err != nil {
		return err
	}
	if below && addr.IsValid() {
		return fmt.Errorf("nothing lies below the address %s", addr)
	}
	if h.set == nil {
		h.set = map[string]bool{}
	}
	h.set[name] = true
	if below {
		h.set["."+name] = true
	}
	return nil
}

// Contain reports whether host, in canonical form, is in the set.
func (h Hosts) Contain(host string) bool {
	if h.set[host] {
		return true
	}
	for i := range len(host) {
		if host[i] == '.' && h.set[host[i:]] {
			return true
		}
	}
	return false
}
