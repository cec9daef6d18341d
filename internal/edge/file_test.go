package edge

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fileBody sends itself in pieces of a file, as a stored body does.
type fileBody struct {
	f    *os.File
	n    int64 // bytes that it sends
	fail error // what it ends with then
}

func (b *fileBody) Read(p []byte) (int, error) {
	return 0, errors.New("it is to be asked to write itself")
}

func (b *fileBody) Close() error { return b.f.Close() }

func (b *fileBody) WriteTo(w io.Writer) (total int64, err error) {
	for left := b.n; left > 0; {
		n, err := w.(io.ReaderFrom).ReadFrom(&io.LimitedReader{R: b.f, N: min(left, 64<<10)})
		total += n
		left -= n
		if err != nil {
			return total, err
		}
	}
	return total, b.fail
}

// stored is a next hop whose answer is size bytes long and comes from a file.
func stored(t *testing.T, content []byte, send int64, fail error) roundTrip {
	t.Helper()
	path := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return func(r *http.Request) (*http.Response, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		h := http.Header{"Content-Length": {"300000"}}
		return &http.Response{StatusCode: 200, Header: h, Body: &fileBody{f, send, fail}, ContentLength: 300000, Request: r}, nil
	}
}

func TestAFileGoesOutWholeAndIsCounted(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 30000)
	for _, version := range []string{"1.1", "1.0"} {
		s := newStand(t, stored(t, content, 300000, nil), nil)
		got := s.talk(t, "GET http://origin.test/ HTTP/"+version+"\r\nHost: origin.test\r\nConnection: close\r\n\r\n")
		_, body, _ := strings.Cut(got, "\r\n\r\n")
		if body != string(content) {
			t.Errorf("HTTP/%s: got %d bytes", version, len(body))
		}
		if r := s.record(t); r.BytesOut != 300000 || r.Error != "" {
			t.Errorf("HTTP/%s: the log says %d bytes, %q", version, r.BytesOut, r.Error)
		}
	}
}

func TestAStoredBodyThatCannotBeReadOnBreaksTheConnection(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 30000)
	s := newStand(t, stored(t, content, 130000, errors.New("damaged")), nil)
	got := s.talk(t, "GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n")
	_, body, _ := strings.Cut(got, "\r\n\r\n")
	if body != string(content[:130000]) {
		t.Errorf("got %d bytes", len(body))
	}
	if r := s.record(t); r.BytesOut != 130000 || r.Error != "http_response_incomplete" || r.ErrorCause != "damaged" {
		t.Errorf("the log says %d bytes, %q, %q", r.BytesOut, r.Error, r.ErrorCause)
	}
}

func TestAClientThatLeavesAFileIsNotTheBodysFault(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 3<<20)
	s := newStand(t, stored(t, content, int64(len(content)), nil), nil)
	conn := s.dial(t)
	send(t, conn, "GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n")
	if _, err := io.ReadFull(conn, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if r := s.record(t); r.Error != clientGone {
		t.Errorf("the log says %q, %q", r.Error, r.ErrorCause)
	}
}
