package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"fwdproxy/internal/proxytest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"fwdproxy": func() { os.Exit(Main()) }})
}

// TestScripts plays whole-proxy scripts: an origin, the real binary, a real
// client, and the log line.
//
//	origin FILE          start a scripted origin: $ORIGIN is its address, $OPORT its port
//	expand FILE          replace $VARIABLES in a file of the script
//	(in every script) $APORT is a free port, $EXAMPLES the folder of examples
//	proxy ARGS...        start fwdproxy with these arguments: $PROXY and $ADMIN are where it listens;
//	                     its access log goes to access.log, its messages to proxy.log
//	                     $SECURE is where it listens with TLS
//	certificate FILE NAME...
//	                     write FILE.pem and FILE.key for the names and 127.0.0.1, the first as common name, signed by
//	                     ca.pem, which is made on the way; with the -days N before FILE it ends after N days
//	seen N METHOD PATH   the origin was asked exactly N times
//	arrived METHOD PATH  wait until the origin was asked
//	got REGEXP           some request that the origin saw matches
//	open                 let the origin's waiting answers go on
//	logged REGEXP        the access log has, or soon gets, a line that matches; the line is printed
//	says REGEXP          the same for the proxy's messages
//	signal NAME          send HUP, TERM or KILL to the proxy
//	gone                 the proxy ends by itself with exit code 0; ! gone: it ends with another; it can be started again
//	tlsorigin KIND FILE  origin, over TLS for secure.test; origin-ca.pem is the authority of its certificate,
//	                     which is good, or as KIND says expired, wrong-name or self-signed
//	gomodules DIR        serve the folder over TLS as modules.test, a Go module proxy; origin-ca.pem, $ORIGIN, $OPORT
//	                     as above, and $HITS names a file with a line for each request that it got
//	talk [-fin | -tls] ADDR FILE
//	                     send the file's lines with CRLF to the address, with -fin half-close, with -tls secured, and print what comes
//	                     back until the other side closes
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			s := &stage{dir: e.WorkDir}
			e.Values[stageKey{}] = s
			e.Defer(s.close)
			// A proxy in the environment must play no part, nor loopback's exemption
			// from ours.
			e.Setenv("no_proxy", "")
			e.Setenv("HOME", e.WorkDir)
			examples, err := filepath.Abs("../../examples")
			if err != nil {
				return err
			}
			e.Setenv("EXAMPLES", examples)
			port, err := freePort()
			e.Setenv("APORT", port)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"origin": cmdOrigin, "expand": cmdExpand, "proxy": cmdProxy, "seen": cmdSeen, "arrived": cmdArrived, "got": cmdGot, "open": cmdOpen,
			"logged": cmdLogged, "says": cmdSays, "signal": cmdSignal, "gone": cmdGone, "talk": cmdTalk, "certificate": cmdCertificate,
			"tlsorigin": cmdTLSOrigin, "gomodules": cmdGoModules,
		},
	})
}

// freePort returns a port that was free a moment ago, for what a second
// process must know beforehand.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

type stageKey struct{}

// stage is what one script has running.
type stage struct {
	dir    string
	origin *proxytest.Origin
	stop   func()     // ends what else was started
	ca     *authority // made by the first certificate
	proxy  *exec.Cmd
	done   chan error
	out    *os.File
	err    *lineWatch
}

func (s *stage) close() {
	if s.proxy != nil && s.done != nil {
		_ = s.proxy.Process.Kill()
		<-s.done
	}
	if s.origin != nil {
		s.origin.Close()
	}
	if s.stop != nil {
		s.stop()
	}
}

func stageOf(ts *testscript.TestScript) *stage { return ts.Value(stageKey{}).(*stage) }

// patience is how long something that must happen may take.
const patience = 20 * time.Second

func cmdOrigin(ts *testscript.TestScript, _ bool, args []string) {
	o, err := proxytest.StartOrigin(ts.ReadFile(args[0]))
	ts.Check(err)
	stageOf(ts).origin = o
	ts.Setenv("ORIGIN", o.Addr)
	_, port, _ := net.SplitHostPort(o.Addr)
	ts.Setenv("OPORT", port)
}

func cmdExpand(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		// Written beside and renamed, as editors do.
		path := ts.MkAbs(name)
		ts.Check(os.WriteFile(path+".new", []byte(text), 0o644))
		ts.Check(os.Rename(path+".new", path))
	}
}

// lineWatch keeps what a process writes and lets tests wait for it.
type lineWatch struct {
	mu   sync.Mutex
	text bytes.Buffer
	file *os.File
}

func (w *lineWatch) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	return w.file.Write(p)
}

