package cache

import (
	"encoding/binary"
	"errors"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"fwdproxy/internal/header"
)

// record is a stored response without its body: what decide reads, and the
// header section that is sent again.
type record struct {
	status              int
	header              http.Header // without what concerned one hop, without Age and Content-Length
	requested, received time.Time
	initialAge          time.Duration // when received
	lifetime            time.Duration
	source              Source
	noCache             bool    // never without validation
	noStale             bool    // never stale: must-revalidate, proxy-revalidate, s-maxage
	staleIfError        seconds // unset, or 0 and more
	staleRevalidate     seconds
	addr                netip.AddrPort // that answered
	saw                 saw
	bent                bend   // what a rule made of it
	print               uint64 // of the view that lifetime, flags and windows were read with
	mark                mark
	staleSince          *time.Time // from then on it counts as stale, whatever lifetime says; not stored
}

// newRecord returns the record of a response, seen with v, and its directives.
// The header is copied.
func newRecord(v *view, reqHeader http.Header, status int, h http.Header, requested, received time.Time, addr netip.AddrPort) (*record, responseDirectives) {
	r := &record{
		status: status, requested: requested, received: received, addr: addr,
		initialAge: InitialAge(h, requested, received),
		saw:        sees(reqHeader, h),
	}
	d := r.read(v, h)
	r.header = storedHeader(h, d.withheld)
	if v.rule.ignores(bendSetCookie) {
		delete(r.header, "Set-Cookie")
	}
	r.mark.readTags(h, d.withheld)
	return r, d
}

// read sets what the directives in h, seen with v, say about the record.
func (r *record) read(v *view, h http.Header) responseDirectives {
	d := readResponse(h, v.targeted)
	r.print = v.print
	r.bent = v.rule.adjust(&d)
	if r.saw&sawAuthorization != 0 && v.rule.ignores(bendAuthorization) && !d.permitsAuthorized() {
		r.bent |= bendAuthorization
	}
	r.noCache = d.noCache
	r.noStale = d.mustRevalidate || d.proxyRevalidate || d.sMaxAge != unset
	r.staleIfError, r.staleRevalidate = d.staleIfError, d.staleRevalidate
	guess := mayGuess(v.rule.forgive(r.saw), d)
	r.lifetime, r.source = Lifetime(r.status, h, d, r.received, guess)
	v.rule.lifetime(r, d, guess)
	return d
}

// under makes the record what it is when seen with v, since the policy may
// have changed since it was stored. It is false when v would not store it.
func (r *record) under(v *view) bool {
	if r.print == v.print {
		return true
	}
	d := r.read(v, r.header)
	return storable(v, http.MethodGet, plainRequest, r, r.header, d) == ""
}

// storedHeader returns what of h may be stored (RFC 9111, Section 3.1): no
// field of one hop or of a proxy, none that no-cache="..." or private="..."
// withholds. Age and Content-Length are made anew from the record.
func storedHeader(h http.Header, withheld []string) http.Header {
	out := make(http.Header, len(h))
	maps.Copy(out, h)
	header.RemoveHopByHop(out)
	for name := range out {
		if strings.HasPrefix(name, "Proxy-") {
			delete(out, name)
		}
	}
	for _, name := range withheld {
		delete(out, http.CanonicalHeaderKey(name))
	}
	delete(out, "Age")
	delete(out, "Content-Length")
	return out
}

func (r *record) age(now time.Time) time.Duration { return CurrentAge(r.initialAge, r.received, now) }

// ttl is 0 or negative for a stale response. One that a purge made stale has
// been so since then; a clock that steps back does not make it fresh again.
func (r *record) ttl(now time.Time) time.Duration {
	age := r.age(now)
	if r.staleSince == nil {
		return r.lifetime - age
	}
	return min(r.lifetime, r.age(*r.staleSince), age) - age
}

func (r *record) hasValidator() bool {
	return first(r.header, "Etag") != "" || first(r.header, "Last-Modified") != ""
}

// recordVersion begins every encoded record; a change of the format changes it.
const recordVersion = 2

const (
	flagNoCache = 1 << iota
	flagNoStale
)

var errRecord = errors.New("cache: a stored record is malformed")

