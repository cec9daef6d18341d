package compress

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

const pieceSize = 32 << 10

// encoded is a body as it is read from its pool, encoded.
type encoded struct {
	src    io.ReadCloser
	coding string
	mu     sync.Mutex
	c      coder // nil once given back
	live   bool  // a piece that is short goes out at once, since nothing may follow for long
	piece  []byte
	out    bytes.Buffer
	err    error // after out
}

func encode(src io.ReadCloser, coding string, live bool) *encoded {
	e := &encoded{src: src, coding: coding, live: live, c: coders[coding].Get().(coder)}
	e.c.Reset(&e.out)
	return e
}

func (e *encoded) Read(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.out.Len() == 0 {
		if e.err != nil {
			return 0, e.err
		}
		e.more()
	}
	return e.out.Read(p)
}

// more encodes a piece. An end that is none is passed on as it is: without the
// end of the coding nobody takes it for whole.
func (e *encoded) more() {
	if e.piece == nil {
		e.piece = make([]byte, pieceSize)
	}
	n, err := e.src.Read(e.piece)
	if n > 0 {
		if _, werr := e.c.Write(e.piece[:n]); werr != nil {
			e.err = werr
			return
		}
	}
	switch {
	case err == io.EOF:
		if e.err = e.c.Close(); e.err == nil {
			e.err = io.EOF
		}
		e.giveBack()
	case err != nil:
		e.err = err
	case e.live && n < len(e.piece):
		e.err = e.c.Flush()
	}
}

func (e *encoded) giveBack() {
	if e.c != nil {
		e.c.Reset(nil)
		coders[e.coding].Put(e.c)
		e.c = nil
	}
}

var errClosed = errors.New("compress: read from a body that was closed")

// Close implements io.Closer. It ends a Read that is waiting.
func (e *encoded) Close() error {
	err := e.src.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil {
		e.err = errClosed
	}
	e.out.Reset()
	e.giveBack()
	return err
}
