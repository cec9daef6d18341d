// Command bench compares the proxy with its peers on one core: it starts each
// in turn on a loopback port in a temporary folder, loads it from another core,
// and prints requests a second and CPU time a request. docs/performance.md says
// what the rows mean; `make bench` builds and runs it.
package main

import (
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

type options struct {
	bin, out   string
	peers      []string
	rows       []string
	rounds     int
	time       time.Duration
	clients    int
	idle       int
	serverCore string
	loadCore   string
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	var o options
	var names, rows string
	flag.StringVar(&o.bin, "bin", "bin/fwdproxy", "the proxy's binary")
	flag.StringVar(&o.out, "out", "", "write the table between the marks of this file, which docs/performance.md has")
	flag.StringVar(&names, "peers", strings.Join(peerNames(), ","), "which proxies, in turns")
	flag.StringVar(&rows, "rows", strings.Join(rowNames(), ","), "which rows")
	flag.IntVar(&o.rounds, "rounds", 2, "how often each proxy has its turn in a row")
	flag.DurationVar(&o.time, "time", 3*time.Second, "how long one turn is measured")
	flag.IntVar(&o.clients, "clients", 64, "connections of the load")
	flag.IntVar(&o.idle, "idle", 9000, "connections of the row idle")
	flag.StringVar(&o.serverCore, "server-core", "0", "the core of the proxy that is measured")
	flag.StringVar(&o.loadCore, "load-core", "1", "the core of the load and of the origin")
	flag.Parse()
	o.peers, o.rows = strings.Split(names, ","), strings.Split(rows, ",")
	if err := run(o); err != nil {
		log.Fatal(err)
	}
}

func run(o options) error {
	for _, name := range o.peers {
		if peers[name] == nil {
			return fmt.Errorf("-peers: there is no %q; there are %s", name, strings.Join(peerNames(), ", "))
		}
	}
	for _, name := range o.rows {
		if findRow(name) == nil {
			return fmt.Errorf("-rows: there is no %q; there are %s", name, strings.Join(rowNames(), ", "))
		}
	}
	dir, err := os.MkdirTemp("", "fwdproxy-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // some peers give up being root
		return err
	}
	origin, err := newOrigin()
	if err != nil {
		return err
	}
	b := &bench{options: o, dir: dir, origin: origin, start: time.Now().UnixNano()}
	var tables []string
	for _, name := range o.rows {
		t, err := b.row(findRow(name))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Println(t)
		tables = append(tables, t)
	}
	if o.out == "" {
		return nil
	}
	return writeTables(o.out, strings.Join(tables, "\n"))
}

// bench is one run.
type bench struct {
	options
	dir    string
	origin *origin
	start  int64
	turn   int
}

// row measures every peer that can do the row in turns, and repeats.
func (b *bench) row(r *row) (string, error) {
	seen := map[string][]figures{}
	for range b.rounds {
		for _, name := range b.peers {
			if r.only != nil && !slices.Contains(r.only, name) {
				continue
			}
			b.turn++
			dir := filepath.Join(b.dir, fmt.Sprintf("%s-%d", name, b.turn))
			f, err := b.measure(r, name, dir)
			if err != nil {
				log.Printf("%s %s: %v", r.name, name, err)
				continue
			}
			log.Printf("%-7s %-14s %s", r.name, name, f.line(r))
			seen[name] = append(seen[name], f)
		}
	}
	return r.table(b.peers, seen), nil
}

func (b *bench) measure(r *row, name, dir string) (figures, error) {
	if err := openDir(dir); err != nil {
		return figures{}, err
	}
	defer os.RemoveAll(dir)
	p, err := startPeer(b, name, dir)
	if err != nil {
		return figures{}, err
	}
	defer p.stop()
	f, err := r.measure(b, p)
	if err == nil && !p.alive() {
		err = fmt.Errorf("it ended on its own")
	}
	return f, err
}

// openDir makes a folder that peers can write to that give up being root.
func openDir(dir string) error {
	if err := os.Mkdir(dir, 0o777); err != nil {
		return err
	}
	return os.Chmod(dir, 0o777)
}

const (
	markBegin = "<!-- make bench writes from here -->\n"
	markEnd   = "<!-- to here -->\n"
)

func writeTables(file, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(old), markBegin)
	_, after, ok2 := strings.Cut(rest, markEnd)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no marks to write between", file)
	}
	return os.WriteFile(file, []byte(before+markBegin+machine()+"\n"+text+markEnd+after), 0o644)
}

// machine says what the figures were measured on.
func machine() string {
	model := "an unknown processor"
	info, _ := os.ReadFile("/proc/cpuinfo")
	for l := range strings.SplitSeq(string(info), "\n") {
		if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == "model name" {
			model = strings.TrimSpace(v)
			break
		}
	}
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("%s, %s; load of the machine at the end (1, 5, 15 minutes): %s.\n",
		time.Now().UTC().Format("2006-01-02"), model, strings.Join(strings.Fields(string(load))[:3], ", "))
}

func peerNames() []string {
	names := slices.Sorted(maps.Keys(peers))
	i := slices.Index(names, "fwdproxy")
	return slices.Concat([]string{"fwdproxy"}, names[:i], names[i+1:])
}
