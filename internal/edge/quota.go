package edge

import (
	"context"
	"errors"
	"net/http"
	"time"

	"fwdproxy/acl"
	"fwdproxy/internal/fault"
	"fwdproxy/internal/quota"
)

// minRetry is what a client is told to wait where nobody knows how long.
const minRetry = time.Second

// takeQuota counts the exchange against each limit that holds for it, until
// End, or returns the refusal of the one that leaves nothing.
func (x *Exchange) takeQuota(q acl.Request) error {
	limits := x.door.ACL.Limits(q)
	if len(limits) == 0 {
		return nil
	}
	hold, err := x.door.Quotas.Take(limits, quota.Subject{Client: q.Client, User: q.User}, x.start)
	if err != nil {
		return x.overLimit(err)
	}
	x.quota = hold
	if !hold.Metered() {
		return nil
	}
	ctx := x.r.Context()
	pass := func(n int) error { return hold.Pass(ctx, n) }
	x.w.pass = pass
	if x.reqBody != nil {
		x.reqBody.pass = pass
	}
	return nil
}

// overLimit returns the refusal as the client gets it: 429 for what it took
// itself (RFC 6585, Section 4), 503 for what others took too.
func (x *Exchange) overLimit(err error) error {
	var r *quota.Refusal
	if !errors.As(err, &r) {
		return err
	}
	x.rec.Limit = r.Limit
	f := &fault.Error{Kind: fault.RequestDenied, Status: http.StatusTooManyRequests, RetryAfter: max(r.After, minRetry),
		Rule: "limit " + r.Limit, Details: "you have used up what a limit of the policy allows (" + r.What + "); try again later"}
	if r.Per == quota.All {
		f.Status, f.Details = http.StatusServiceUnavailable, "what a limit of the policy allows to all together is used up ("+r.What+"); try again later"
	}
	return f
}

// tunnelPace returns what a tunnel's bytes have to wait for; nil for nothing,
// which leaves them in the kernel.
func (x *Exchange) tunnelPace() func(context.Context, int) error {
	if !x.quota.Metered() {
		return nil
	}
	return func(ctx context.Context, n int) error {
		if err := x.quota.Pass(ctx, n); err != nil {
			return err
		}
		return x.quota.Spent()
	}
}

// noteSpent notes the limit that cut a tunnel, if one did.
func (x *Exchange) noteSpent(err error) {
	var r *quota.Refusal
	if errors.As(err, &r) {
		x.rec.Limit = r.Limit
	}
}
