package lists

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/hop"
	"fwdproxy/internal/target"
)

const (
	maxTime      = 5 * time.Minute
	maxSize      = 1 << 30 // unpacked
	maxRedirects = 5
	// A list with at least so many entries must not lose more than half of them.
	shrinkable = 20
)

// Content is what a list holds.
type Content struct {
	Entries int
	Wrong   int // lines that are no entry and nothing else that is known
}

// Fetcher downloads lists.
type Fetcher struct {
	Copies    Copies
	Transport http.RoundTripper
	Permit    func(netip.AddrPort) error // asked about each address that is dialled
	Examine   func(io.Reader) (Content, error)
	Agent     string // as in "fwdproxy/1.0"
	Now       func() time.Time
}

// Fetch asks for the list at address, and reports whether there is a new copy.
// On any error the copy stays as it was.
func (f *Fetcher) Fetch(ctx context.Context, address string) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	old, err := f.Copies.Note(address)
	if err == nil {
		var body io.ReadCloser
		if body, err = f.Copies.Open(address); err == nil {
			body.Close()
		}
	}
	if err != nil {
		old = Note{}
	}
	res, err := f.get(ctx, address, old)
	if err != nil {
		return false, plainError(err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNotModified {
		old.Checked = f.Now()
		return false, f.Copies.write(old)
	}
	return f.take(res, address, old)
}

// get follows redirects, none of which may leave TLS.
func (f *Fetcher) get(ctx context.Context, address string, old Note) (*http.Response, error) {
	u, err := url.Parse(address)
	for range maxRedirects {
		if err != nil {
			return nil, err
		}
		if _, err := target.FromURL(u); err != nil {
			return nil, err
		}
		req := (&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{
			"Accept": {"*/*"}, "Accept-Encoding": {"gzip"}, "User-Agent": {f.Agent}}}).WithContext(hop.With(ctx, &hop.Hop{Permit: f.Permit}))
		if old.ETag != "" {
			req.Header.Set("If-None-Match", old.ETag)
		}
		if old.LastModified != "" {
			req.Header.Set("If-Modified-Since", old.LastModified)
		}
		res, err := f.Transport.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		switch {
		case res.StatusCode == http.StatusOK, res.StatusCode == http.StatusNotModified && old.Content != "":
			return res, nil
		case res.StatusCode < 300 || res.StatusCode > 399 || res.Header.Get("Location") == "":
			res.Body.Close()
			return nil, fmt.Errorf("the server answers %d %s", res.StatusCode, http.StatusText(res.StatusCode))
		}
		res.Body.Close()
		next, err := u.Parse(res.Header.Get("Location"))
		if err != nil {
			return nil, errors.New("the server redirects to what is no URL")
		}
		if u.Scheme == "https" && next.Scheme != "https" {
			return nil, errors.New("the server redirects from https to http")
		}
		next.Fragment = ""
		u = next
	}
	return nil, fmt.Errorf("the server redirects more than %d times", maxRedirects-1)
}

// take makes what came the copy, if it is a list.
func (f *Fetcher) take(res *http.Response, address string, old Note) (changed bool, err error) {
	if err := os.MkdirAll(f.Copies.Dir, 0o755); err != nil {
		return false, err
	}
	file, err := os.CreateTemp(f.Copies.Dir, "new-*")
	if err != nil {
		return false, err
	}
	defer func() { _ = os.Remove(file.Name()) }() // fails once it is renamed
	defer file.Close()
	sum := sha256.New()
	if err := receive(file, sum, res); err != nil {
		return false, plainError(err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	content, err := f.Examine(file)
	if err != nil {
		return false, err
	}
	if err := f.doubt(content, address, old); err != nil {
		return false, err
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return false, err
	}
	now := f.Now()
	n := Note{URL: address, SHA256: hex.EncodeToString(sum.Sum(nil)), Entries: content.Entries,
		ETag: res.Header.Get("ETag"), LastModified: res.Header.Get("Last-Modified"), Changed: now, Checked: now}
	n.Content = key(address) + "-" + n.SHA256[:16] + ".list"
	if changed = n.SHA256 != old.SHA256; !changed {
		n.Changed = old.Changed
	}
	return changed, f.Copies.keep(n, file.Name())
}

// receive writes the body into file and sum, unpacked.
func receive(file io.Writer, sum hash.Hash, res *http.Response) error {
	var in io.Reader = res.Body
	switch coding := res.Header.Get("Content-Encoding"); coding {
	case "", "identity", "gzip", "x-gzip":
	default:
		return fmt.Errorf("the server answers in the coding %q", coding)
	}
	for range 2 { // a compressed file may be sent compressed
		packed := bufio.NewReader(in)
		in = packed
		if head, _ := packed.Peek(2); string(head) == "\x1f\x8b" {
			z, err := gzip.NewReader(packed)
			if err != nil {
				return err
			}
			in = z
		}
	}
	text := bufio.NewReader(in)
	head, _ := text.Peek(512)
	if head = bytes.TrimLeft(head, "\ufeff \t\r\n"); len(head) > 0 && head[0] == '<' {
		return errors.New("it is a page (HTML or XML), not a list; perhaps a network asks for a login")
	}
	n, err := io.Copy(io.MultiWriter(file, sum), io.LimitReader(text, maxSize+1))
	if err == nil && n > maxSize {
		return fmt.Errorf("it is larger than %d MiB", maxSize>>20)
	}
	return err
}

// doubt says why what came is not the list that it should be.
func (f *Fetcher) doubt(c Content, address string, old Note) error {
	switch {
	case c.Entries == 0:
		return errors.New("it has no entry")
	case c.Wrong > c.Entries/2:
		return fmt.Errorf("%d lines are no entries, and %d are", c.Wrong, c.Entries)
	case old.Entries >= shrinkable && c.Entries < old.Entries/2:
		return fmt.Errorf("it has %d entries and had %d; to take it all the same remove %s and reload", c.Entries, old.Entries, f.Copies.Path(address))
	}
	return nil
}

// plainError names what a fault is about, for people.
func plainError(err error) error {
	var bad *fault.Error
	if errors.As(err, &bad) {
		if bad.Details != "" {
			return fmt.Errorf("%s: %s", bad.Kind, bad.Details)
		}
		return fmt.Errorf("%s", bad.Kind)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("it takes longer than %s", maxTime)
	}
	return err
}
