package edge

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/header"
	"fwdproxy/tunnel"
)

func isWebSocket(protocol string) bool { return strings.EqualFold(protocol, "websocket") }

// asksWebSocket reports whether r asks to switch to what passes here: a GET
// without a body (RFC 6455, Section 4.1). Any other protocol, h2c above all,
// and any other request are answered as if Upgrade were not there, as is an
// HTTP/1.0 one (RFC 9110, Section 7.8).
func asksWebSocket(r *http.Request) bool {
	return isWebSocket(header.Upgrade(r.Header)) && r.Method == http.MethodGet && r.ContentLength == 0 && r.ProtoAtLeast(1, 1)
}

// IsUpgrade reports whether out, as Outgoing made it, asks to switch protocols.
func IsUpgrade(out *http.Request) bool { return header.Upgrade(out.Header) != "" }

// Upgrade sends the request past the cache; on 101 it relays bytes until both
// sides are done, and any other answer it writes as it is. No byte of either
// side passes before the 101.
func (x *Exchange) Upgrade(out *http.Request) {
	end, err := x.BeginTunnel()
	if err != nil {
		x.Fail(err)
		return
	}
	defer end()
	res := x.RoundTrip(out)
	if res.StatusCode != http.StatusSwitchingProtocols {
		x.Respond(res)
		return
	}
	raw, ok := res.Body.(interface{ NetConn() (net.Conn, []byte) })
	if !ok || !isWebSocket(res.Header.Get("Upgrade")) {
		res.Body.Close()
		x.Fail(fault.New(fault.UpgradeFailed, "the server switched to a protocol that was not asked for", nil))
		return
	}
	defer res.Body.Close()
	server, early := raw.NetConn()
	header.AppendVia(res.Header, 1, 1, x.door.Name)
	res.Header.Set("Connection", "Upgrade")
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 101 Switching Protocols\r\n")
	_ = res.Header.Write(&head) // to memory
	head.WriteString("\r\n")
	fields := res.Header.Clone()
	delete(fields, "Connection")
	delete(fields, "Upgrade")
	x.relay(tunnel.Side{Conn: server, Early: early}, opening{http.StatusSwitchingProtocols, head.Bytes(), fields}, nil)
}
