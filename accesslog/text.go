package accesslog

import (
	"net/netip"
	"strconv"
	"strings"
)

// squid appends the record in the columns of Squid's native access.log:
//
//	time elapsed client tag/status bytes method URL user hierarchy/peer type
//
// As there, the time is that of the end. The bytes are those of the body.
func (l *line) squid(r *Record) {
	end := r.Time.Add(r.Duration)
	b := appendPadded(l.out, end.Unix(), 9, ' ')
	b = append(b, '.')
	b = appendPadded(b, int64(end.Nanosecond()/1e6), 3, '0')
	b = append(b, ' ')
	b = appendPadded(b, max(0, r.Duration.Milliseconds()), 6, ' ')
	b = append(b, ' ')
	b = appendClient(b, r.Client.Addr())
	b = append(b, ' ')
	b = appendEscaped(b, string(r.Tag), inWord)
	b = append(b, '/')
	b = appendPadded(b, int64(r.Status), 3, '0')
	b = append(b, ' ')
	b = strconv.AppendInt(b, r.BytesOut, 10)
	b = append(b, ' ')
	b = l.target(b, r)
	b = append(b, ' ')
	b = appendEscaped(b, r.User, inWord)
	b = append(b, ' ')
	b = appendHierarchy(b, r.NextHop, true)
	b = append(b, ' ')
	media, _, _ := strings.Cut(r.ContentType, ";")
	b = appendEscaped(b, strings.TrimSpace(media), inWord)
	l.out = append(b, '\n')
}

// combined appends the record as Squid's "combined" does: Apache's combined
// format with the tag and the hierarchy at its end. As there, the time is that
// of the end; it is in UTC.
func (l *line) combined(r *Record) {
	b := appendClient(l.out, r.Client.Addr())
	b = append(b, " - "...)
	b = appendEscaped(b, r.User, inWord)
	b = append(b, " ["...)
	b = r.Time.Add(r.Duration).UTC().AppendFormat(b, "02/Jan/2006:15:04:05 -0700")
	b = append(b, `] "`...)
	b = l.target(b, r)
	b = append(b, ' ')
	if r.Proto == "" {
		b = append(b, "HTTP/0.0"...)
	} else {
		b = appendEscaped(b, r.Proto, inURL)
	}
	b = append(b, `" `...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, r.BytesOut, 10)
	b = append(b, ` "`...)
	b = appendEscaped(b, l.url(r.Referer), inQuotedURL)
	b = append(b, `" "`...)
	b = appendEscaped(b, r.UserAgent, inQuotes)
	b = append(b, `" `...)
	b = appendEscaped(b, string(r.Tag), inWord)
	b = append(b, ':')
	b = appendHierarchy(b, r.NextHop, false)
	l.out = append(b, '\n')
}

// target appends method and URL, with Squid's words for a request that had
// none.
func (l *line) target(b []byte, r *Record) []byte {
	if r.Method == "" {
		b = append(b, "NONE"...)
	} else {
		b = appendEscaped(b, r.Method, inURL)
	}
	b = append(b, ' ')
	if r.URL == "" {
		return append(b, "error:invalid-request"...)
	}
	return appendEscaped(b, l.url(r.URL), inURL)
}

func appendClient(b []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return append(b, '-')
	}
	return a.WithZone("").AppendTo(b)
}

// appendHierarchy appends a next hop as Squid's hierarchy code, with the
// peer's address where it is wanted. A peer of a pool is Squid's first parent
// that is up.
func appendHierarchy(b []byte, hop string, withPeer bool) []byte {
	via, peer, found := strings.Cut(hop, "/")
	code := "HIER_NONE"
	switch {
	case !found:
		peer = ""
	case via == "DIRECT":
		code = "HIER_DIRECT"
	default:
		code = "FIRSTUP_PARENT"
	}
	b = append(b, code...)
	if !withPeer {
		return b
	}
	return appendEscaped(append(b, '/'), withoutPort(peer), inWord)
}

// withoutPort returns the host of host:port, or s where it is none. It is
// lenient, since what is no host is escaped all the same.
func withoutPort(s string) string {
	if rest, ok := strings.CutPrefix(s, "["); ok {
		host, _, _ := strings.Cut(rest, "]")
		return host
	}
	if host, _, ok := strings.Cut(s, ":"); ok && strings.Count(s, ":") == 1 {
		return host
	}
	return s
}
