package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The scripts of wrk. The origin comes first; done is called by wrk at the end.
const (
	// As clients of a proxy do (RFC 9112, Section 3.2.2); HAProxy refuses another.
	scriptHost = `
wrk.headers["Host"] = "%s"
`
	scriptHits = `
local n = 0
function request()
  n = n + 1
  return wrk.format("GET", "http://%[1]s/%[2]d/" .. (n %% %[3]d))
end
`
	scriptMisses = `
local n = 0
function request()
  n = n + 1
  return wrk.format("GET", "http://%[1]s/100/%[2]d-" .. n)
end
`
	// A power law of which the first 60 % of the objects get 95 % of the requests.
	scriptMix = `
math.randomseed(%[2]d)
function request()
  return wrk.format("GET", "http://%[1]s/4096/" .. math.floor(100000 * math.random() ^ 9))
end
`
	scriptDone = `
function done(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(99), summary.errors.status, summary.errors.connect + summary.errors.read + summary.errors.timeout))
end
`
)

// wrk loads the proxy for a time and returns what it saw.
func (b *bench) wrk(p *peer, script string, d time.Duration) (n int, f figures, err error) {
	file := filepath.Join(p.dir, "load.lua")
	if err := os.WriteFile(file, []byte(fmt.Sprintf(scriptHost, b.origin.addr)+script+scriptDone), 0o644); err != nil {
		return 0, f, err
	}
	asked, used := b.origin.asked.Load(), p.cpu()
	out, err := exec.Command("taskset", "-c", b.loadCore, "wrk", "-t", "1", "-c", fmt.Sprint(b.clients), "-d", fmt.Sprint(d.Seconds()), // wrk reads whole seconds
		"--timeout", "10", "-s", file, "http://"+p.addr).CombinedOutput()
	used = p.cpu() - used
	if err != nil {
		return 0, f, fmt.Errorf("wrk: %w: %s", err, out)
	}
	_, line, _ := strings.Cut(string(out), "RESULT ")
	var took, p99 int64
	var refused, broken int
	if _, err := fmt.Sscan(line, &n, &took, &p99, &refused, &broken); err != nil || n == 0 {
		return 0, f, fmt.Errorf("wrk says: %s", out)
	}
	if refused > 0 || broken > 0 {
		return 0, f, fmt.Errorf("%d answers were errors, %d connections broke", refused, broken)
	}
	f.rate = float64(n) / (time.Duration(took) * time.Microsecond).Seconds()
	f.cpu = used / time.Duration(n)
	f.p99 = time.Duration(p99) * time.Microsecond
	f.hits = max(0, 1-float64(b.origin.asked.Load()-asked)/float64(n))
	return n, f, nil
}

// hits asks for a few objects, which were all stored before.
func hits(size, objects int) func(*bench, *peer) (figures, error) {
	return func(b *bench, p *peer) (figures, error) {
		script := fmt.Sprintf(scriptHits, b.origin.addr, size, objects)
		if err := b.store(p, size, objects); err != nil {
			return figures{}, err
		}
		if _, _, err := b.wrk(p, script, time.Second); err != nil {
			return figures{}, err
		}
		_, f, err := b.wrk(p, script, b.time)
		if err == nil && f.hits < .999 {
			err = fmt.Errorf("only %.1f %% were hits", 100*f.hits)
		}
		return f, err
	}
}

// store asks for the objects one after the other: HAProxy stores none that many
// ask for while it comes.
func (b *bench) store(p *peer, size, objects int) error {
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(c)
	for i := range objects {
		if err := get(c, r, fmt.Sprintf("%s/%d/%d", b.origin.addr, size, i), int64(size)); err != nil {
			return err
		}
	}
	return nil
}

func misses(b *bench, p *peer) (figures, error) {
	_, f, err := b.wrk(p, fmt.Sprintf(scriptMisses, b.origin.addr, b.start+int64(b.turn)), b.time)
	if err == nil && f.hits > .01 {
		err = fmt.Errorf("%.1f %% were hits", 100*f.hits)
	}
	f.hits = 0
	return f, err
}

// mix asks long enough before it is measured for the cache to be full.
func mix(b *bench, p *peer) (figures, error) {
	script := func(seed int) string { return fmt.Sprintf(scriptMix, b.origin.addr, seed) }
	if _, _, err := b.wrk(p, script(1), 2*b.time); err != nil {
		return figures{}, err
	}
	_, f, err := b.wrk(p, script(2), b.time)
	return f, err
}

// cores gives the proxy two cores, one of which the load takes a part of, and
// compares with one: what the load takes is missing from the factor.
func cores(b *bench, p *peer) (figures, error) {
	one, err := hits(1<<10, 100)(b, p)
	if err != nil {
		return one, err
	}
	p.stop()
	dir := p.dir + "-two"
	if err := openDir(dir); err != nil {
		return one, err
	}
	defer os.RemoveAll(dir)
	two, err := startPeerOn(b, p.name, dir, b.serverCore+","+b.loadCore)
	if err != nil {
		return one, err
	}
	defer two.stop()
	f, err := hits(1<<10, 100)(b, two)
	// What two cores give were the load to take nothing, by the CPU time of a request.
	f.rate = 2 * float64(one.cpu) / float64(f.cpu)
	*p = *two
	return f, err
}

// readLines reads a head and returns its first line.
func readLines(r *bufio.Reader) (first string, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return first, err
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return first, nil
		}
		if first == "" {
			first = line
		}
	}
}
