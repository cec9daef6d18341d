package accesslog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	flushEvery = 100 * time.Millisecond
	flushAt    = 64 << 10
	// holdAtMost bounds what waits for a sink that hangs.
	holdAtMost = 16 << 20
	// keepAtMost bounds the buffers that stay after such a time.
	keepAtMost = 1 << 20
	// closeWithin bounds how long Close waits for the sink.
	closeWithin = 5 * time.Second
)

// Logger writes the access log. Its methods may be called from any goroutine.
type Logger struct {
	encode  func(*line, *Record) // nil: there is no log
	path    string               // "" where the sink is not a file of ours
	stderr  io.Writer
	dropped atomic.Uint64

	mu      sync.Mutex
	buf     []byte   // lines that wait
	writing int      // bytes that the writer has taken and not finished
	next    *os.File // what Reopen opened, until the writer takes it
	closed  bool

	wake, full chan struct{} // something waits; flushAt bytes wait
	quit, done chan struct{}

	// The writer's own.
	sink    io.Writer
	file    *os.File // the sink, where it is a file of ours
	spare   []byte
	torn    bool // the last line that the sink took is not whole
	failing bool
}

// lines are reused, so that a record allocates nothing.
var lines = sync.Pool{New: func() any { return new(line) }}

// Open starts a logger that c describes, which Validate has found good. It
// fails when the file cannot be opened for appending. Failures of writing are
// told on stderr, once each time they begin.
func Open(c Config, stdout, stderr io.Writer) (*Logger, error) {
	l := &Logger{
		encode: encoders[c.Format],
		stderr: stderr,
		wake:   make(chan struct{}, 1),
		full:   make(chan struct{}, 1),
		quit:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	if l.encode == nil {
		return nil, fmt.Errorf("%q is no format of the access log", c.Format)
	}
	switch c.Access {
	case toNone:
		l.encode = nil
	case toStdout:
		l.sink = stdout
	case toStderr:
		l.sink = stderr
	default:
		f, err := openFile(c.Access)
		if err != nil {
			return nil, err
		}
		l.path, l.file, l.sink = c.Access, f, f
	}
	go l.write()
	return l, nil
}

func openFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
}

// Log appends r to what waits to be written, and returns without waiting for
// the sink. When 16 MiB wait, or after Close, r is dropped and counted. It
// keeps nothing of r.
func (l *Logger) Log(r *Record) {
	if l.encode == nil {
		return
	}
	n := lines.Get().(*line)
	n.out = n.out[:0]
	l.encode(n, r)
	l.enqueue(n.out)
	lines.Put(n)
}

func (l *Logger) enqueue(b []byte) {
	l.mu.Lock()
	before := len(l.buf)
	if l.closed || before+l.writing+len(b) > holdAtMost {
		l.mu.Unlock()
		l.dropped.Add(1)
		return
	}
	l.buf = append(l.buf, b...)
	l.mu.Unlock()
	if before == 0 {
		signal(l.wake)
	}
	if before < flushAt && before+len(b) >= flushAt {
		signal(l.full)
	}
}

// signal sets c, which has room for one, if it is not set yet.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Dropped returns the number of records that were dropped, or that the sink
// did not take.
func (l *Logger) Dropped() uint64 { return l.dropped.Load() }

// Reopen opens the log file anew, for a rotation that has moved it away;
// lines that wait go to the new one. When it cannot be opened, the old one
// stays and the error is returned. Other sinks stay as they are.
func (l *Logger) Reopen() error {
	if l.path == "" {
		return nil
	}
	f, err := openFile(l.path)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return f.Close()
	}
	if l.next != nil {
		l.next.Close()
	}
	l.next = f
	signal(l.wake)
	return nil
}

// Close writes what waits and closes the file. It gives a sink that hangs five
// seconds, and returns an error when lines are lost by that.
func (l *Logger) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	close(l.quit)
	late := time.NewTimer(closeWithin)
	defer late.Stop()
	select {
	case <-l.done:
		return nil
	case <-late.C:
		return errors.New("the access log did not take its last lines in time")
	}
}

// write is the writer's goroutine: it waits for a first line, gives others a
// moment to join it, and writes them with one call.
func (l *Logger) write() {
	defer close(l.done)
	moment := time.NewTimer(flushEvery)
	defer moment.Stop()
	for {
		select {
		case <-l.wake:
		case <-l.quit:
			l.flush()
			if l.file != nil {
				l.file.Close()
			}
			return
		}
		moment.Reset(flushEvery)
		select {
		case <-l.full:
		case <-moment.C:
		case <-l.quit:
		}
		l.flush()
	}
}

func (l *Logger) flush() {
	l.mu.Lock()
	b, next := l.buf, l.next
	l.buf, l.next, l.writing = l.spare[:0], nil, len(b)
	l.mu.Unlock()
	if next != nil {
		l.file.Close()
		l.file, l.sink, l.torn = next, next, false
	}
	if len(b) > 0 {
		l.put(b)
	}
	if cap(b) > keepAtMost {
		b = nil
	}
	l.spare = b
	l.mu.Lock()
	l.writing = 0
	l.mu.Unlock()
}

// put writes whole lines to the sink. What it does not take is counted, and
// the next line begins on a line of its own.
func (l *Logger) put(b []byte) {
	if l.torn {
		if _, err := l.sink.Write([]byte{'\n'}); err != nil {
			l.lost(b, err)
			return
		}
		l.torn = false
	}
	n, err := l.sink.Write(b)
	if err == nil {
		l.failing = false
		return
	}
	l.torn = n > 0 && b[n-1] != '\n'
	l.lost(b[n:], err)
}

func (l *Logger) lost(b []byte, err error) {
	l.dropped.Add(uint64(bytes.Count(b, []byte{'\n'})))
	if !l.failing {
		l.failing = true
		fmt.Fprintf(l.stderr, "fwdproxy: the access log cannot be written; records are lost until it can: %v\n", err)
	}
}
