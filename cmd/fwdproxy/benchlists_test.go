//go:build benchlists

package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
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

// TestBenchLists loads one list of domains into fwdproxy and into Squid, one
// after the other, and prints what it costs each. LIST_NAMES is how many
// domains it has.
func TestBenchLists(t *testing.T) {
	count, err := strconv.Atoi(os.Getenv("LIST_NAMES"))
	if err != nil || count < 1000 {
		t.Fatal("LIST_NAMES is how many domains the list has, at least 1000")
	}
	dir, err := os.MkdirTemp("", "benchlists")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil { // Squid runs as another user
		t.Fatal(err)
	}
	large, small := filepath.Join(dir, "large.txt"), filepath.Join(dir, "small.txt")
	writeNames(t, large, count)
	writeNames(t, small, 1)
	exe := filepath.Join(dir, "fwdproxy")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", exe, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	squid := "squid"
	if _, err := exec.LookPath(squid); err != nil {
		squid = "/usr/sbin/squid"
	}
	if _, err := os.Stat(squid); err != nil && squid != "squid" {
		t.Fatal("Squid is not here; install the Debian package squid")
	}
	ours := func(list string) listRun {
		return runWithList(t, dir, count, func(port string) *exec.Cmd {
			file := writeFile(t, dir, "policy.toml", fmt.Sprintf("[forward]\nlisten = [\"127.0.0.1:%s\"]\n[acl.lists.l]\nfiles = [%q]\n"+
				"[[acl.rule]]\nname = \"listed\"\nto = [\"list:l\"]\naction = \"deny\"\n[log]\naccess = \"none\"\n[admin]\nlisten = \"\"\n[cache]\nmemory = \"8MiB\"\nmax_object = \"64KiB\"\n", port, list))
			return exec.Command(exe, "--policy", file)
		})
	}
	theirs := func(list string) listRun {
		return runWithList(t, dir, count, func(port string) *exec.Cmd {
			file := writeFile(t, dir, "squid.conf", fmt.Sprintf("http_port 127.0.0.1:%s\nacl l dstdomain \"%s\"\nhttp_access deny l\nhttp_access deny all\ncache deny all\ncache_mem 8 MB\n"+
				"access_log none\ncache_log /dev/null\npid_filename none\nnetdb_filename none\ncoredump_dir %s\nvisible_hostname bench.test\npinger_enable off\nshutdown_lifetime 0 seconds\n", port, list, dir))
			return exec.Command(squid, "-N", "-f", file)
		})
	}
	f0, s0 := ours(small), theirs(small)
	f, s := ours(large), theirs(large)
	size := float64(fileSize(t, large))
	perEntry := func(with, without listRun) float64 { return float64(with.resident-without.resident) / float64(count) }
	fmt.Printf("\nnames of %.1f bytes\n%d domains                    fwdproxy       Squid   Squid / fwdproxy\n", size/float64(count)-1, count)
	row := func(name, unit string, ours, theirs float64) {
		fmt.Printf("%-32s %9.4g %2s %9.4g %2s  %6.2f\n", name, ours, unit, theirs, unit, theirs/ours)
	}
	row("start to first answer", "s", f.start.Seconds(), s.start.Seconds())
	row("resident, each entry", "B", perEntry(f, f0), perEntry(s, s0))
	row("resident at the peak, each entry", "B", float64(f.peak-f0.peak)/float64(count), float64(s.peak-s0.peak)/float64(count))
	row("denied requests a second", "", f.rate, s.rate)
	row("the same with a list of one", "", f0.rate, s0.rate)
}

// nameOf is the ith domain of the list, in no order.
func nameOf(i int) string {
	x := uint64(i) * 0x9e3779b97f4a7c15
	return strconv.FormatUint(x>>24, 36) + ".ads" + strconv.FormatUint(x>>8%1000, 10) + ".com"
}

func writeNames(t *testing.T, path string, count int) {
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(file)
	for i := range count {
		fmt.Fprintln(w, nameOf(i))
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

func fileSize(t *testing.T, path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func writeFile(t *testing.T, dir, name, text string) string {
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// listRun is what one proxy made of one list.
type listRun struct {
	start          time.Duration
	resident, peak int64 // bytes
	rate           float64
}

func runWithList(t *testing.T, dir string, count int, command func(port string) *exec.Cmd) listRun {
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(port)
	var log strings.Builder
	cmd.Stdout, cmd.Stderr, cmd.Dir = &log, &log, dir
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	defer func() { _ = cmd.Process.Kill(); <-ended }()
	var run listRun
	for {
		if err := askDenied("127.0.0.1:"+port, 0, 1, nil); err == nil {
			break
		}
		select {
		case <-ended:
			t.Fatalf("%v ended:\n%s", cmd.Args, log.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
	run.start = time.Since(begin)
	run.resident = settled(t, cmd.Process.Pid)
	run.rate = deniedRate(t, "127.0.0.1:"+port, count)
	run.peak = memory(t, cmd.Process.Pid, "VmHWM")
	return run
}

// deniedRate asks for domains of the list, from several connections.
func deniedRate(t *testing.T, addr string, count int) float64 {
	const length, clients = 4 * time.Second, 8
	var done atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(length)
	for c := range clients {
		wg.Go(func() {
			for time.Now().Before(end) {
				if err := askDenied(addr, c+1, count, func() bool { done.Add(1); return time.Now().Before(end) }); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(done.Load()) / length.Seconds()
}

// askDenied asks once, or while more says so, over one connection.
func askDenied(addr string, seed, count int, more func() bool) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	in, r := bufio.NewReader(conn), rand.New(rand.NewPCG(uint64(seed), 1))
	for {
		name := nameOf(r.IntN(count))
		if _, err := fmt.Fprintf(conn, "GET http://%s/ HTTP/1.1\r\nHost: %s\r\n\r\n", name, name); err != nil {
			return err
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusForbidden {
			return fmt.Errorf("%s: %d, %v", name, res.StatusCode, err)
		}
		if more == nil || !more() || res.Close {
			return nil
		}
	}
}

// settled is what stays resident once the process gives nothing back any more.
func settled(t *testing.T, pid int) int64 {
	last := memory(t, pid, "VmRSS")
	for range 30 {
		time.Sleep(2 * time.Second)
		now := memory(t, pid, "VmRSS")
		if last-now < last/100 {
			return now
		}
		last = now
	}
	return last
}

func memory(t *testing.T, pid int, key string) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("no %s", key)
	return 0
}
