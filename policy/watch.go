package policy

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a file must rest before a change counts, since editors
// write in several steps.
const settle = 200 * time.Millisecond

// Watch calls changed, from one goroutine, after any of the files that files
// returns was written, replaced or removed, until ctx is done. The set is asked
// for again after each change. It watches directories, since most editors
// replace a file instead of writing it.
func Watch(ctx context.Context, files func() []string, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	watched := map[string]bool{}
	wanted := map[string]bool{}
	update := func() error {
		clear(wanted)
		for _, f := range files() {
			abs, err := filepath.Abs(f)
			if err != nil {
				return err
			}
			wanted[abs] = true
			if dir := filepath.Dir(abs); !watched[dir] {
				if err := w.Add(dir); err != nil {
					return err
				}
				watched[dir] = true
			}
		}
		return nil
	}
	if err := update(); err != nil {
		w.Close()
		return err
	}
	go func() {
		defer w.Close()
		timer := time.NewTimer(time.Hour)
		timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case e, ok := <-w.Events:
				if !ok {
					return
				}
				// A directory that was swapped through a link (as Kubernetes mounts
				// do) names the link, not the file.
				if wanted[e.Name] || filepath.Base(e.Name) == "..data" {
					timer.Reset(settle)
				}
			case err, ok := <-w.Errors:
				if !ok {
					return
				}
				// Where events were lost, something may have changed.
				if errors.Is(err, fsnotify.ErrEventOverflow) {
					timer.Reset(settle)
				}
			case <-timer.C:
				changed()
				_ = update() // a list's directory that is gone is the reload's to report
			}
		}
	}()
	return nil
}
