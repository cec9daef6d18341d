package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"fwdproxy/acl"
	"fwdproxy/internal/hop"
	"fwdproxy/lists"
	"fwdproxy/policy"
	"fwdproxy/upstream"
)

const (
	refreshTick  = time.Second
	retryAtLeast = 10 * time.Minute // after a failed download, unless refresh is shorter
	atOnce       = 4                // downloads
)

// downloads is what came of the lists' downloads. Its zero value is ready.
type downloads struct {
	mu    sync.Mutex
	state map[string]*downloadState // by URL
}

// downloadState is about one URL.
type downloadState struct {
	due      time.Time
	checked  time.Time // when the server last said what the list is; zero for never
	failures uint64
	err      string // of the last try; "" when it went well
}

// fetcher downloads through up, from where the policy's guard permits.
func (e *engine) fetcher(p *policy.Policy, up http.RoundTripper) *lists.Fetcher {
	guard := e.guard(p.ACL)
	return &lists.Fetcher{
		Copies:    p.Copies(),
		Transport: up,
		Permit: func(a netip.AddrPort) error {
			if a == hop.Unknown { // a parent looks the name up, which the policy names
				return nil
			}
			return guard(a)
		},
		Examine: func(r io.Reader) (lists.Content, error) {
			entries, wrong, err := acl.Examine(r)
			return lists.Content{Entries: entries, Wrong: wrong}, err
		},
		Agent: "fwdproxy/" + versionString(),
		Now:   time.Now,
	}
}

// complete returns p once every list that it downloads is there: p itself, or
// p loaded again after the missing ones were downloaded.
func (e *engine) complete(p *policy.Policy, embedded string) (*policy.Policy, error) {
	missing := onlyMissing(p.ACL.Downloads())
	if len(missing) == 0 {
		return p, nil
	}
	up, err := upstream.New(p.Config.Upstream, nil)
	if err != nil {
		return nil, err
	}
	defer up.Close()
	e.fetch(context.Background(), e.fetcher(p, up), missing)
	if p, err = policy.Load(p.File, embedded); err != nil {
		return nil, err
	}
	var failed []error
	for _, d := range onlyMissing(p.ACL.Downloads()) {
		failed = append(failed, fmt.Errorf("list %q can not be downloaded from %s (%s), and there is no earlier copy in %s; make it reachable, or save it and put it under \"files\"",
			d.List, withoutQuery(d.URL), e.downloads.of(d.URL).err, p.Config.ACL.DownloadDir))
	}
	return p, errors.Join(failed...)
}

func onlyMissing(all []acl.Download) []acl.Download {
	var out []acl.Download
	for _, d := range all {
		if d.Missing {
			out = append(out, d)
		}
	}
	return out
}

// fetch downloads what is given, and reports whether a copy changed.
func (e *engine) fetch(ctx context.Context, f *lists.Fetcher, due []acl.Download) (changed bool) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	turns, seen := make(chan struct{}, atOnce), map[string]bool{}
	for _, d := range due {
		if seen[d.URL] {
			continue
		}
		seen[d.URL] = true
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			isNew, err := f.Fetch(ctx, d.URL)
			if ctx.Err() != nil {
				return
			}
			e.downloads.note(d, err, time.Now())
			switch {
			case err != nil && d.Missing:
				e.log.Error("cannot download a list", "list", d.List, "url", withoutQuery(d.URL), "error", err)
			case err != nil:
				e.log.Warn("cannot refresh a list; the last good copy stays", "list", d.List, "url", withoutQuery(d.URL), "error", err)
			case isNew:
				e.log.Info("list downloaded", "list", d.List, "url", withoutQuery(d.URL))
				mu.Lock()
				changed = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return changed
}

// refreshLists downloads lists when their time has come, until ctx is done. A
// new copy is a new policy.
func (s *server) refreshLists(ctx context.Context) {
	tick := time.NewTicker(refreshTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			l := s.current.Load()
			due := s.downloads.due(l.policy, now)
			if len(due) > 0 && s.fetch(ctx, s.fetcher(l.policy, l.upstream), due) {
				_, _ = s.reloadNow() // which reports its own error
			}
		}
	}
}

// due returns the downloads whose time has come.
func (d *downloads) due(p *policy.Policy, now time.Time) []acl.Download {
	var out []acl.Download
	for _, l := range p.ACL.Downloads() {
		st := d.known(p.Copies(), l)
		if !now.Before(st.due) {
			out = append(out, l)
		}
	}
	return out
}

// known returns the state, at first from what the copy's note says.
func (d *downloads) known(c lists.Copies, l acl.Download) downloadState {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := d.state[l.URL]
	if st == nil {
		st = &downloadState{}
		if n, err := c.Note(l.URL); err == nil {
			st.checked, st.due = n.Checked, n.Checked.Add(l.Refresh)
		}
		d.put(l.URL, st)
	}
	return *st
}

func (d *downloads) put(url string, st *downloadState) {
	if d.state == nil {
		d.state = map[string]*downloadState{}
	}
	d.state[url] = st
}

// of returns the state, zero for a URL that was never tried.
func (d *downloads) of(url string) downloadState {
	d.mu.Lock()
	defer d.mu.Unlock()
	if st := d.state[url]; st != nil {
		return *st
	}
	return downloadState{}
}

// note records a try.
func (d *downloads) note(l acl.Download, err error, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := d.state[l.URL]
	if st == nil {
		st = &downloadState{}
		d.put(l.URL, st)
	}
	if err != nil {
		st.failures++
		st.err, st.due = err.Error(), now.Add(min(l.Refresh, retryAtLeast))
		return
	}
	st.err, st.checked, st.due = "", now, now.Add(l.Refresh)
}