func (w *lineWatch) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func cmdProxy(ts *testscript.TestScript, _ bool, args []string) {
	s := stageOf(ts)
	if s.done != nil {
		ts.Fatalf("a proxy runs already")
	}
	exe, err := exec.LookPath("fwdproxy")
	ts.Check(err)
	out, err := os.Create(filepath.Join(s.dir, "access.log"))
	ts.Check(err)
	messages, err := os.Create(filepath.Join(s.dir, "proxy.log"))
	ts.Check(err)
	s.out, s.err = out, &lineWatch{file: messages}
	s.proxy = exec.Command(exe, args...)
	s.proxy.Dir, s.proxy.Stdout, s.proxy.Stderr = s.dir, out, s.err
	ts.Check(s.proxy.Start())
	s.done = make(chan error, 1)
	go func() { s.done <- s.proxy.Wait() }()
	ts.Check(poll(func() bool { return strings.Contains(s.err.String(), "  try ") }, func() error {
		return fmt.Errorf("the proxy does not start:\n%s", s.err)
	}))
	if m := regexp.MustCompile(`listening +(\S+)`).FindStringSubmatch(s.err.String()); m != nil {
		ts.Setenv("PROXY", m[1])
	}
	if m := regexp.MustCompile(`listening +(\S+) with TLS`).FindStringSubmatch(s.err.String()); m != nil {
		ts.Setenv("SECURE", m[1])
	}
	if m := regexp.MustCompile(`admin +http://([^/]+)/`).FindStringSubmatch(s.err.String()); m != nil {
		ts.Setenv("ADMIN", m[1])
	}
}

// poll waits for ok with a bound.
func poll(ok func() bool, failure func() error) error {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if ok() {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return failure()
}

func cmdSeen(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := stageOf(ts).origin.Count(args[1], args[2]); got != want {
		ts.Fatalf("the origin got %s %s %d times, want %d", args[1], args[2], got, want)
	}
}

func cmdArrived(ts *testscript.TestScript, _ bool, args []string) {
	o := stageOf(ts).origin
	ts.Check(poll(func() bool { return o.Count(args[0], args[1]) > 0 }, func() error {
		return fmt.Errorf("the origin was never asked for %s %s", args[0], args[1])
	}))
}

func cmdGot(ts *testscript.TestScript, neg bool, args []string) {
	var all bytes.Buffer
	for _, r := range stageOf(ts).origin.Requests() {
		fmt.Fprintf(&all, "%s %s\nHost: %s\n", r.Method, r.Path, r.Host)
		_ = r.Header.Write(&all)
		fmt.Fprintf(&all, "\n%s\n", r.Body)
	}
	text := strings.ReplaceAll(all.String(), "\r", "")
	if regexp.MustCompile("(?m)"+args[0]).MatchString(text) == neg {
		ts.Fatalf("match of %q: %v; the origin got:\n%s", args[0], !neg, text)
	}
}

func cmdOpen(ts *testscript.TestScript, _ bool, _ []string) { stageOf(ts).origin.Open() }

func cmdLogged(ts *testscript.TestScript, neg bool, args []string) {
	path := filepath.Join(stageOf(ts).dir, "access.log")
	if len(args) > 1 {
		path = ts.MkAbs(args[1])
	}
	waitFor(ts, neg, args[0], func() string { b, _ := os.ReadFile(path); return string(b) })
}

func cmdSays(ts *testscript.TestScript, neg bool, args []string) {
	waitFor(ts, neg, args[0], stageOf(ts).err.String)
}

func waitFor(ts *testscript.TestScript, neg bool, pattern string, text func() string) {
	re := regexp.MustCompile("(?m)^.*" + pattern + ".*$")
	if neg {
		if m := re.FindString(text()); m != "" {
			ts.Fatalf("there is a line that matches %q: %s", pattern, m)
		}
		return
	}
	ts.Check(poll(func() bool { return re.MatchString(text()) }, func() error {
		return fmt.Errorf("no line matches %q in:\n%s", pattern, text())
	}))
	ts.Logf("%s", re.FindString(text()))
}

func cmdSignal(ts *testscript.TestScript, _ bool, args []string) {
	sig := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}[args[0]]
	ts.Check(stageOf(ts).proxy.Process.Signal(sig))
}

func cmdGone(ts *testscript.TestScript, neg bool, _ []string) {
	s := stageOf(ts)
	select {
	case err := <-s.done:
		if (err != nil) != neg {
			ts.Fatalf("the proxy ended: %v", err)
		}
		s.done = nil
	case <-time.After(patience):
		ts.Fatalf("the proxy does not end")
	}
}

func cmdTalk(ts *testscript.TestScript, _ bool, args []string) {
	fin, secure := args[0] == "-fin", args[0] == "-tls"
	if fin || secure {
		args = args[1:]
	}
	conn, err := net.Dial("tcp", args[0])
	ts.Check(err)
	if secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // the script's own certificate
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, err = io.WriteString(conn, strings.ReplaceAll(ts.ReadFile(args[1]), "\n", "\r\n"))
	ts.Check(err)
	if fin {
		ts.Check(conn.(*net.TCPConn).CloseWrite())
	}
	reply, err := io.ReadAll(conn)
	ts.Check(err)
	_, err = ts.Stdout().Write(bytes.ReplaceAll(reply, []byte("\r\n"), []byte("\n")))
	ts.Check(err)
}
