package cache

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"fwdproxy/cache/store"
)

func TestWhatWasStoredBeforeAJournalWasLostCountsAsPurged(t *testing.T) {
	u, _ := url.Parse("http://a.test/x")
	path := filepath.Join(t.TempDir(), "j")
	open := func() (*purges, error) {
		t.Helper()
		p, damage, err := openPurges(store.NewJournal(path))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.journal.Close() })
		return p, damage
	}
	p, _ := open()
	before := p.begin(u)
	if err := p.add(purgeEntry{by: ByPrefix, text: "http://a.test/x"}); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	after := mark{}.fetched(p.begin(u))
	before.anyTag, before.anyGroup = false, false

	judged := func(b []byte) (first, second ruling, damage error) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		p, damage := open()
		return p.judge(&before, KeyOf(u).hash(), u), p.judge(&after, KeyOf(u).hash(), u), damage
	}
	if first, second, damage := judged(whole); damage != nil || !first.gone || second.purged() {
		t.Fatalf("whole: %v, %+v, %+v", damage, first, second)
	}
	for i := range whole {
		b := slices.Clone(whole)
		b[i] ^= 0x10
		if first, second, damage := judged(b); damage == nil || !first.gone || !second.gone || second.by != byRestart {
			t.Fatalf("byte %d flipped: %v, %+v, %+v", i, damage, first, second)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	p, damage := open()
	if r := p.judge(&after, KeyOf(u).hash(), u); damage != nil || !r.gone {
		t.Errorf("the file is gone: %v, %+v", damage, r)
	}
	if r := p.judge(&mark{}, KeyOf(u).hash(), u); !r.gone {
		t.Errorf("stored by a process that kept no journal: %+v", r)
	}
}

func TestNumbersGoOnWhereNoEarlierProcessCanHaveBeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	u, _ := url.Parse("http://a.test/x")
	p, _, err := openPurges(store.NewJournal(path))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 { // of which the journal has only that there were some
		p.addGroups("http://a.test", []uint64{1}, false)
	}
	m := mark{}.fetched(p.begin(u))
	p.journal.Close()
	p, _, err = openPurges(store.NewJournal(path))
	if err != nil {
		t.Fatal(err)
	}
	defer p.journal.Close()
	if m.began >= p.seq.Load() {
		t.Fatalf("a fetch of the last process began at %d, this one is at %d", m.began, p.seq.Load())
	}
	if r := p.judge(&m, KeyOf(u).hash(), u); r.purged() {
		t.Fatalf("before a purge: %+v", r)
	}
	p.add(purgeEntry{by: ByHost, text: "a.test"})
	if r := p.judge(&m, KeyOf(u).hash(), u); !r.gone {
		t.Errorf("after one: %+v", r)
	}
}

func TestTheJournalIsWrittenAnewBeforeItGrowsWithoutBound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	p, _, err := openPurges(store.NewJournal(path))
	if err != nil {
		t.Fatal(err)
	}
	defer p.journal.Close()
	p.compactAt = 2000
	var most int64
	for range 200 {
		if err := p.add(purgeEntry{by: ByTag, hash: 7}); err != nil {
			t.Fatal(err)
		}
		most = max(most, p.journal.Size())
		p.compactAt = min(p.compactAt, 2000)
	}
	if most > 2100 {
		t.Errorf("it grew to %d bytes", most)
	}
	p.journal.Close() // so that the disk takes nothing for a moment
	if err := p.add(purgeEntry{by: ByTag, hash: 8}); err != nil {
		t.Errorf("an Append that fails is made good by a new journal: %v", err)
	}
}

func FuzzPurgeEntry(f *testing.F) {
	f.Add(purgeEntry{by: ByPrefix, soft: true, seq: 7, at: -1, hash: 9, text: "http://a/"}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, ok := decodePurgeEntry(b); ok && string(e.encode()) != string(b) {
			t.Fatalf("%x was read as %+v", b, e)
		}
	})
}
