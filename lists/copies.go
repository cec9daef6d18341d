// Package lists downloads the lists that a policy names by URL, and keeps the
// last good copy of each on disk. A download that failed, or that does not look
// like the list that was there, changes nothing.
//
// It reads no list and decides nothing: what a list holds is told to it.
package lists

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Copies is a folder of last good copies. Each is two files: its note, which
// is replaced at once, and the content that the note names.
type Copies struct{ Dir string }

// Note is what is known of a copy.
type Note struct {
	URL          string    `json:"url"`
	Content      string    `json:"content"` // the file's name
	SHA256       string    `json:"sha256"`
	Entries      int       `json:"entries"`
	ETag         string    `json:"etag,omitempty"`
	LastModified string    `json:"last_modified,omitempty"`
	Changed      time.Time `json:"changed"` // when the content was downloaded
	Checked      time.Time `json:"checked"` // when the server last said that it is still so
}

// Path returns the file that is to be removed for the copy to count no more.
func (c Copies) Path(url string) string { return filepath.Join(c.Dir, key(url)+".json") }

func key(url string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:12])
}

// Note returns what is known of the copy; fs.ErrNotExist where there is none.
func (c Copies) Note(url string) (Note, error) {
	var n Note
	text, err := os.ReadFile(c.Path(url))
	if err != nil {
		return n, err
	}
	if err := json.Unmarshal(text, &n); err != nil || n.URL != url || filepath.Base(n.Content) != n.Content {
		return Note{}, fmt.Errorf("%s is damaged: %w", c.Path(url), fs.ErrNotExist)
	}
	return n, nil
}

// Open opens the copy; fs.ErrNotExist where there is none, or where its
// content is not what was downloaded.
func (c Copies) Open(url string) (io.ReadCloser, error) {
	n, err := c.Note(url)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(filepath.Join(c.Dir, n.Content))
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	if _, err = io.Copy(sum, file); err == nil && hex.EncodeToString(sum.Sum(nil)) != n.SHA256 {
		err = fmt.Errorf("%s is damaged: %w", file.Name(), fs.ErrNotExist)
	}
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// Clean removes what a process left behind that ended while it downloaded. It
// must not run beside a download.
func (c Copies) Clean() {
	if c.Dir == "" {
		return
	}
	left, _ := filepath.Glob(filepath.Join(c.Dir, "new-*"))
	for _, name := range left {
		_ = os.Remove(name)
	}
}

// keep makes the content of a closed temporary file the copy.
func (c Copies) keep(n Note, temporary string) error {
	old, _ := c.Note(n.URL)
	if err := os.Rename(temporary, filepath.Join(c.Dir, n.Content)); err != nil {
		return err
	}
	if err := c.write(n); err != nil {
		return err
	}
	if old.Content != "" && old.Content != n.Content {
		_ = os.Remove(filepath.Join(c.Dir, old.Content)) // who reads it goes on
	}
	return nil
}

// write replaces the note.
func (c Copies) write(n Note) error {
	text, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(c.Dir, "new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // fails once it is renamed
	_, err = file.Write(append(text, '\n'))
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), c.Path(n.URL))
}
