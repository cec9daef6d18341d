package store

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Fault is a kind of trouble with the disk.
type Fault uint8

// The faults, as the metric names them.
const (
	FaultFull     Fault = iota // no room or inode left, or a quota used up
	FaultChecksum              // what was read is not what was written
	FaultMissing               // a file or folder is gone
	FaultDenied                // permission lost
	FaultIndex                 // the index is damaged
	FaultIO                    // anything else
	Faults                     // how many kinds there are
)

func (f Fault) String() string {
	return [...]string{"full", "checksum", "missing", "denied", "index", "io"}[f]
}

var errFull = errors.New("store: the disk is full")

// faultOf returns the kind of an error.
func faultOf(err error) Fault {
	switch {
	case errors.Is(err, errIndex):
		return FaultIndex
	case errors.Is(err, errChecksum), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return FaultChecksum
	case errors.Is(err, errFull), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return FaultFull
	case errors.Is(err, fs.ErrNotExist):
		return FaultMissing
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return FaultDenied
	}
	return FaultIO
}

// quiet is how long a kind of fault stays out of the log after it was logged.
const quiet = time.Minute

// faults counts trouble and tells of it, each kind once in a while.
type faults struct {
	log    *slog.Logger
	counts [Faults]atomic.Int64

	mu     sync.Mutex
	logged [Faults]time.Time
	silent [Faults]int64
}

func (f *faults) note(what string, err error) {
	kind := faultOf(err)
	f.counts[kind].Add(1)
	now := time.Now()
	f.mu.Lock()
	if now.Sub(f.logged[kind]) < quiet {
		f.silent[kind]++
		f.mu.Unlock()
		return
	}
	silent := f.silent[kind]
	f.logged[kind], f.silent[kind] = now, 0
	f.mu.Unlock()
	f.log.Warn("cache disk: "+what, "kind", kind.String(), "error", err, "not logged before this", silent)
}
