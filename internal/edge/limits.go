package edge

import (
	"time"

	"fwdproxy/internal/problem"
	"fwdproxy/internal/unit"
)

// Limits bounds what one client, or all of them, can make the proxy hold: the
// [limits] section.
type Limits struct {
	// HeaderSize is the largest request head in bytes; a larger one gets 431.
	HeaderSize unit.Size `toml:"header_size"`
	// RequestLine is the longest request line in bytes; a longer one gets 414.
	RequestLine unit.Size `toml:"request_line"`
	// HeaderCount is the largest number of field lines in a request; more get 431.
	HeaderCount int `toml:"header_count"`
	// BodySize is the largest request body in bytes; a larger one gets 413. 0 sets no limit.
	BodySize unit.Size `toml:"body_size"`
	// HeaderTimeout is how long a client may take to send a request head.
	HeaderTimeout unit.Duration `toml:"header_timeout"`
	// BodyTimeout is the longest pause between two pieces of a request body.
	BodyTimeout unit.Duration `toml:"body_timeout"`
	// BodyRate is the fewest bytes a second that a request body may come in, averaged over body_rate_window; a slower one gets 408. 0 sets no limit.
	BodyRate unit.Size `toml:"body_rate"`
	// BodyRateWindow is the time of waiting for a body over which its rate is averaged, the grace at its beginning as well.
	BodyRateWindow unit.Duration `toml:"body_rate_window"`
	// WriteTimeout is the longest time a client may leave a piece of a response unread.
	WriteTimeout unit.Duration `toml:"write_timeout"`
	// IdleTimeout is how long a kept-alive client connection may rest between requests.
	IdleTimeout unit.Duration `toml:"idle_timeout"`
	// HalfCloseTimeout is how long a client that has ended its sending still gets to read its answer; after that it counts as gone.
	HalfCloseTimeout unit.Duration `toml:"half_close_timeout"`
	// RequestsPerConnection is the largest number of requests on one client connection, which closes after the last. 0 sets no limit.
	RequestsPerConnection int `toml:"requests_per_connection"`
	// Streams is the largest number of HTTP/2 streams, requests and tunnels both, open at once on one client connection; further ones are refused.
	Streams int `toml:"streams"`
	// ConnectionsPerClient is the largest number of connections that one client address (of IPv6, its /64) has open at once, tunnels not counted; further ones get 429. 0 sets no limit.
	ConnectionsPerClient int `toml:"connections_per_client"`
	// Connections is the largest number of client connections open at once; further ones wait to be accepted.
	Connections int `toml:"connections"`
	// Tunnels is the largest number of tunnels and WebSockets open at once; further ones get 503.
	Tunnels int `toml:"tunnels"`
	// TunnelsPerClient is the largest number of tunnels and WebSockets that one client address has open at once; further ones get 429.
	TunnelsPerClient int `toml:"tunnels_per_client"`
	// DrainTimeout is how long a shutdown waits for requests and tunnels in flight before it cuts them.
	DrainTimeout unit.Duration `toml:"drain_timeout"`
}

// DefaultLimits returns the limits of an empty [limits] section.
func DefaultLimits() Limits {
	return Limits{
		HeaderSize:            64 << 10,
		RequestLine:           16 << 10,
		HeaderCount:           200,
		BodySize:              0,
		HeaderTimeout:         unit.Duration(10 * time.Second),
		BodyTimeout:           unit.Duration(time.Minute),
		BodyRate:              240,
		BodyRateWindow:        unit.Duration(20 * time.Second),
		WriteTimeout:          unit.Duration(time.Minute),
		IdleTimeout:           unit.Duration(2 * time.Minute),
		HalfCloseTimeout:      unit.Duration(5 * time.Second),
		RequestsPerConnection: 10000,
		Streams:               250,
		ConnectionsPerClient:  4000,
		Connections:           20000,
		Tunnels:               10000,
		TunnelsPerClient:      2000,
		DrainTimeout:          unit.Duration(30 * time.Second),
	}
}

// Validate reports every limit that would switch a protection off or make the
// proxy useless.
func (l Limits) Validate() problem.List {
	var p problem.List
	if l.HeaderSize < 8<<10 || l.HeaderSize > 1<<20 {
		p.Add("limits.header_size", "write a size from 8KiB to 1MiB", "%v is out of range", l.HeaderSize)
	}
	if l.RequestLine < 1<<10 || l.RequestLine > 1<<20 {
		p.Add("limits.request_line", "write a size from 1KiB to 1MiB", "%v is out of range", l.RequestLine)
	}
	if l.HeaderCount < 16 || l.HeaderCount > 10000 {
		p.Add("limits.header_count", "write a number from 16 to 10000", "%d is out of range", l.HeaderCount)
	}
	for _, d := range []struct {
		key   string
		value unit.Duration
	}{
		{"header_timeout", l.HeaderTimeout}, {"body_timeout", l.BodyTimeout}, {"write_timeout", l.WriteTimeout},
		{"body_rate_window", l.BodyRateWindow}, {"half_close_timeout", l.HalfCloseTimeout},
		{"idle_timeout", l.IdleTimeout}, {"drain_timeout", l.DrainTimeout},
	} {
		if d.value <= 0 {
			p.Add("limits."+d.key, "write a duration such as \"30s\"", "a limit of zero would let a client hold a connection for ever")
		}
	}
	for _, n := range []struct {
		key   string
		value int64
	}{
		{"body_rate", int64(l.BodyRate)}, {"requests_per_connection", int64(l.RequestsPerConnection)}, {"connections_per_client", int64(l.ConnectionsPerClient)},
	} {
		if n.value < 0 {
			p.Add("limits."+n.key, "write a number above zero, or 0 for no limit", "%d is out of range", n.value)
		}
	}
	if l.Streams < 1 || l.Streams > 10000 {
		p.Add("limits.streams", "write a number from 1 to 10000", "%d is out of range", l.Streams)
	}
	if l.Connections < 1 {
		p.Add("limits.connections", "write a number above zero", "%d connections would let nobody in", l.Connections)
	}
	if l.Tunnels < 1 {
		p.Add("limits.tunnels", "write a number above zero", "%d tunnels would let nobody through", l.Tunnels)
	}
	if l.TunnelsPerClient < 1 {
		p.Add("limits.tunnels_per_client", "write a number above zero, limits.tunnels to set no limit for each", "%d tunnels would let nobody through", l.TunnelsPerClient)
	}
	return p
}
