package reverse

import (
	"context"
	"time"

	"fwdproxy/internal/fault"
)

// maxDelay bounds a delay that is injected.
const maxDelay = time.Minute

// injected delays or fails a share of the site's requests.
func (s *Site) injected(ctx context.Context, roll func() float64) error {
	f := s.Fault
	if f == nil || roll()*100 >= f.Percent {
		return nil
	}
	if f.Delay > 0 {
		t := time.NewTimer(f.Delay.D())
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if f.Status == 0 {
		return nil
	}
	return &fault.Error{Kind: fault.InternalResponse, Status: f.Status, Details: "the site's policy makes a share of its requests fail, for testing"}
}
