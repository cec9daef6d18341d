package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// peer is a running proxy.
type peer struct {
	name string
	addr string
	dir  string
	cmd  *exec.Cmd
	done chan error
}

// startPeer starts the proxy on the server's core and waits until it listens.
func startPeer(b *bench, name, dir string) (*peer, error) {
	return startPeerOn(b, name, dir, b.serverCore)
}

func startPeerOn(b *bench, name, dir, cores string) (*peer, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	c := site{Dir: dir, Port: port, Origin: b.origin.addr, Bin: b.bin}
	args, err := peers[name](c)
	if err != nil {
		return nil, err
	}
	p := &peer{name: name, addr: fmt.Sprintf("127.0.0.1:%d", port), dir: dir, done: make(chan error, 1)}
	p.cmd = exec.Command("taskset", append([]string{"-c", cores}, args...)...)
	p.cmd.Env = append(os.Environ(), "TS_RUNROOT="+dir)
	p.cmd.Dir = dir
	out, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.done <- p.cmd.Wait() }()
	for range 200 {
		if c, err := net.Dial("tcp", p.addr); err == nil {
			c.Close()
			return p, nil
		}
		if !p.alive() {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.stop()
	text, _ := os.ReadFile(filepath.Join(dir, "output"))
	return nil, fmt.Errorf("it does not listen: %s", strings.TrimSpace(string(text)))
}

func (p *peer) alive() bool {
	select {
	case err := <-p.done:
		p.done <- err
		return false
	default:
		return true
	}
}

// stop ends the proxy and what it started, each by its id.
func (p *peer) stop() {
	ids := p.family()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		for _, id := range ids {
			_ = syscall.Kill(id, sig)
		}
		select {
		case <-p.done:
			return
		case <-time.After(3 * time.Second):
		}
	}
}

// family returns the ids of the process and of all below it.
func (p *peer) family() []int {
	ids := []int{p.cmd.Process.Pid}
	parents := map[int][]int{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		id, _ := strconv.Atoi(filepath.Base(d))
		if f := stat(id); len(f) > 1 {
			parent, _ := strconv.Atoi(f[1])
			parents[parent] = append(parents[parent], id)
		}
	}
	for i := 0; i < len(ids); i++ {
		ids = append(ids, parents[ids[i]]...)
	}
	return ids
}

// stat returns the fields of /proc/ID/stat from the state on, number 3 there.
func stat(id int) []string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
	i := strings.LastIndexByte(string(b), ')')
	if i < 0 {
		return nil
	}
	return strings.Fields(string(b[i+1:]))
}

// cpu returns the processor time that the proxy has used so far, user and
// system. The kernel counts it in hundredths of a second.
func (p *peer) cpu() time.Duration {
	var ticks int
	for _, id := range p.family() {
		if f := stat(id); len(f) > 12 {
			user, _ := strconv.Atoi(f[11])
			system, _ := strconv.Atoi(f[12])
			ticks += user + system
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// resident returns the bytes of memory that the proxy holds.
func (p *peer) resident() int64 {
	var pages int64
	for _, id := range p.family() {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", id))
		if f := strings.Fields(string(b)); len(f) > 2 {
			all, _ := strconv.ParseInt(f[1], 10, 64)
			shared, _ := strconv.ParseInt(f[2], 10, 64)
			pages += all - shared
		}
	}
	return pages * int64(os.Getpagesize())
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
