package accesslog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// sink is a writer that the test can hang, fail and read.
type sink struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	writes int
	hang   chan struct{} // not nil: Write waits until it is closed
	take   int           // with fail: bytes that the next Write takes
	fail   error
}

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	hang := s.hang
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.fail != nil {
		n := min(s.take, len(b))
		s.take = 0
		s.buf.Write(b[:n])
		return n, s.fail
	}
	return s.buf.Write(b)
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

func (s *sink) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func open(t *testing.T, c Config, stdout, stderr io.Writer) *Logger {
	t.Helper()
	l, err := Open(c, stdout, stderr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func numbered(i int) *Record {
	r := sample()
	r.RequestID = fmt.Sprintf("r%d", i)
	return &r
}

func TestALineIsWrittenWithinATenthOfASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &sink{}
		l := open(t, DefaultConfig(), out, io.Discard)
		defer l.Close()
		for i := range 3 {
			l.Log(numbered(i))
		}
		time.Sleep(flushEvery - time.Microsecond)
		synctest.Wait()
		if got := out.String(); got != "" {
			t.Errorf("written before the moment was over: %q", got)
		}
		time.Sleep(2 * time.Microsecond)
		synctest.Wait()
		if got := out.String(); strings.Count(got, "\n") != 3 {
			t.Errorf("%q, want 3 lines", got)
		}
		out.set(func() {
			if out.writes != 1 {
				t.Errorf("%d writes, want one for all", out.writes)
			}
		})
	})
}

func TestSixtyFourKibibytesAreWrittenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &sink{}
		l := open(t, DefaultConfig(), out, io.Discard)
		defer l.Close()
		n := 0
		for size := 0; size < flushAt; n++ {
			r := numbered(n)
			size += len(encode(formatJSON, r))
			l.Log(r)
		}
		synctest.Wait() // no time passes
		if got := strings.Count(out.String(), "\n"); got != n {
			t.Errorf("%d lines of %d", got, n)
		}
	})
}

func TestASinkThatHangsCostsRecordsAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &sink{hang: make(chan struct{})}
		l := open(t, DefaultConfig(), out, io.Discard)
		l.Log(numbered(0))
		time.Sleep(time.Second) // the writer hangs now
		line := len(encode(formatJSON, numbered(1_000_000)))
		n := holdAtMost/line + 1000
		begin := time.Now()
		for i := range n {
			l.Log(numbered(1_000_000 + i))
		}
		if time.Since(begin) != 0 {
			t.Error("Log waited")
		}
		dropped := l.Dropped()
		if dropped < 900 || dropped > 1100 {
			t.Errorf("%d of %d dropped", dropped, n)
		}
		close(out.hang)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if got := strings.Count(out.String(), "\n"); uint64(got) != uint64(n)+1-dropped {
			t.Errorf("%d lines written, %d dropped, of %d", got, dropped, n+1)
		}
		if out.buf.Len() > holdAtMost {
			t.Errorf("%d bytes were held", out.buf.Len())
		}
	})
}

func TestCloseDoesNotWaitForeverForASinkThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &sink{hang: make(chan struct{})}
		l := open(t, DefaultConfig(), out, io.Discard)
		l.Log(numbered(0))
		begin := time.Now()
		if err := l.Close(); err == nil || time.Since(begin) != closeWithin {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		close(out.hang)
	})
}

func TestCloseWritesWhatWaitsAndLaterRecordsAreCounted(t *testing.T) {
	out := &sink{}
	l := open(t, Config{Access: "stderr", Format: "squid"}, io.Discard, out)
	l.Log(numbered(0))
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Count(out.String(), "\n") != 1 {
		t.Errorf("%q", out.String())
	}
	l.Log(numbered(1))
	if l.Dropped() != 1 {
		t.Errorf("%d dropped", l.Dropped())
	}
}

