// Package accesslog turns finished requests into one log line each, and into
// counters.
//
// It owns the formats (JSON, Squid's native, combined), the escaping that
// keeps a line one line, the redaction of secrets in URLs, and the file. It
// never waits for the disk on a request's path, and never logs
// Authorization, Cookie or userinfo.
package accesslog

import (
	"net/netip"
	"time"
)

// Tag is how a request was answered, in Squid's words.
type Tag string

// The result tags.
const (
	TagHit               Tag = "TCP_HIT"                 // from the cache
	TagMiss              Tag = "TCP_MISS"                // from the next hop
	TagRefreshUnmodified Tag = "TCP_REFRESH_UNMODIFIED"  // stale, and the next hop said 304
	TagRefreshModified   Tag = "TCP_REFRESH_MODIFIED"    // stale, and the next hop sent another
	TagRefreshFailOld    Tag = "TCP_REFRESH_FAIL_OLD"    // stale, served since the next hop failed
	TagClientRefreshMiss Tag = "TCP_CLIENT_REFRESH_MISS" // the client asked for a new one
	TagDenied            Tag = "TCP_DENIED"              // refused by the policy
	TagTunnel            Tag = "TCP_TUNNEL"              // CONNECT or an upgrade
	TagNone              Tag = "NONE"                    // never got to a decision, as with a 400
)

// tags is every tag, in the order of the metrics' table.
var tags = [...]Tag{TagNone, TagHit, TagMiss, TagRefreshUnmodified, TagRefreshModified,
	TagRefreshFailOld, TagClientRefreshMiss, TagDenied, TagTunnel}

// Record is one finished request. Strings may hold anything that a client or
// server sent: the formats make them safe.
type Record struct {
	Time      time.Time     // when the request began
	Duration  time.Duration // until its last byte was answered
	RequestID string
	Mode      string // "forward" or "reverse"

	Client netip.AddrPort // zero when not known
	User   string         // "" when not authenticated

	Method string
	URL    string // absolute; host:port for CONNECT
	SNI    string // the server name in a tunnel's ClientHello, as sent
	Proto  string // as in "HTTP/1.1"
	Status int

	Tag           Tag
	Rule          string // the policy rule that decided
	Verdict       string // what it said
	Limit         string // the policy's limit that refused it or cut its tunnel
	Shadow        string // the rule that would have decided, were it not a shadow
	ShadowVerdict string // what it would have said
	Candidate     string // the rule of the candidate policy (serve --shadow), where that would have said otherwise
	CandidateSays string // its verdict then
	WAF           *WAF   // what the site's web application firewall said; nil where it has none
	NextHop       string // "DIRECT/192.0.2.1", "app/127.0.0.1:9000" or "NONE"

	BytesIn  int64 // of body or tunnel, from the client
	BytesOut int64 // of body or tunnel, to the client

	ContentType string // of the answer
	Referer     string
	UserAgent   string
	CacheStatus string // the Cache-Status member (RFC 9211)
	Error       string // the fault's kind (RFC 9209, Section 2.3), or "client_gone"
	ErrorCause  string
}

// WAF is what a site's web application firewall said about a request.
type WAF struct {
	Site    string `json:"site"` // its name, or its first host and path
	Verdict string `json:"verdict"`
	Rules   []int  `json:"rules,omitempty"`   // that matched
	Message string `json:"message,omitempty"` // of the most severe of them
	Score   int    `json:"score"`             // the anomaly score
}

// The verdicts of a web application firewall.
const (
	WAFPass   = "pass"   // no rule matched
	WAFMatch  = "match"  // some did, but their score is below the threshold
	WAFDetect = "detect" // it would have been blocked, but the site only detects
	WAFBlock  = "block"
)
