package unit

import (
	"net"
	"net/netip"
	"strconv"
)

// CheckListen adds what is wrong with the addresses of the key to p, a
// *problem.List.
func CheckListen(p interface {
	Add(key, hint, format string, args ...any)
}, key string, addrs []string) {
	for i, a := range addrs {
		if err := checkListen(a); err != "" {
			p.Add(key+"["+strconv.Itoa(i)+"]", "write address:port, for example \"127.0.0.1:3128\" or \":3128\" for every address", "%q %s", a, err)
		}
	}
}

func checkListen(a string) string {
	host, port, err := net.SplitHostPort(a)
	if err != nil {
		return "has no port"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return "has a port that is no number from 0 to 65535"
	}
	if host != "" {
		if _, err := netip.ParseAddr(host); err != nil {
			return "does not begin with an IP address"
		}
	}
	return ""
}
