package main

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fwdproxy/internal/conform"
)

var (
	conformRuns   = flag.String("conform.runs", "forward", "which runs of the conformance cases there are, with commas between, or all: "+strings.Join(conformNames(), " "))
	conformBinary = flag.String("conform.bin", "", "the fwdproxy to play them through; without it this test binary, which is one")
	conformKeep   = flag.String("conform.keep", "", "a folder to leave policies, logs and reports in")
	conformUpdate = flag.Bool("conform.update", false, "write what does not pass to testdata/conform")
)

// conformRun is one way to play all cases.
type conformRun struct {
	name    string
	reverse bool
	disk    bool           // the disk tier alone, without memory
	stop    syscall.Signal // between the requests of each case the proxy gets this and starts again
}

var allConformRuns = []conformRun{
	{name: "forward"},
	{name: "reverse", reverse: true},
	{name: "forward-disk", disk: true},
	{name: "reverse-disk", disk: true, reverse: true},
	{name: "forward-restart", disk: true, stop: syscall.SIGTERM},
	{name: "reverse-restart", disk: true, stop: syscall.SIGTERM, reverse: true},
	{name: "forward-kill", disk: true, stop: syscall.SIGKILL},
	{name: "reverse-kill", disk: true, stop: syscall.SIGKILL, reverse: true},
}

func conformNames() []string {
	var names []string
	for _, r := range allConformRuns {
		names = append(names, r.name)
	}
	return names
}

// TestConform plays the public conformance cases through the real binary.
// What does not pass must stand in testdata/conform.
func TestConform(t *testing.T) {
	for _, r := range allConformRuns {
		if *conformRuns == "all" || slices.Contains(strings.Split(*conformRuns, ","), r.name) {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				r.play(t)
			})
		}
	}
}

func (r conformRun) play(t *testing.T) {
	cases, err := conform.Load()
	if err != nil {
		t.Fatal(err)
	}
	origin, err := conform.StartOrigin()
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	p := r.prepare(t, origin.Addr)
	if err := p.check(); err != nil && r.disk && *conformBinary != "" && strings.Contains(err.Error(), "unknown") {
		t.Skip("the binary that -conform.bin names has no disk tier")
	} else if err != nil {
		t.Fatal(err)
	}
	if err := p.run(); err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	if err := p.target.Probe(); err != nil {
		t.Fatalf("%v\n%s", err, p.messages())
	}
	player := conform.Player{Proxy: p.target, Origin: origin, Pause: conform.Pause}
	if r.stop != 0 {
		player.Between = func() error { return p.restart(r.stop) }
	}
	results, err := player.Play(cases)
	if err != nil {
		t.Fatal(err)
	}
	report := conform.NewReport(cases, results)
	var text bytes.Buffer
	report.Write(&text, r.name)
	t.Log("\n" + text.String())
	if *conformKeep != "" {
		if err := os.WriteFile(filepath.Join(p.dir, "report.txt"), text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r.compare(t, report)
}

// compare fails for what does not pass and is not on file.
func (r conformRun) compare(t *testing.T, report *conform.Report) {
	path := filepath.Join("testdata", "conform", r.name+".txt")
	failing := report.Failing()
	if *conformUpdate {
		if err := os.WriteFile(path, []byte(strings.Join(append(failing, ""), "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; make conform ARGS=-conform.update writes it", err)
	}
	onFile := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		id, _, _ := strings.Cut(line, " ")
		onFile[id] = true
	}
	for _, f := range failing {
		id, verdict, _ := strings.Cut(f, " ")
		if !onFile[id] {
			t.Errorf("%s: %s; it is not in %s", id, verdict, path)
		}
		delete(onFile, id)
	}
	for id := range onFile {
		t.Logf("%s passes now; make conform ARGS=-conform.update takes it out of %s", id, path)
	}
}

// conformProxy is the binary with its policy, on ports that stay.
type conformProxy struct {
	binary string
	dir    string
	args   []string
	target conform.Proxy
	cmd    *exec.Cmd
	log    *os.File
}

func (r conformRun) prepare(t *testing.T, origin string) *conformProxy {
	binary, err := os.Executable()
	if *conformBinary != "" {
		binary, err = filepath.Abs(*conformBinary)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := &conformProxy{binary: binary, dir: t.TempDir(), args: []string{"fwdproxy", "--policy", "policy.toml"}}
	if *conformKeep != "" {
		p.dir = filepath.Join(*conformKeep, r.name)
		if err := os.MkdirAll(p.dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	p.target.Addr = net.JoinHostPort("127.0.0.1", port)
	if r.reverse {
		p.args = append(p.args, "--reverse")
	} else {
		p.target.Origin = origin
	}
	if err := os.WriteFile(filepath.Join(p.dir, "policy.toml"), []byte(r.policy(p.target.Addr, origin)), 0o644); err != nil {
		t.Fatal(err)
	}
	if p.log, err = os.Create(filepath.Join(p.dir, "proxy.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.log.Close() })
	return p
}

func (r conformRun) policy(listen, origin string) string {
	side := fmt.Sprintf("[forward]\nlisten = [%q]\n", listen)
	// The suite's cases of RFC 9213 name this field, which a forward proxy heeds
	// only when told.
	cache := `targeted = ["CDN-Cache-Control"]`
	if r.reverse {
		cache = ""
		side = fmt.Sprintf(`[reverse]
listen = [%q]
[[reverse.site]]
hosts = ["*"]
pool = "app"
[[pool]]
name = "app"
peers = [%q]
`, listen, origin)
	}
	if r.disk {
		cache += "\nmemory = 0\n[cache.disk]\ndir = \"store\"\nsize = \"128MiB\""
	}
	return side + `[acl]
private_destinations = "allow"
[[acl.rule]]
action = "allow"
[cache]
` + cache + `
[log]
access = "access.log"
[admin]
listen = ""
`
}

// check asks the binary whether it takes the policy.
func (p *conformProxy) check() error {
	cmd := exec.Cmd{Path: p.binary, Args: []string{"fwdproxy", "check", "policy.toml"}, Dir: p.dir}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// run starts the binary and waits until it listens.
func (p *conformProxy) run() error {
	p.cmd = &exec.Cmd{Path: p.binary, Args: p.args, Dir: p.dir, Stdout: p.log, Stderr: p.log}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	return poll(func() bool {
		c, err := net.DialTimeout("tcp", p.target.Addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	}, func() error {
		p.kill()
		return fmt.Errorf("the proxy does not start:\n%s", p.messages())
	})
}

// killGrace is for what is on its way to the disk, which a kill may take.
const killGrace = time.Second

// restart ends the process by the signal and starts it again.
func (p *conformProxy) restart(stop syscall.Signal) error {
	if stop == syscall.SIGKILL {
		time.Sleep(killGrace)
	}
	if err := p.cmd.Process.Signal(stop); err != nil {
		return err
	}
	if err := p.cmd.Wait(); err != nil && stop != syscall.SIGKILL {
		return fmt.Errorf("the proxy ended with %w:\n%s", err, p.messages())
	}
	return p.run()
}

func (p *conformProxy) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (p *conformProxy) messages() string {
	b, _ := os.ReadFile(filepath.Join(p.dir, "proxy.log"))
	return string(b)
}
