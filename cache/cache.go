package cache

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"fwdproxy/cache/store"
)

// Cache is what outlives a reload of the policy: the stored responses and the
// fetches under way.
type Cache struct {
	store   store.Store
	changes generations
	tiers   *store.Tiered // the store, if it has a disk; else nil
	purges  *purges
	filling atomic.Int64 // bytes held by fills, over all flights
	books   [64]book
	uses    uses
	varies  atomic.Bool // a No-Vary-Search may be remembered in the store
}

// book holds the fetches under way for a part of the keys.
type book struct {
	mu      sync.Mutex
	flights map[store.Key][]*flight
}

// New returns a Cache that keeps responses in s, which is empty.
func New(s store.Store) *Cache { return newCache(s, newPurges()) }

// Open returns a Cache that keeps responses in s, which outlives the process,
// and what was purged in the journal j; for a store that does not j is nil. When
// j is damaged, the damage says how, and what s holds counts as purged.
func Open(s store.Store, j *store.Journal) (c *Cache, damage, err error) {
	p, damage, err := openPurges(j)
	if err != nil {
		return nil, nil, err
	}
	return newCache(s, p), damage, nil
}

func newCache(s store.Store, p *purges) *Cache {
	c := &Cache{purges: p}
	c.store = watched{s, &c.changes}
	c.tiers, _ = s.(*store.Tiered)
	c.varies.Store(p.journal != nil) // the store may have some of an earlier process
	for i := range c.books {
		c.books[i].flights = make(map[store.Key][]*flight)
	}
	return c
}

func (c *Cache) book(k store.Key) *book { return &c.books[int(k[0])%len(c.books)] }

// Transport is the cache under one policy, in front of one next hop.
type Transport struct {
	cache *Cache
	cfg   Config
	name  string
	next  http.RoundTripper
	plain *view   // of what no rule holds for
	rules []*view // of each rule, the first that holds counts
}

// Transport returns the cache as cfg, which is valid, says, in front of next.
// The name is the pseudonym in Cache-Status (RFC 9211).
func (c *Cache) Transport(cfg Config, name string, next http.RoundTripper) *Transport {
	targeted := cfg.targeted()
	t := &Transport{cache: c, cfg: cfg, name: name, next: next, plain: newView(targeted, nil)}
	rules, _ := cfg.rules()
	for _, r := range rules {
		t.rules = append(t.rules, newView(targeted, r))
	}
	return t
}

// Result says in Squid's words what became of a request.
type Result string

// The results. The empty Result means that the cache had no say.
const (
	Hit              Result = "TCP_HIT"                 // answered from the store without asking anyone
	Miss             Result = "TCP_MISS"                // nothing stored could be used
	RefreshUnchanged Result = "TCP_REFRESH_UNMODIFIED"  // what was stored was validated, and served
	RefreshModified  Result = "TCP_REFRESH_MODIFIED"    // what was stored was out of date
	RefreshFailOld   Result = "TCP_REFRESH_FAIL_OLD"    // validation failed, what was stored was served stale
	ClientRefresh    Result = "TCP_CLIENT_REFRESH_MISS" // the request's no-cache made it a fetch
)

// Outcome is what RoundTrip says about one request besides the response.
type Outcome struct {
	Result Result
	Status string // our Cache-Status member (RFC 9211), also when RoundTrip returns an error
}

type outcomeKey struct{}

// WithOutcome returns a context in which RoundTrip fills o before it returns.
func WithOutcome(ctx context.Context, o *Outcome) context.Context {
	return context.WithValue(ctx, outcomeKey{}, o)
}

func report(ctx context.Context, r Result, status string) {
	if o, _ := ctx.Value(outcomeKey{}).(*Outcome); o != nil {
		o.Result, o.Status = r, status
	}
}

// seconds is a number of seconds as RFC 9111 counts them, clamped to maxAge.
type seconds int64

// maxAge is the greatest age or lifetime (RFC 9111, Section 1.2.2): 2^31.
const maxAge seconds = 1 << 31

func (s seconds) duration() time.Duration {
	return time.Duration(min(max(s, -maxAge), maxAge)) * time.Second
}
