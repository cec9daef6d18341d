package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"fwdproxy/cache/store"
	"fwdproxy/internal/target"
)

// variance is what a No-Vary-Search says about the query of a URI: which
// parameters make no difference to the response.
type variance struct {
	ignoreOrder bool     // of parameters with different names
	all         bool     // all but the names make no difference; else the names do not
	names       []string // decoded, sorted, each once
}

const (
	maxVariances    = 4       // that are remembered of one path, the latest
	maxVarianceSize = 2 << 10 // of one, encoded, in bytes
)

// normal returns the query as far as it makes a difference: two URIs with one
// path are equivalent when their normal queries are the same (Section 5).
func (v variance) normal(query string) []byte {
	type pair struct{ name, value string }
	var pairs []pair
	for p := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(p, "=")
		name = formDecode(name)
		if p == "" || slices.Contains(v.names, name) != v.all && (!v.all || utf8.ValidString(name)) {
			continue
		}
		pairs = append(pairs, pair{name, formDecode(value)})
	}
	if v.ignoreOrder {
		slices.SortStableFunc(pairs, func(a, b pair) int { return strings.Compare(a.name, b.name) })
	}
	var b []byte
	for _, p := range pairs {
		b = appendText(appendText(b, p.name), p.value)
	}
	return b
}

// formDecode decodes a part of a form-encoded query. What is no escape stays,
// as does what is no UTF-8, all of which the draft takes for the same; a name
// that is none is never passed over.
func formDecode(s string) string { return target.Decode(strings.ReplaceAll(s, "+", " ")) }

func (v variance) encode() []byte {
	var flags byte
	if v.ignoreOrder {
		flags |= 1
	}
	if v.all {
		flags |= 2
	}
	b := binary.AppendUvarint([]byte{flags}, uint64(len(v.names)))
	for _, name := range v.names {
		b = appendText(b, name)
	}
	return b
}

// decodeVariances reads what encode wrote, several of them.
func decodeVariances(b []byte) (out []variance) {
	d := decoder{b: b}
	for len(d.b) > 0 && len(out) < maxVariances {
		flags := d.byte()
		v := variance{ignoreOrder: flags&1 != 0, all: flags&2 != 0}
		for range d.int(maxVaryNames) {
			v.names = append(v.names, string(d.bytes(d.int(len(d.b)))))
		}
		if d.bad || flags > 3 {
			return nil
		}
		out = append(out, v)
	}
	return out
}

// path returns the key under which the variances of all URIs with k's path
// stand; no URI has it.
func (k Key) path() store.Key {
	u := *k.u
	u.RawQuery, u.ForceQuery = "", false
	return sha256.Sum256(append([]byte("No-Vary-Search\x00"), Key{&u, k.rule}.append(nil)...))
}

// alias returns the key that k has among equivalent URIs; no URI has it.
func (k Key) alias(path store.Key, v variance) store.Key {
	b := append(path[:], v.encode()...)
	return sha256.Sum256(append(b, v.normal(k.rule.query(k.u.RawQuery))...))
}

// remember notes that the response, which is stored under the key of the
// flight, answers for equivalent URIs as well.
func (c *Cache) remember(f *flight, r *record) {
	v, ok := parseVariance(r.header["No-Vary-Search"])
	code := v.encode()
	if !ok || len(code) > maxVarianceSize {
		return
	}
	c.varies.Store(true)
	k := Key{f.req.URL, f.view.rule}
	path := k.path()
	b := c.book(path)
	b.mu.Lock()
	defer b.mu.Unlock()
	o, _ := c.store.Get(path)
	head := code
	for i, other := range decodeVariances(o.Head) {
		if text := other.encode(); i < maxVariances-1 && !slices.Equal(text, code) {
			head = append(head, text...)
		}
	}
	if !slices.Equal(head, o.Head) && c.store.Put(path, head, nil) != nil {
		return
	}
	_ = c.store.Put(k.alias(path, v), f.key[:], nil) // without the note it is fetched again
}

// equivalents returns the keys of stored responses that may answer for the
// URI with the key k, each with the variance that has to say so.
func (c *Cache) equivalents(k Key) (keys []store.Key, by []variance) {
	if !c.varies.Load() {
		return nil, nil // as for almost every proxy, without looking each time
	}
	path := k.path()
	o, ok := c.store.Get(path)
	if !ok {
		return nil, nil
	}
	for _, v := range decodeVariances(o.Head) {
		if a, ok := c.store.Get(k.alias(path, v)); ok && len(a.Head) == len(store.Key{}) {
			keys, by = append(keys, store.Key(a.Head)), append(by, v)
		}
	}
	return keys, by
}

// equivalent finds a response to an equivalent URI that may be served as it
// is. The response itself has to say still that the URIs are equivalent.
func (t *Transport) equivalent(q *query, now time.Time) *entry {
	keys, by := t.cache.equivalents(Key{q.req.URL, q.view.rule})
	for i, key := range keys {
		fd := t.cache.lookup(key, q.req.URL, q.hop.Apart, q.req.Header, now)
		// A purge of the URL that is asked for counts for what answers it.
		if fd.entry == nil || fd.ruling.purged() || t.cache.purges.judge(&fd.entry.rec.mark, q.key, q.req.URL).purged() || !fd.entry.rec.under(q.view) {
			continue
		}
		v, ok := parseVariance(fd.entry.rec.header["No-Vary-Search"])
		dec := decide(q.dir, fd.entry.rec, true, now)
		if ok && slices.Equal(v.encode(), by[i].encode()) && dec.Action == Serve && !dec.Refresh && q.hop.Permit(fd.entry.rec.addr) == nil {
			return fd.entry
		}
	}
	return nil
}
