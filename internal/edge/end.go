package edge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"fwdproxy/accesslog"
	"fwdproxy/acl"
	"fwdproxy/internal/fault"
)

// End logs the exchange; where the answer broke off it breaks the client's
// connection, since only that tells the client (RFC 9112, Section 8). It must
// be deferred by itself: a panic on the way here is recovered and answered
// like any other failure.
func (x *Exchange) End() {
	if p := recover(); p != nil {
		x.panicked(p)
	}
	x.quota.Release()
	cut := x.ending()
	if x.reqBody != nil {
		drain := drainTime
		if cut {
			drain = 0
		}
		x.reqBody.finish(drain)
		x.rec.BytesIn += x.reqBody.read.Load()
	}
	now := x.door.Now()
	x.rec.Duration = now.Sub(x.start)
	if x.rec.Status == 0 {
		x.rec.Status = x.w.status
	}
	x.rec.BytesOut += x.w.bytes
	x.rec.ContentType = x.w.Header().Get("Content-Type")
	if _, name := x.hop.Answered(); name != "" {
		x.rec.NextHop = name
	} else {
		x.rec.NextHop = "NONE"
	}
	if v := x.verdict.Load(); v != nil {
		x.noteVerdict(*v)
		x.compare(*v)
	}
	x.door.Log(&x.rec)
	if cut {
		if !x.r.ProtoAtLeast(1, 1) {
			x.w.reset()
		}
		panic(http.ErrAbortHandler)
	}
}

// noteVerdict logs and counts the latest verdict. One that still waits for an
// address, and refused nothing, decided nothing.
func (x *Exchange) noteVerdict(v acl.Verdict) {
	if x.rec.Verdict == "" {
		x.rec.Rule, x.rec.Verdict = v.Rule, v.Action.String()
	}
	if v.Shadow.Rule != "" {
		x.rec.Shadow, x.rec.ShadowVerdict = v.Shadow.Rule, v.Shadow.Action.String()
	}
	if x.w.status == http.StatusProxyAuthRequired && v.Challenge {
		return // a rule that only asked decided nothing
	}
	if !v.Pending || x.rec.Tag == accesslog.TagDenied {
		x.door.ACL.Count(v, x.start)
	}
}

// ending notes how the answer ended, and reports whether it broke off.
func (x *Exchange) ending() (cut bool) {
	switch {
	case x.panic:
		return true
	case x.resBody != nil && x.resBody.err != nil:
		x.rec.Error, x.rec.ErrorCause = string(fault.ResponseIncomplete), x.resBody.err.Error()
		if errors.Is(x.resBody.err, context.Canceled) {
			x.rec.Error = clientGone
		}
		return true
	case x.w.err != nil && x.rec.Error == "":
		x.rec.Error, x.rec.ErrorCause = clientGone, x.w.err.Error()
	}
	return false
}

// clientGone is the log's error for an answer that the client did not take.
const clientGone = "client_gone"

// panicked answers a request whose handling panicked, if it still can.
func (x *Exchange) panicked(p any) {
	x.panic = true
	err := fault.New(fault.InternalError, "the proxy could not handle the request", fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
	if x.w.status == 0 && x.rec.Status == 0 {
		x.w.Header().Set("Connection", "close")
		x.Fail(err)
		x.w.Flush()
		return
	}
	x.rec.Error, x.rec.ErrorCause = string(err.Kind), err.Err.Error()
}
