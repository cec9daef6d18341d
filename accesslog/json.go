package accesslog

import (
	"strconv"
	"time"
)

// json appends the record as one JSON object. The first fields are always
// there; an empty one of the others is left out.
func (l *line) json(r *Record) {
	b := append(l.out, `{"time":"`...)
	b = appendTime(b, r.Time)
	b = append(b, `","client":"`...)
	if a := r.Client.Addr(); a.IsValid() {
		b = a.WithZone("").AppendTo(b)
	} else {
		b = append(b, '-')
	}
	b = appendField(b, `","user":`, orDash(r.User))
	b = appendField(b, `,"method":`, r.Method)
	b = append(b, `,"url":`...)
	b = appendJSONString(b, l.url(r.URL))
	b = appendNumber(b, `,"status":`, int64(r.Status))
	b = appendNumber(b, `,"bytes_out":`, r.BytesOut)
	b = appendNumber(b, `,"bytes_in":`, r.BytesIn)
	b = append(b, `,"duration_ms":`...)
	b = appendMicros(b, r.Duration)
	b = appendField(b, `,"tag":`, string(r.Tag))
	b = appendField(b, `,"rule":`, r.Rule)
	b = appendField(b, `,"verdict":`, r.Verdict)
	b = appendField(b, `,"next_hop":`, r.NextHop)

	b = appendOptional(b, `,"limit":`, r.Limit)
	b = appendOptional(b, `,"shadow_rule":`, r.Shadow)
	b = appendOptional(b, `,"shadow_verdict":`, r.ShadowVerdict)
	b = appendOptional(b, `,"candidate_rule":`, r.Candidate)
	b = appendOptional(b, `,"candidate_verdict":`, r.CandidateSays)
	b = appendWAF(b, r.WAF)
	b = appendOptional(b, `,"request_id":`, r.RequestID)
	b = appendOptional(b, `,"mode":`, r.Mode)
	if port := r.Client.Port(); port != 0 {
		b = appendNumber(b, `,"client_port":`, int64(port))
	}
	b = appendOptional(b, `,"protocol":`, r.Proto)
	b = appendOptional(b, `,"sni":`, r.SNI)
	b = appendOptional(b, `,"content_type":`, r.ContentType)
	b = appendOptional(b, `,"cache_status":`, r.CacheStatus)
	if r.Referer != "" {
		b = append(b, `,"referer":`...)
		b = appendJSONString(b, l.url(r.Referer))
	}
	b = appendOptional(b, `,"user_agent":`, r.UserAgent)
	b = appendOptional(b, `,"error":`, r.Error)
	if r.ErrorCause != "" {
		b = append(b, `,"error_cause":`...)
		b = appendJSONString(b, l.text(r.ErrorCause))
	}
	l.out = append(b, '}', '\n')
}

// appendWAF appends what a firewall found, nothing where that is nothing.
func appendWAF(b []byte, w *WAF) []byte {
	if w == nil || w.Verdict == WAFPass {
		return b
	}
	b = appendField(b, `,"waf":`, w.Verdict)
	b = append(b, `,"waf_rules":[`...)
	for i, id := range w.Rules {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(id), 10)
	}
	b = append(b, ']')
	b = appendOptional(b, `,"waf_message":`, w.Message)
	return appendNumber(b, `,"waf_score":`, int64(w.Score))
}

// appendField appends a key, given with its punctuation, and a string.
func appendField(b []byte, key, value string) []byte {
	return appendJSONString(append(b, key...), value)
}

func appendOptional(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	return appendField(b, key, value)
}

func appendNumber(b []byte, key string, n int64) []byte {
	return strconv.AppendInt(append(b, key...), n, 10)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// appendTime appends t in UTC as RFC 3339 with milliseconds. A general layout
// would take longer than all the rest of a line.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = append(appendPadded(b, int64(year), 4, '0'), '-')
	b = append(appendTwo(b, int(month)), '-')
	b = append(appendTwo(b, day), 'T')
	b = append(appendTwo(b, hour), ':')
	b = append(appendTwo(b, minute), ':')
	b = append(appendTwo(b, second), '.')
	ms := t.Nanosecond() / 1e6
	return append(appendTwo(append(b, byte('0'+ms/100)), ms%100), 'Z')
}

func appendTwo(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }
