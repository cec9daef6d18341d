package edge

import (
	"bytes"
	"context"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"fwdproxy/accesslog"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/header"
)

// Refused is a request that was refused before it was one: what was read of
// it, as it was read.
type Refused struct {
	Client                netip.AddrPort
	Start                 time.Time
	Method, Target, Proto string // "" where it did not come that far
	Err                   *fault.Error
}

type refusalKey struct{}

// WithRefusal returns the context of a request that was read, but is refused by
// what read it: Check returns err.
func WithRefusal(ctx context.Context, err *fault.Error) context.Context {
	return context.WithValue(ctx, refusalKey{}, err)
}

// Refuse logs the request and returns the whole answer to it, after which the
// connection closes.
func (d *Door) Refuse(q Refused) []byte {
	id := requestID()
	page := fault.Render(q.Err, d.Name, nil, id)
	h := page.Header
	h.Set("Connection", "close")
	now := d.Now()
	h.Set("Date", now.UTC().Format(http.TimeFormat))
	header.AppendVia(h, 1, 1, d.Name)
	if q.Method == http.MethodHead {
		page.Body = nil
	}
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 " + strconv.Itoa(page.Status) + " " + http.StatusText(page.Status) + "\r\n")
	_ = h.Write(&b) // to memory
	b.WriteString("\r\n")
	b.Write(page.Body)
	d.Log(&accesslog.Record{
		Time: q.Start, Duration: max(0, now.Sub(q.Start)), RequestID: id, Mode: d.Mode, Client: q.Client,
		Method: q.Method, URL: q.Target, Proto: q.Proto, Status: page.Status, Tag: accesslog.TagNone, NextHop: "NONE",
		BytesOut: int64(len(page.Body)), ContentType: h.Get("Content-Type"),
		Error: string(q.Err.Kind), ErrorCause: q.Err.Details,
	})
	return b.Bytes()
}
