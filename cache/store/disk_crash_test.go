package store

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The names that the load is about, and what it fills many times over.
const (
	crashKeys = 3000
	crashSize = MinDisk
)

// crashBody is the body of a version of an object: its size and every byte
// follow from both.
func crashBody(k, version int) []byte {
	r := rand.New(rand.NewPCG(uint64(k), uint64(version)))
	n := r.IntN(30 << 10)
	switch r.IntN(40) {
	case 0:
		n = inlineMax + r.IntN(600<<10)
	case 1, 2:
		n = r.IntN(inlineMax)
	case 3:
		n = 0
	}
	return content(k*1_000_003+version, n)
}

// TestCrashLoad is not a test but the process that TestKilled kills: it stores,
// freshens, deletes and reads until it is. What it has deleted it says, when it
// has, in a file that outlives it.
func TestCrashLoad(t *testing.T) {
	dir := os.Getenv("STORE_CRASH")
	if dir == "" {
		t.Skip("TestKilled runs it")
	}
	d, err := OpenDisk(DiskConfig{Dir: filepath.Join(dir, "cache"), Size: crashSize})
	if err != nil {
		t.Fatal(err)
	}
	memory, err := NewMemory(MinMemory)
	if err != nil {
		t.Fatal(err)
	}
	s := NewTiered(memory, d)
	says, err := os.OpenFile(filepath.Join(dir, "deleted"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	run, _ := strconv.Atoi(os.Getenv("STORE_RUN"))
	var version atomic.Int64
	version.Store(int64(run) * 10_000_000)
	locks := make([]sync.Mutex, crashKeys)
	for w := range 4 {
		go func() {
			r := rand.New(rand.NewPCG(uint64(run), uint64(w)))
			for {
				k := r.IntN(crashKeys)
				// As the cache does: what is done to one key is done one after the other.
				locks[k].Lock()
				crashStep(s, says, r, k, &version)
				locks[k].Unlock()
			}
		}()
	}
	fmt.Println("ready")
	select {}
}

func crashStep(s *Tiered, says io.Writer, r *rand.Rand, k int, version *atomic.Int64) {
	v := int(version.Add(1))
	switch r.IntN(10) {
	case 0, 1, 2, 3:
		_ = s.Put(key(k), fmt.Appendf(nil, "%d %d 0", k, v), split(crashBody(k, v)))
	case 4:
		body := crashBody(k, v)
		sp, err := s.Create(-1)
		if err != nil {
			return
		}
		for _, seg := range split(body) {
			if sp.Append(seg) != nil {
				break
			}
		}
		if r.IntN(4) > 0 {
			_ = s.Commit(sp, key(k), fmt.Appendf(nil, "%d %d 0", k, v))
		}
		sp.Close()
	case 5:
		s.Delete(key(k))
		fmt.Fprintf(says, "%d %d\n", k, v)
	case 6, 7:
		if o, ok := s.Get(key(k)); ok {
			var kk, vv, n int
			fmt.Sscan(string(o.Head), &kk, &vv, &n)
			_ = s.SetHead(key(k), o, fmt.Appendf(nil, "%d %d %d", kk, vv, n+1))
		}
	default:
		if o, ok := s.Get(key(k)); ok {
			if r, err := o.Body.Open(0, o.Size); err == nil {
				_, _ = io.Copy(io.Discard, r)
				r.Close()
			}
		}
	}
}

// crashRun runs the load for a while and kills it.
func crashRun(t *testing.T, dir string, run int, after time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestCrashLoad$", "-test.v", "-test.timeout", "1m")
	cmd.Env = append(os.Environ(), "STORE_CRASH="+dir, fmt.Sprint("STORE_RUN=", run))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var failure bytes.Buffer
	cmd.Stderr = &failure
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	ready := false
	var said strings.Builder
	for !ready && lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		ready = lines.Text() == "ready"
	}
	if ready {
		time.Sleep(after)
	}
	_ = cmd.Process.Kill()
	rest, _ := io.ReadAll(out)
	if err := cmd.Wait(); !ready || err == nil || err.Error() != "signal: killed" {
		t.Fatalf("the load ended by itself: %v\n%s%s%s", err, said.String(), rest, failure.String())
	}
}

// deletedVersions returns the latest version of each key that was deleted for
// good.
func deletedVersions(t *testing.T, dir string) map[int]int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "deleted"))
	if err != nil {
		t.Fatal(err)
	}
	last := map[int]int{}
	for line := range strings.Lines(string(b)) {
		var k, v int
		if n, _ := fmt.Sscanf(line, "%d %d\n", &k, &v); n == 2 {
			last[k] = v
		}
	}
	return last
}

// TestKilled kills a process under load at random moments. After each, what is
// there is right to the byte, what was deleted is not there, and nothing is
// left on the disk that does not belong. STORE_KILLS says how often.
func TestKilled(t *testing.T) {
	kills := 8
	if s := os.Getenv("STORE_KILLS"); s != "" {
		var err error
		if kills, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	hits, whole := 0, 0
	for run := range kills {
		crashRun(t, dir, run+1, time.Duration(r.IntN(400))*time.Millisecond)
		began := time.Now()
		d, err := OpenDisk(DiskConfig{Dir: filepath.Join(dir, "cache"), Size: crashSize})
		if err != nil {
			t.Fatalf("after kill %d: %v", run+1, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v to open", took)
		}
		deleted := deletedVersions(t, dir)
		for k := range crashKeys {
			o, ok := d.Get(key(k))
			if !ok {
				continue
			}
			hits++
			var kk, v, n int
			if got, _ := fmt.Sscan(string(o.Head), &kk, &v, &n); got != 3 || kk != k {
				t.Fatalf("after kill %d: object %d has the head %q", run+1, k, o.Head)
			}
			if v <= deleted[k] {
				t.Errorf("after kill %d: version %d of %d is back, %d was deleted", run+1, v, k, deleted[k])
			}
			want := crashBody(k, v)
			got, err := read(t, o, 0, o.Size)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("after kill %d: version %d of %d: %d bytes of %d, %v", run+1, v, k, len(got), len(want), err)
			} else {
				whole++
			}
		}
		noOrphans(t, d)
		if bytes, _ := diskUse(t, d.dir); bytes > crashSize {
			t.Errorf("after kill %d: %d bytes are taken", run+1, bytes)
		}
		if f := d.Stats().Faults; f != [Faults]int64{} {
			t.Errorf("after kill %d: faults %v", run+1, f)
		}
		if run%3 == 2 {
			kill(t, d) // and the next run begins without an orderly end
		} else if err := d.Close(time.Minute); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			return
		}
	}
	if hits == 0 {
		t.Error("nothing was ever there")
	}
	t.Logf("%d kills, %d hits, %d of them right", kills, hits, whole)
}
