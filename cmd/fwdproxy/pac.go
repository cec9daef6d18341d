package main

import (
	"net/http"
	"net/netip"
	"slices"

	"fwdproxy/forward"
	"fwdproxy/internal/target"
)

// pac serves on the admin port what clients ask the forward port for; nil in
// the mode that has none.
func (s *server) pac() http.HandlerFunc {
	if s.mode != modeForward {
		return nil
	}
	return func(w http.ResponseWriter, r *http.Request) {
		asked, ok := frontDoor(s.doors.plain.addrs(), s.doors.secure.addrs(), r.Host)
		if !ok {
			http.Error(w, "the proxy does not listen yet", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", forward.PACType)
		w.Header().Set("Cache-Control", forward.PACAge)
		_, _ = w.Write(s.current.Load().forward.PAC.Script(asked))
	}
}

// frontDoor is the forward proxy as it is reached on the host of a request to
// the admin port: by its first plain port, or its first with TLS where there
// is no other.
func frontDoor(plain, secure []netip.AddrPort, hostport string) (target.Target, bool) {
	scheme, addrs := "http", plain
	if len(plain) == 0 {
		scheme, addrs = "https", secure
	}
	if len(addrs) == 0 {
		return target.Target{}, false
	}
	at := slices.MinFunc(addrs, netip.AddrPort.Compare)
	t, err := target.FromAuthority(hostport, "http")
	if err != nil {
		own := reachable(at).Addr()
		t.Host, t.Addr = own.String(), own
	}
	t.Scheme, t.Port = scheme, at.Port()
	return t, true
}
