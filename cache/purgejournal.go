package cache

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"fwdproxy/cache/store"
)

// purgeEntry is one purge as the journal has it.
type purgeEntry struct {
	by   PurgeKind
	soft bool
	seq  uint64
	at   int64  // Unix milliseconds, for a soft one
	hash uint64 // by URL or tag
	text string // by prefix or host
}

const entryVersion = 1

func (e purgeEntry) encode() []byte {
	b := []byte{entryVersion, byte(e.by), 0}
	if e.soft {
		b[2] = 1
	}
	b = binary.LittleEndian.AppendUint64(b, e.seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.at))
	b = binary.LittleEndian.AppendUint64(b, e.hash)
	return append(b, e.text...)
}

func decodePurgeEntry(b []byte) (purgeEntry, bool) {
	const fixed = 3 + 8 + 8 + 8
	if len(b) < fixed || b[0] != entryVersion || PurgeKind(b[1]) >= purgeKinds || b[2] > 1 {
		return purgeEntry{}, false
	}
	return purgeEntry{
		by: PurgeKind(b[1]), soft: b[2] == 1,
		seq:  binary.LittleEndian.Uint64(b[3:]),
		at:   int64(binary.LittleEndian.Uint64(b[11:])),
		hash: binary.LittleEndian.Uint64(b[19:]),
		text: string(b[fixed:]),
	}, true
}

const (
	// reserved is how many numbers a process may give out. A journal begins with
	// an entry that names the sequence (its hash) and says where the next process
	// goes on (its seq), however many numbers this one used.
	reserved = 1 << 44
	// openEnd is the number of an entry about groups that stands for all numbers
	// up to the end of the process: each response could invalidate some, and the
	// journal is not written for each.
	openEnd = math.MaxUint64
	// minCompact is the size in bytes up to which a journal is left to grow.
	minCompact = 1 << 20
)

// openPurges returns the purges that the journal remembers. One that is damaged
// or was lost gives a sequence of its own, so that everything that was stored
// before counts as purged; damage says so. A nil journal keeps nothing.
func openPurges(j *store.Journal) (p *purges, damage, err error) {
	p = newPurges()
	if j == nil {
		return p, nil, nil
	}
	entries, err := j.Load()
	if err != nil && !errors.Is(err, store.ErrJournal) {
		return nil, nil, err
	}
	damage = err
	if damage == nil {
		damage = p.replay(entries)
	}
	if p.log == 0 || damage != nil {
		p = newPurges()
		var id [8]byte
		rand.Read(id[:])
		p.log = max(1, binary.LittleEndian.Uint64(id[:]))
	}
	p.bound = p.seq.Load() + reserved
	p.journal = j
	if err := p.compact(); err != nil {
		return nil, nil, fmt.Errorf("the purges cannot be kept: %w", err)
	}
	return p, damage, nil
}

func (p *purges) replay(entries [][]byte) error {
	for i, b := range entries {
		e, ok := decodePurgeEntry(b)
		if !ok || (i == 0) != (e.by == byRestart) {
			return fmt.Errorf("%w: entry %d cannot be read", store.ErrJournal, i+1)
		}
		switch e.by {
		case byRestart:
			p.log = e.hash
			p.seq.Store(e.seq)
		case byGroup:
			e.seq = min(e.seq, p.seq.Load())
			p.apply(e)
		default:
			p.apply(e)
		}
	}
	return nil
}

// compact writes all that has to be remembered into a new journal.
func (p *purges) compact() error {
	err := p.journal.Replace(p.entries())
	p.compactAt = max(minCompact, 2*p.journal.Size())
	return err
}

// jot makes the journal remember e, which is applied already.
func (p *purges) jot(e purgeEntry) error {
	if p.journal == nil {
		return nil
	}
	if p.journal.Append(e.encode()) != nil || p.journal.Size() > p.compactAt {
		return p.compact()
	}
	return nil
}

// entries returns all that has to be remembered, in the order of the numbers.
func (p *purges) entries() [][]byte {
	var all []purgeEntry
	keep := func(e purgeEntry, s stamp) {
		if e.seq = s.hard; e.seq > 0 {
			all = append(all, e)
		}
		for _, soft := range s.soft {
			e.soft, e.seq, e.at = true, soft.seq, soft.at
			all = append(all, e)
		}
	}
	p.urls.all(func(h uint64, s stamp) { keep(purgeEntry{by: ByURL, hash: h}, s) })
	p.tags.all(func(h uint64, s stamp) { keep(purgeEntry{by: ByTag, hash: h}, s) })
	px := p.prefixes.Load()
	for i, text := range px.texts {
		keep(purgeEntry{by: ByPrefix, text: text}, px.stamps[i])
	}
	for host, s := range px.hosts {
		keep(purgeEntry{by: ByHost, text: host}, s)
	}
	keep(purgeEntry{by: byForgotten}, stamp{hard: p.floor.Load()})
	keep(purgeEntry{by: byForgottenTag}, stamp{hard: p.tagFloor.Load()})
	group := p.groups.latest.Load()
	if p.groupsJotted {
		group = openEnd
	}
	keep(purgeEntry{by: byGroup}, stamp{hard: group})
	slices.SortFunc(all, func(a, b purgeEntry) int { return cmp.Compare(a.seq, b.seq) })

	out := [][]byte{purgeEntry{by: byRestart, hash: p.log, seq: p.bound}.encode()}
	for _, e := range all {
		out = append(out, e.encode())
	}
	return out
}