// encode returns the record in its stored form: a fixed part, the lengths of
// all names and lines, then their bytes in one piece.
func (r *record) encode() []byte {
	b := make([]byte, 0, 512)
	b = append(b, recordVersion, byte(r.source), byte(r.saw))
	b = binary.LittleEndian.AppendUint16(b, uint16(r.bent))
	b = binary.LittleEndian.AppendUint64(b, r.print)
	var flags byte
	if r.noCache {
		flags |= flagNoCache
	}
	if r.noStale {
		flags |= flagNoStale
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(r.status))
	for _, n := range []int64{
		r.requested.UnixMilli(), r.received.UnixMilli(), r.initialAge.Milliseconds(), r.lifetime.Milliseconds(),
		int64(r.staleIfError), int64(r.staleRevalidate),
	} {
		b = binary.AppendVarint(b, n)
	}
	addr, _ := r.addr.MarshalBinary() // it never fails
	b = binary.AppendUvarint(b, uint64(len(addr)))
	b = append(b, addr...)
	b = r.mark.append(b)
	return appendHeader(b, r.header)
}

func appendHeader(b []byte, h http.Header) []byte {
	names := slices.Sorted(maps.Keys(h))
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, name := range names {
		b = binary.AppendUvarint(b, uint64(len(name)))
		b = binary.AppendUvarint(b, uint64(len(h[name])))
		for _, line := range h[name] {
			b = binary.AppendUvarint(b, uint64(len(line)))
		}
	}
	for _, name := range names {
		b = append(b, name...)
		for _, line := range h[name] {
			b = append(b, line...)
		}
	}
	return b
}

// decodeRecord reads what encode wrote. A header section that could not be
// sent as it is, with a line break in a value for one, is an error.
func decodeRecord(b []byte) (*record, error) {
	d := decoder{b: b}
	if d.byte() != recordVersion {
		return nil, errRecord
	}
	r := &record{source: Source(d.byte()), saw: saw(d.byte()), bent: bend(d.fixed(2)), print: d.fixed(8)}
	flags := d.byte()
	r.noCache, r.noStale, r.status = flags&flagNoCache != 0, flags&flagNoStale != 0, d.int(999)
	r.requested, r.received = time.UnixMilli(d.varint()), time.UnixMilli(d.varint())
	most := maxAge.duration().Milliseconds()
	r.initialAge = time.Duration(d.between(0, most)) * time.Millisecond
	r.lifetime = time.Duration(d.between(0, most)) * time.Millisecond
	r.staleIfError = seconds(d.between(int64(unset), int64(maxAge)))
	r.staleRevalidate = seconds(d.between(int64(unset), int64(maxAge)))
	if err := r.addr.UnmarshalBinary(d.bytes(d.int(64))); err != nil {
		return nil, errRecord
	}
	r.mark = d.mark()
	r.header = d.header()
	if d.bad || len(d.b) > 0 || r.source >= sourceCount || flags&^(flagNoCache|flagNoStale) != 0 || r.status < 200 {
		return nil, errRecord
	}
	return r, nil
}

// decoder reads one record; bad stays set after the first failure.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() { d.b, d.bad = nil, true }

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) bytes(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

// fixed reads a little-endian number of n bytes.
func (d *decoder) fixed(n int) uint64 {
	var room [8]byte
	copy(room[:], d.bytes(n))
	return binary.LittleEndian.Uint64(room[:])
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) between(least, most int64) int64 {
	v := d.varint()
	if v < least || v > most {
		d.fail()
		return 0
	}
	return v
}

// int reads a number up to most.
func (d *decoder) int(most int) int {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > uint64(most) {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return int(v)
}

// header reads a header section. The lengths are read twice, first to find
// where the text begins, so that all strings share one.
func (d *decoder) header() http.Header {
	names := d.int(len(d.b))
	lengths, lines := *d, 0
	for range names {
		d.int(len(d.b))
		n := d.int(len(d.b))
		lines += n
		for range n {
			d.int(len(d.b))
		}
	}
	if d.bad {
		return nil
	}
	text := string(d.b)
	if strings.ContainsAny(text, "\r\n\x00") {
		d.fail()
		return nil
	}
	d.b = nil
	// A response adds Age, Content-Length and Cache-Status.
	h, all := make(http.Header, names+3), make([]string, 0, lines)
	cut := func(n int) (s string) {
		if n > len(text) {
			d.fail()
			return ""
		}
		s, text = text[:n], text[n:]
		return s
	}
	for range names {
		size, n := lengths.int(len(lengths.b)), lengths.int(len(lengths.b))
		name, from := cut(size), len(all)
		for range n {
			all = append(all, cut(lengths.int(len(lengths.b))))
		}
		if !header.IsToken(name) {
			d.fail()
			return nil
		}
		h[name] = all[from:len(all):len(all)]
	}
	if text != "" {
		d.fail()
	}
	return h
}