func TestAfterAWriteThatBrokeOffTheNextLineIsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, stderr := &sink{}, &sink{}
		l := open(t, DefaultConfig(), out, stderr)
		out.set(func() {
			out.fail, out.take = errors.New("no space left on device"), len(encode(formatJSON, numbered(0)))+10
		})
		for i := range 3 {
			l.Log(numbered(i))
		}
		time.Sleep(time.Second)
		l.Log(numbered(3))
		time.Sleep(time.Second)
		if l.Dropped() != 3 { // 1 (half), 2 and 3
			t.Errorf("%d dropped", l.Dropped())
		}
		if n := strings.Count(stderr.String(), "\n"); n != 1 || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("stderr: %q", stderr.String())
		}
		out.set(func() { out.fail = nil })
		l.Log(numbered(4))
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		got := strings.Split(out.String(), "\n")
		if len(got) != 4 || got[0]+"\n" != encode(formatJSON, numbered(0)) || len(got[1]) != 10 || got[2]+"\n" != encode(formatJSON, numbered(4)) {
			t.Errorf("%q", got)
		}
	})
}

func TestReopenFollowsARotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "access.log")
	l := open(t, Config{Access: path, Format: "json"}, io.Discard, io.Discard)
	l.Log(numbered(0))
	for deadline := time.Now().Add(10 * time.Second); lineCount(t, path) != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the line was not written")
		}
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	l.Log(numbered(1))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if a, b := lineCount(t, path+".1"), lineCount(t, path); a != 1 || b != 1 {
		t.Errorf("%d lines in the old file, %d in the new, want 1 and 1", a, b)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("everybody may read the log: %v %v", info.Mode(), err)
	}
	if err := l.Reopen(); err != nil {
		t.Error(err)
	}
}

func TestReopenKeepsTheOldFileWhereANewOneCannotBeOpened(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l := open(t, Config{Access: filepath.Join(dir, "access.log"), Format: "json"}, io.Discard, io.Discard)
	moved := dir + "-moved"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err == nil {
		t.Error("no error")
	}
	l.Log(numbered(0))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := lineCount(t, filepath.Join(moved, "access.log")); n != 1 {
		t.Errorf("%d lines", n)
	}
}

func lineCount(t *testing.T, path string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(b, []byte{'\n'})
}

func TestAFileThatCannotBeOpenedIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "access.log")
	if _, err := Open(Config{Access: path, Format: "json"}, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
	if _, err := Open(Config{Access: "stdout"}, io.Discard, io.Discard); err == nil {
		t.Error("no format is no error")
	}
}

func TestNoneWritesNothing(t *testing.T) {
	out := &sink{}
	l := open(t, Config{Access: "none", Format: "json"}, out, out)
	l.Log(numbered(0))
	if err := errors.Join(l.Reopen(), l.Close()); err != nil || out.String() != "" || l.Dropped() != 0 {
		t.Errorf("%v %q %d", err, out.String(), l.Dropped())
	}
}

func TestLinesOfManyGoroutinesStayWhole(t *testing.T) {
	out := &sink{}
	l := open(t, DefaultConfig(), out, io.Discard)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 500 {
				l.Log(numbered(g*1000 + i))
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for s := range strings.Lines(out.String()) {
		seen[s] = true
	}
	for g := range 8 {
		for i := range 500 {
			if !seen[encode(formatJSON, numbered(g*1000+i))] {
				t.Fatalf("line %d of goroutine %d is missing", i, g)
			}
		}
	}
	if len(seen) != 4000 {
		t.Errorf("%d lines", len(seen))
	}
}

func TestLogAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool forget")
	}
	l := open(t, DefaultConfig(), io.Discard, io.Discard)
	defer l.Close()
	r := sample()
	for range 1000 {
		l.Log(&r)
	}
	// A garbage collection may empty the pool, so that the average is not 0.
	if n := testing.AllocsPerRun(10_000, func() { l.Log(&r) }); n > 0.01 {
		t.Errorf("%v allocations a record", n)
	}
}

func BenchmarkLog(b *testing.B) {
	l, err := Open(DefaultConfig(), io.Discard, io.Discard)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r := sample()
		for pb.Next() {
			l.Log(&r)
		}
	})
}
