package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrJournal says that a journal is damaged: it held more than can be read.
var ErrJournal = errors.New("store: the journal is damaged")

// MaxJournalEntry is the longest entry of a Journal, in bytes.
const MaxJournalEntry = 1 << 20

// A journal is its magic, then frames. A frame is the entry's length, the
// checksum of these four bytes, that of the entry, and the entry. With two
// checksums a length that was changed on disk is not taken for a frame that
// was never finished.
const (
	journalMagic = "fwdproxy journal 1\n"
	frameHead    = 12
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Journal is a file of entries that only grows, until all of them are replaced
// at once. It is not for several goroutines at a time.
type Journal struct {
	path string
	file *os.File // nil until Replace has made it
	size int64
}

// NewJournal returns the journal in the file at path. It touches nothing yet:
// Load and then Replace must come before Append.
func NewJournal(path string) *Journal { return &Journal{path: path} }

// Load returns the entries, oldest first; none where there is no file. An
// entry at the end that was never finished is left out. The error wraps
// ErrJournal when anything else is wrong with the content.
func (j *Journal) Load() ([][]byte, error) {
	b, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeJournal(b)
}

func decodeJournal(b []byte) ([][]byte, error) {
	if len(b) < len(journalMagic) || string(b[:len(journalMagic)]) != journalMagic {
		return nil, fmt.Errorf("%w: it does not begin as one", ErrJournal)
	}
	var entries [][]byte
	for off := len(journalMagic); ; {
		rest := b[off:]
		if len(rest) < frameHead || allZero(rest) {
			return entries, nil // the end, or one that was never finished
		}
		n := binary.LittleEndian.Uint32(rest)
		if binary.LittleEndian.Uint32(rest[4:]) != crc32.Checksum(rest[:4], castagnoli) || n > MaxJournalEntry {
			return nil, fmt.Errorf("%w at byte %d", ErrJournal, off)
		}
		if uint64(len(rest)) < frameHead+uint64(n) {
			return entries, nil
		}
		entry := rest[frameHead : frameHead+n : frameHead+n]
		if binary.LittleEndian.Uint32(rest[8:]) != crc32.Checksum(entry, castagnoli) {
			return nil, fmt.Errorf("%w at byte %d", ErrJournal, off)
		}
		entries = append(entries, entry)
		off += frameHead + int(n)
	}
}

// allZero tells space that a file system gave a file before a crash, and that
// nothing was written to.
func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func appendFrame(b, entry []byte) []byte {
	var head [frameHead]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(entry)))
	binary.LittleEndian.PutUint32(head[4:], crc32.Checksum(head[:4], castagnoli))
	binary.LittleEndian.PutUint32(head[8:], crc32.Checksum(entry, castagnoli))
	return append(append(b, head[:]...), entry...)
}

// Replace makes the entries all that the journal holds. After a crash, of the
// process or of the machine, it holds either them or what it held before.
func (j *Journal) Replace(entries [][]byte) error {
	b := []byte(journalMagic)
	for _, e := range entries {
		if len(e) > MaxJournalEntry {
			return ErrTooLarge
		}
		b = appendFrame(b, e)
	}
	f, err := os.OpenFile(j.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), j.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(j.path))
	}
	if err != nil {
		f.Close()
		return err
	}
	_ = j.Close()
	j.file, j.size = f, int64(len(b))
	return nil
}

// syncDir makes a rename in the directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

// Append adds one entry. It is on disk when Append returns nil; after an error
// every Append fails, until a Replace succeeds.
func (j *Journal) Append(entry []byte) error {
	switch {
	case len(entry) > MaxJournalEntry:
		return ErrTooLarge
	case j.file == nil:
		return errors.New("store: the journal is not open for writing")
	}
	frame := appendFrame(nil, entry)
	_, err := j.file.WriteAt(frame, j.size)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		// What of it is on disk is not known.
		_ = j.Close()
		return err
	}
	j.size += int64(len(frame))
	return nil
}

// Size returns how long the file is, in bytes.
func (j *Journal) Size() int64 { return j.size }

// Close closes the file.
func (j *Journal) Close() error {
	if j.file == nil {
		return nil
	}
	f := j.file
	j.file = nil
	return f.Close()
}
