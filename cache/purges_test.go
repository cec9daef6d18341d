package cache

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"fwdproxy/cache/store"
)

// purgeModel is what purges are to do, as plainly as it can be said: it
// remembers every purge for good, and compares each with each response.
type purgeModel struct {
	seq    int
	purges []modelPurge
}

type modelPurge struct {
	kind PurgeKind
	what string // of a group: origin, a space, the group; of all of an origin's the origin and a space
	soft bool
	seq  int
	at   int64
}

// modelRecord is a stored response.
type modelRecord struct {
	url    string
	tags   []string
	groups []string
	began  int
	mark   mark
}

func (m *purgeModel) matches(p modelPurge, r modelRecord, asked string) bool {
	either := func(match func(url string) bool) bool { return match(r.url) || match(asked) }
	switch p.kind {
	case ByURL:
		return either(func(u string) bool { return u == p.what })
	case ByPrefix:
		return either(func(u string) bool { return strings.HasPrefix(u, p.what) })
	case ByHost:
		return either(func(s string) bool { u, _ := url.Parse(s); return u.Hostname() == p.what })
	case ByTag:
		return slices.Contains(r.tags, p.what) || slices.Contains(r.groups, p.what)
	}
	origin, group, _ := strings.Cut(p.what, " ")
	u, _ := url.Parse(r.url)
	if u.Scheme+"://"+u.Host != origin {
		return false
	}
	return slices.Contains(r.groups, group) || group == "" && len(r.groups) > 0
}

func (m *purgeModel) judge(r modelRecord, asked string) (gone, stale bool, since int64) {
	for _, p := range m.purges {
		switch {
		case p.seq <= r.began || !m.matches(p, r, asked):
		case !p.soft:
			return true, false, 0
		case !stale:
			stale, since = true, p.at
		}
	}
	return gone, stale, since
}

// modelWorld is both, fed the same.
type modelWorld struct {
	rng     *rand.Rand
	p       *purges
	m       purgeModel
	records []modelRecord
	path    string
	small   int // bound of what p remembers, 0 for the usual
}

func (w *modelWorld) pick(list ...string) string { return list[w.rng.IntN(len(list))] }

func (w *modelWorld) url() string {
	u := []string{w.pick("http", "https"), "://", w.pick("a.test", "b.test", "a.test:81", "a.test.org"), "/"}
	for range w.rng.IntN(3) {
		u = append(u, w.pick("x", "y", "xy", "/", "?"))
	}
	return strings.Join(u, "")
}

func (w *modelWorld) words() (out []string) {
	for range w.rng.IntN(3) {
		out = append(out, w.pick("t1", "t2", "t3", "t4"))
	}
	return out
}

// record stores a response whose fetch began now.
func (w *modelWorld) record() {
	r := modelRecord{url: w.url(), tags: w.words(), groups: w.words(), began: w.m.seq}
	var lines []string
	if len(r.tags) > 0 {
		lines = append(lines, w.pick("Surrogate-Key: "+strings.Join(r.tags, " "), "Cache-Tag: "+strings.Join(r.tags, " , ")))
	}
	if len(r.groups) > 0 {
		lines = append(lines, `Cache-Groups: "`+strings.Join(r.groups, `", "`)+`"`)
	}
	var m mark
	m.readTags(fields(lines...), nil)
	u, _ := url.Parse(r.url)
	r.mark = m.fetched(w.p.begin(u))
	w.records = append(w.records, r)
}

func (w *modelWorld) purge(t *testing.T) {
	p := modelPurge{kind: PurgeKind(w.rng.IntN(int(byGroup) + 1)), soft: w.rng.IntN(2) == 0, at: int64(1000 + w.m.seq)}
	e := purgeEntry{by: p.kind, soft: p.soft, at: p.at}
	switch p.kind {
	case ByURL:
		p.what = w.url()
		u, _ := url.Parse(p.what)
		e.hash = keyHash(KeyOf(u).hash())
	case ByPrefix:
		p.what = w.url()
		e.text = p.what
	case ByHost:
		p.what = w.pick("a.test", "b.test", "a.test.org", "test")
		e.text = p.what
	case ByTag:
		p.what = w.pick("t1", "t2", "t3", "t4")
		e.hash = hashTag(p.what)
	case byGroup:
		u, _ := url.Parse(w.url())
		origin, group := u.Scheme+"://"+u.Host, w.pick("t1", "t2", "t3", "")
		p.what, p.soft = origin+" "+group, false
		var hashes []uint64
		if group != "" {
			hashes = []uint64{hashTag(group)}
		}
		w.p.addGroups(origin, hashes, group == "")
	}
	if p.kind != byGroup {
		if err := w.p.add(e); err != nil {
			t.Fatal(err)
		}
	}
	w.m.seq++
	p.seq = w.m.seq
	w.m.purges = append(w.m.purges, p)
}

