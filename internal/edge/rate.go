package edge

import (
	"net/http"
	"time"

	"fwdproxy/internal/fault"
)

// ErrBodyRate is the refusal of a body that is slow in the sense of Rate.
var ErrBodyRate = &fault.Error{Kind: fault.RequestError, Status: http.StatusRequestTimeout,
	Details: "the request's body came slower than limits.body_rate allows"}

// Rate is how fast a request's body comes, counted while it is waited for.
type Rate struct {
	bytes  int64
	waited time.Duration
}

// Slow counts n bytes that were waited for, and reports whether fewer than least
// bytes a second came in a whole window.
func (r *Rate) Slow(n int, waited time.Duration, least int64, window time.Duration) bool {
	r.bytes += int64(n)
	r.waited += waited
	if least == 0 || r.waited < window {
		return false
	}
	slow := float64(r.bytes) < float64(least)*r.waited.Seconds()
	*r = Rate{}
	return slow
}
