package auth

import (
	"errors"
	"net/http"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sync/singleflight"

	"fwdproxy/internal/fault"
)

// Identity is who asks. Its zero value is nobody.
type Identity struct {
	User   string
	Groups []string // sorted
}

// Checker tells who asks, under one policy. It is safe for any number of
// goroutines.
type Checker struct {
	config    Config
	directory *Directory
	memory    *memory
	limits    *limits
	slots     chan struct{} // one for each password that is being verified
	flights   singleflight.Group
	// compare is the slow part of Basic. An LDAP server would take its place.
	compare func(user, password string) bool
}

// queueTime is how long a password may wait for its turn.
const queueTime = 10 * time.Second

// New returns a Checker. It goes on counting failures where old, which may be
// nil, was, and remembers what old did where the files are the same.
func New(c Config, d *Directory, old *Checker) *Checker {
	n := &Checker{config: c, directory: d, memory: newMemory(), limits: newLimits(c.Failures), compare: d.fits,
		slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	if old == nil {
		return n
	}
	n.slots = old.slots
	if old.config.Failures == c.Failures {
		n.limits = old.limits
	}
	if old.directory.digest == d.digest && old.config.Remember == c.Remember {
		n.memory = old.memory
	}
	return n
}

// Directory returns what the files hold.
func (c *Checker) Directory() *Directory { return c.directory }

// Asks reports whether there is anything to ask a client for: without passwords
// and tokens, a certificate alone tells who it is.
func (c *Checker) Asks() bool { return c.config.Enabled() }

// Challenges returns the values of Proxy-Authenticate (RFC 9110, Section
// 11.7.1): Basic first, which every client speaks.
func (c *Checker) Challenges() []string { return c.challenges("") }

// challenges adds what RFC 6750, Section 3.1, calls the error of a bearer.
func (c *Checker) challenges(bearerError string) []string {
	// RFC 7617, Section 2.1.
	out := []string{`Basic realm="` + c.config.Realm + `", charset="UTF-8"`}
	if c.config.Tokens != "" {
		bearer := `Bearer realm="` + c.config.Realm + `"`
		if bearerError != "" {
			bearer += `, error="` + bearerError + `"`
		}
		out = append(out, bearer)
	}
	return out
}

// Check returns whom the values of Proxy-Authorization prove the client to be;
// nobody where it sent none, or nobody is asked. The error, a *fault.Error, is 407 for credentials
// that are not right (RFC 9110, Section 11.4), whether or not a rule asks for
// any, 429 with the time to wait for a client or user with too many of those,
// and 503 where too many passwords wait to be verified.
func (c *Checker) Check(fields []string, client netip.Addr, now time.Time) (Identity, error) {
	if len(fields) == 0 || !c.Asks() {
		return Identity{}, nil
	}
	got, ok := parseCredentials(fields)
	if !ok {
		return c.refuse("", client, now, "")
	}
	name, isToken := c.directory.holder(got.secret)
	switch {
	case isToken && (got.bearer || got.user == name):
		return c.directory.Identity(name), nil
	case got.bearer:
		return c.refuse("", client, now, "invalid_token")
	case c.config.Htpasswd == "":
		return c.refuse(got.user, client, now, "")
	}
	return c.password(got, client, now)
}

// password verifies a user's password, which is slow, unless it was just right.
func (c *Checker) password(got credentials, client netip.Addr, now time.Time) (Identity, error) {
	k := c.memory.mark(got.user, got.secret)
	if c.memory.has(k, now) {
		return c.directory.Identity(got.user), nil
	}
	if wait := c.limits.wait(client, got.user, now); wait > 0 {
		return Identity{}, tooMany(wait)
	}
	// Who opens many connections at once sends the same on each.
	_, err, _ := c.flights.Do(network(client).String()+string(k[:]), func() (any, error) {
		return nil, c.verify(got, k, client, now)
	})
	if err != nil {
		return Identity{}, err
	}
	return c.directory.Identity(got.user), nil
}

func (c *Checker) verify(got credentials, k mark, client netip.Addr, now time.Time) error {
	timer := time.NewTimer(queueTime)
	defer timer.Stop()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-timer.C:
		return &fault.Error{Kind: fault.RequestDenied, Status: http.StatusServiceUnavailable, Rule: ruleName, RetryAfter: queueTime,
			Details: "too many passwords wait to be verified; try again later", Err: errors.New("passwords wait for longer than " + queueTime.String())}
	}
	// Others of the same client may have failed meanwhile, and only as many as
	// there are slots can do so beyond what is allowed.
	if wait := c.limits.wait(client, got.user, now); wait > 0 {
		return tooMany(wait)
	}
	if !c.compare(got.user, got.secret) {
		c.limits.failed(client, got.user, now)
		return c.wrong("")
	}
	if c.config.Remember > 0 {
		c.memory.add(k, now.Add(c.config.Remember.D()))
	}
	return nil
}

// refuse answers credentials that nothing slow was needed to refuse.
func (c *Checker) refuse(user string, client netip.Addr, now time.Time, bearerError string) (Identity, error) {
	if wait := c.limits.wait(client, user, now); wait > 0 {
		return Identity{}, tooMany(wait)
	}
	c.limits.failed(client, user, now)
	return Identity{}, c.wrong(bearerError)
}

// ruleName is what refused, for the log.
const ruleName = "forward.auth"

func (c *Checker) wrong(bearerError string) error {
	return &fault.Error{Kind: fault.RequestDenied, Status: http.StatusProxyAuthRequired, Rule: ruleName,
		Details: "the user name, password or token is not right", Challenge: c.challenges(bearerError)}
}

// Required returns the refusal of a request whose client has not said who it
// is, by the rule that asks.
func (c *Checker) Required(rule string) *fault.Error {
	return &fault.Error{Kind: fault.RequestDenied, Status: http.StatusProxyAuthRequired, Rule: rule,
		Details: "the proxy has to know who asks; log in to it", Challenge: c.Challenges()}
}

func tooMany(wait time.Duration) error {
	return &fault.Error{Kind: fault.RequestDenied, Status: http.StatusTooManyRequests, Rule: ruleName, RetryAfter: wait,
		Details: "there were too many wrong credentials; try again later"}
}