func (w *modelWorld) open(t *testing.T) {
	if w.p != nil {
		w.p.journal.Close()
	}
	p, damage, err := openPurges(store.NewJournal(w.path))
	if err != nil || damage != nil {
		t.Fatal(err, damage)
	}
	w.p = p
	w.shrink()
}

func (w *modelWorld) shrink() {
	if w.small > 0 {
		w.p.urls.most, w.p.tags.most = w.small, w.small
		w.p.prefixes.Load().most = w.small
	}
}

// check compares every response, asked for by its own URL or another. Where
// more lets it, purges may refuse more than the model, never less.
func (w *modelWorld) check(t *testing.T, more func(r modelRecord) bool) (gone, stale, alive int) {
	t.Helper()
	for _, r := range w.records {
		asked := r.url
		if w.rng.IntN(4) == 0 {
			asked = w.url()
		}
		u, _ := url.Parse(asked)
		own, _ := url.Parse(r.url)
		got := w.p.judge(&r.mark, KeyOf(own).hash(), u)
		wantGone, wantStale, since := w.m.judge(r, asked)
		switch {
		case wantGone:
			gone++
		case wantStale:
			stale++
		default:
			alive++
		}
		if more(r) && (got.gone || got.stale && (!wantGone && (!wantStale || got.since <= since))) {
			continue
		}
		if got.gone != wantGone || got.stale != wantStale || got.since > since {
			t.Fatalf("%+v asked for as %s:\ngot %+v, want gone %v, stale %v since %d\n%+v", r, asked, got, wantGone, wantStale, since, w.m.purges)
		}
	}
	return gone, stale, alive
}

func TestPurgesRefuseWhatANaiveModelRefuses(t *testing.T) {
	for _, small := range []int{0, 3} {
		for _, restarts := range []bool{false, true} {
			t.Run(fmt.Sprintf("bound %d, restarts %v", small, restarts), func(t *testing.T) {
				var gone, stale, alive int
				for seed := range uint64(40) {
					w := &modelWorld{rng: rand.New(rand.NewPCG(seed, 1)), path: filepath.Join(t.TempDir(), "j"), small: small}
					w.open(t)
					reopened := 0
					for range 60 {
						switch n := w.rng.IntN(20); {
						case n < 8:
							w.record()
						case n < 16:
							w.purge(t)
						case n == 16 && restarts:
							w.open(t)
							reopened = len(w.records)
						}
						// Forgetting may refuse anything that is older, a restart what has groups.
						i := 0
						g, s, a := w.check(t, func(r modelRecord) bool {
							i++
							return small > 0 || i <= reopened && len(r.groups) > 0
						})
						gone, stale, alive = gone+g, stale+s, alive+a
					}
					w.p.journal.Close()
				}
				if gone == 0 || stale == 0 || alive == 0 {
					t.Errorf("%d were gone, %d stale and %d alive: the test tests nothing", gone, stale, alive)
				}
			})
		}
	}
}

func TestForgettingAPurgeTakesOnlyWhatIsOlder(t *testing.T) {
	p := newPurges()
	p.urls.most, p.tags.most = 2, 2
	p.prefixes.Store(&prefixes{most: 2})
	u, _ := url.Parse("http://a.test/")
	judge := func(m mark) ruling { return p.judge(&m, KeyOf(u).hash(), u) }
	fetched := func(lines ...string) mark {
		var m mark
		m.readTags(fields(lines...), nil)
		return m.fetched(p.begin(u))
	}
	tag := func(n int) { p.add(purgeEntry{by: ByTag, hash: hashTag(fmt.Sprint(n))}) }
	old, tagged := fetched(), fetched("Cache-Tag: x")
	tag(1)
	between := fetched("Cache-Tag: x")
	tag(2)
	tag(2)
	if r := judge(tagged); r.purged() {
		t.Fatalf("two tags fit: %+v", r)
	}
	tag(3)
	if r := judge(tagged); !r.gone || r.by != byForgottenTag {
		t.Errorf("older than the purge that was forgotten: %+v", r)
	}
	if r := judge(between); r.purged() {
		t.Errorf("younger than the purge that was forgotten: %+v", r)
	}
	if r := judge(old); r.purged() {
		t.Errorf("without tags no purge by tag can have been about it: %+v", r)
	}
	for i := range 3 {
		p.add(purgeEntry{by: ByPrefix, text: fmt.Sprintf("http://b.test/%d", i)})
	}
	if r := judge(old); !r.gone || r.by != byForgotten {
		t.Errorf("older than a prefix that was forgotten: %+v", r)
	}
	fresh := fetched("Cache-Tag: x")
	for range 10 {
		p.add(purgeEntry{by: ByURL, hash: 1})
		tag(9)
	}
	if r := judge(fresh); r.purged() {
		t.Errorf("the same purge again and again takes no more room: %+v", r)
	}
	if len(p.urls.queue) > 4 || p.urls.n != 1 {
		t.Errorf("the queue has %d entries for %d purges", len(p.urls.queue), p.urls.n)
	}
}

