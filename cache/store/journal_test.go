package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// someJournal returns the path of a journal with the entries, the first two of
// which were put there at once.
func someJournal(t *testing.T, entries ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal")
	j := NewJournal(path)
	if got, err := j.Load(); err != nil || len(got) > 0 {
		t.Fatalf("where there is no file: %q, %v", got, err)
	}
	if err := j.Replace([][]byte{[]byte(entries[0]), []byte(entries[1])}); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries[2:] {
		if err := j.Append([]byte(e)); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Size() != j.Size() {
		t.Fatalf("the size is %d, %v; the journal says %d", info.Size(), err, j.Size())
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func joined(entries [][]byte) string { return string(bytes.Join(entries, []byte("|"))) }

func TestAJournalIsReadAsItWasWritten(t *testing.T) {
	path := someJournal(t, "a", "", "ccc", strings.Repeat("d", 1000))
	got, err := NewJournal(path).Load()
	if err != nil || joined(got) != "a||ccc|"+strings.Repeat("d", 1000) {
		t.Fatalf("got %q, %v", got, err)
	}
	j := NewJournal(path)
	if err := j.Replace([][]byte{[]byte("x")}); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if got, err := j.Load(); err != nil || joined(got) != "x" {
		t.Fatalf("replaced: got %q, %v", got, err)
	}
	if err := j.Append(make([]byte, MaxJournalEntry+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an entry that is too long: %v", err)
	}
}

func TestAnEntryThatWasNeverFinishedIsLeftOut(t *testing.T) {
	all := []string{"first", "second", "third", "4"}
	b, err := os.ReadFile(someJournal(t, all...))
	if err != nil {
		t.Fatal(err)
	}
	for n := range b {
		got, err := decodeJournal(b[:n])
		if n < len(journalMagic) {
			if !errors.Is(err, ErrJournal) {
				t.Fatalf("%d bytes were read as a journal", n)
			}
			continue
		}
		if err != nil || !strings.HasPrefix(strings.Join(all, "|")+"|", joined(got)) {
			t.Fatalf("of %d bytes: got %q, %v", n, got, err)
		}
		// Nor is what the file system had made room for.
		if padded, err := decodeJournal(append(bytes.Clone(b[:n]), 0, 0, 0, 0, 0)); err == nil && len(padded) > len(got) {
			t.Fatalf("%d bytes and zeros give %d entries, without them %d", n, len(padded), len(got))
		}
	}
	if got, err := decodeJournal(append(bytes.Clone(b), make([]byte, 4096)...)); err != nil || len(got) != len(all) {
		t.Fatalf("followed by zeros: got %q, %v", got, err)
	}
}

func TestAnyFlippedBitOfAJournalIsNoticed(t *testing.T) {
	b, err := os.ReadFile(someJournal(t, "first", "second", "third", "4"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if got, err := decodeJournal(b); !errors.Is(err, ErrJournal) {
				t.Fatalf("bit %d of byte %d: got %q, %v", bit, i, got, err)
			}
			b[i] ^= 1 << bit
		}
	}
}

func TestAfterAFailedAppendAJournalWantsToBeReplaced(t *testing.T) {
	path := someJournal(t, "a", "b")
	j := NewJournal(path)
	if err := j.Append([]byte("c")); err == nil {
		t.Error("a journal that was not opened took an entry")
	}
	if err := j.Replace(nil); err != nil {
		t.Fatal(err)
	}
	j.file.Close()
	if err := j.Append([]byte("d")); err == nil {
		t.Error("a closed file took an entry")
	}
	if err := j.Append([]byte("d")); err == nil {
		t.Error("what is on disk is not known, and it took another entry")
	}
	if err := j.Replace([][]byte{[]byte("e")}); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.Append([]byte("f")); err != nil {
		t.Fatal(err)
	}
	if got, err := j.Load(); err != nil || joined(got) != "e|f" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(journalMagic))
	f.Add(appendFrame(appendFrame([]byte(journalMagic), []byte("a")), []byte("bc")))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := decodeJournal(b)
		if err != nil {
			return
		}
		again := []byte(journalMagic)
		for _, e := range entries {
			again = appendFrame(again, e)
		}
		if !bytes.HasPrefix(b, again) {
			t.Fatalf("%q was read as %q", b, entries)
		}
	})
}
