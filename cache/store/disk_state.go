package store

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
)

// runShift is how many bits of an id count within one run of the process.
const runShift = 40

const stateVersion = 1

const nothingYet = "there is nothing yet"

// stateSize is the version, the run, whether the index was closed, the boot's
// id and a checksum.
const stateSize = 4 + 8 + 1 + 40 + 4

// state tells, from one run to the next, whether the index can be relied on.
// It is written without fsync like everything here, so that after a crash of
// the machine, unlike one of the process, nothing says what of it is on the disk.
type state struct {
	f   *os.File
	run uint64
	why string // why what is stored cannot be used; empty when it can
}

func openState(path string) (*state, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	b := make([]byte, stateSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		f.Close()
		return nil, err
	}
	s := &state{f: f}
	s.run, s.why = readState(b[:n], bootID())
	return s, nil
}

// readState returns the run before this one, and why what it stored cannot be
// used.
func readState(b []byte, boot string) (run uint64, why string) {
	switch {
	case len(b) == 0:
		return 0, nothingYet
	case len(b) < stateSize, binary.LittleEndian.Uint32(b[stateSize-4:]) != checksum(b[:stateSize-4]):
		return 0, "its state file is damaged"
	case binary.LittleEndian.Uint32(b) != stateVersion:
		return 0, "another version of this program wrote it"
	}
	run = binary.LittleEndian.Uint64(b[4:])
	closed, wroteAt := b[12] == 1, string(b[13:53])
	if !closed && (boot == "" || wroteAt != string(bootField(boot))) {
		return run, "the machine stopped while it was in use"
	}
	return run, ""
}

func bootField(boot string) []byte {
	b := make([]byte, 40)
	copy(b, boot)
	return b
}

// begin notes that another run uses what is stored.
func (s *state) begin() error {
	s.run++
	return s.write(false)
}

// write notes whether the index was closed in order.
func (s *state) write(closed bool) error {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, stateSize), stateVersion)
	b = binary.LittleEndian.AppendUint64(b, s.run)
	if closed {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = append(b, bootField(bootID())...)
	b = binary.LittleEndian.AppendUint32(b, checksum(b))
	if _, err := s.f.WriteAt(b, 0); err != nil {
		return err
	}
	return s.f.Sync()
}