func TestGroupsOfOneOriginNeverTouchAnothers(t *testing.T) { // RFC 9875, Section 2.1
	p := newPurges()
	mine, _ := url.Parse("http://victim.test/")
	var m mark
	m.readTags(fields(`Cache-Groups: "g"`), nil)
	m = m.fetched(p.begin(mine))
	judge := func() ruling { return p.judge(&m, KeyOf(mine).hash(), mine) }
	for i := range 10 * maxOriginGroups {
		p.addGroups("http://hostile.test", []uint64{hashTag(fmt.Sprint("x", i)), hashTag("g")}, false)
	}
	p.addGroups("http://hostile.test", nil, true)
	if r := judge(); r.purged() {
		t.Fatalf("one origin's: %+v", r)
	}
	p.addGroups("http://victim.test", []uint64{hashTag("other")}, false)
	for i := range 2 * maxOrigins {
		p.addGroups(fmt.Sprint("http://h", i, ".test"), []uint64{hashTag("g")}, false)
		if len(p.groups.origins) > maxOrigins {
			t.Fatalf("%d origins are remembered", len(p.groups.origins))
		}
		if r := judge(); r.purged() && p.groups.origins["http://victim.test"] != nil {
			t.Fatalf("%d others': %+v", i, r)
		}
	}
	if r := judge(); !r.gone || r.by != byGroup {
		t.Errorf("what its origin invalidated is forgotten, so that it counts as invalid: %+v", r)
	}
	p.addGroups("http://victim.test", []uint64{hashTag("other")}, false)
	if r := judge(); !r.gone {
		t.Error("an origin that was forgotten and comes back begins with nothing invalid")
	}
	odd := mark{anyGroup: true}.fetched(p.begin(mine))
	if r := p.judge(&odd, KeyOf(mine).hash(), mine); r.purged() {
		t.Errorf("in groups that are not known, fresh: %+v", r)
	}
	p.addGroups("http://victim.test", []uint64{hashTag("another")}, false)
	if r := p.judge(&odd, KeyOf(mine).hash(), mine); !r.gone {
		t.Error("a response whose groups are not known survives an invalidation of one of its origin's")
	}
	var plain mark
	plain = plain.fetched(mark{url: m.url})
	if r := p.judge(&plain, KeyOf(mine).hash(), mine); r.purged() {
		t.Errorf("without groups: %+v", r)
	}
}

func TestOfManySoftPurgesNoneMakesAResponseUsableForLonger(t *testing.T) {
	var s stamp
	for seq := range uint64(10) {
		s = s.with(true, seq+1, int64(100*(seq+1)))
	}
	for began := range uint64(10) {
		at, ok := s.since(began)
		if exact := int64(100 * (began + 1)); !ok || at > exact || began > 6 && at != exact {
			t.Errorf("stale since %d, %v; the first purge after it was at %d", at, ok, exact)
		}
	}
	if _, ok := s.since(10); ok {
		t.Error("what is younger than all is stale")
	}
	if s = s.with(false, 11, 0); s.hard != 11 || len(s.soft) > 0 || s.latest() != 11 {
		t.Errorf("after a hard one: %+v", s)
	}
}

func BenchmarkHitAfterPurges(b *testing.B) {
	for name, n := range map[string]int{"none": 0, "1": 1, "4000": 4000} {
		b.Run(name, func(b *testing.B) {
			tr, req := benchTransport(b, always(200, string(make([]byte, 1024)), append([]string{"Cache-Control: max-age=2147483647", "Surrogate-Key: a b c d"}, benchLines...)...))
			roundTrip(b, tr, req)
			for i := range n {
				for _, p := range []purgeEntry{
					{by: ByURL, hash: uint64(i)}, {by: ByTag, hash: uint64(i)}, {by: ByPrefix, text: fmt.Sprintf("http://example.com/%d", i)},
				} {
					if err := tr.cache.purges.add(p); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				roundTrip(b, tr, req)
			}
		})
	}
}

func BenchmarkPurgeByPrefix(b *testing.B) {
	p := newPurges()
	n := 0
	for b.Loop() {
		n++
		if err := p.add(purgeEntry{by: ByPrefix, text: fmt.Sprintf("http://example.com/%d", n)}); err != nil {
			b.Fatal(err)
		}
	}
}
