package http1

import (
	"bytes"
	"strconv"

	"fwdproxy/internal/fault"
	"fwdproxy/internal/target"
)

const (
	maxChunkLine = 512     // size, extensions and CRLF
	maxExtra     = 4 << 10 // of extensions in all, beyond one byte for each byte of data
	maxTrailer   = 8 << 10 // the whole trailer section
)

// chunkState is where in a chunked body the reading is, between chunks.
type chunkState struct {
	closing bool // the CRLF behind the data of a chunk is next
	trailer bool // the last chunk came; trailer fields are next
	last    bool // all came
	fields  int
	size    int   // of the trailer section so far
	extra   int64 // bytes of extensions that no data outweighs
	seen    int   // up to where in the buffer there is no LF
}

// chunkLine reads the next line between chunks of data, strictly (RFC 9112,
// Section 7.1), and makes what net/http gets of it: sizes without extensions,
// no trailers.
func (c *Conn) chunkLine(wait bool) error {
	most := maxChunkLine
	if c.chunk.trailer {
		most = maxTrailer - c.chunk.size
	} else if c.chunk.closing {
		most = len("\r\n")
	}
	var line []byte
	for {
		b := c.buf[c.r:c.w]
		if i := bytes.IndexByte(b[c.chunk.seen:], '\n'); i >= 0 {
			line = b[:c.chunk.seen+i+1]
			break
		}
		if len(b) >= most {
			return c.chunkTooLong()
		}
		c.chunk.seen = len(b)
		if !wait {
			return errWouldWait
		}
		if err := c.fill(maxTrailer); err != nil {
			return err
		}
	}
	c.chunk.seen = 0
	if len(line) > most {
		return c.chunkTooLong()
	}
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return errChunkEnd
	}
	// Consuming may give the buffer away, so it comes last.
	err := c.chunkRead(line[:len(line)-2])
	c.consume(len(line))
	if err != nil {
		return err
	}
	return nil
}

func (c *Conn) chunkTooLong() *fault.Error {
	switch {
	case c.chunk.trailer:
		return errTrailerSize
	case c.chunk.closing:
		return errChunkEnd
	}
	return errChunkExt
}

func (c *Conn) chunkRead(line []byte) *fault.Error {
	switch {
	case c.chunk.closing:
		c.chunk.closing = false
		if len(line) > 0 {
			return errChunkEnd
		}
		c.own = append(c.ownRoom[:0], "\r\n"...)
		return nil
	case c.chunk.trailer:
		return c.trailerLine(line)
	}
	size, extension, err := chunkSize(line)
	if err != nil {
		return err
	}
	c.chunk.extra = max(0, c.chunk.extra+int64(extension)-size)
	if c.chunk.extra > maxExtra {
		return errChunkExt
	}
	if size == 0 {
		c.chunk.trailer = true
		return nil
	}
	c.left = size
	c.own = append(strconv.AppendInt(c.ownRoom[:0], size, 16), "\r\n"...)
	return nil
}

// trailerLine holds a trailer field to the rules of any other, and drops it:
// none goes further (RFC 9110, Section 6.5.1).
func (c *Conn) trailerLine(line []byte) *fault.Error {
	if c.chunk.size += len(line) + 2; c.chunk.size > maxTrailer {
		return errTrailerSize
	}
	if len(line) == 0 {
		c.chunk.last = true
		c.own = append(c.ownRoom[:0], "0\r\n\r\n"...)
		return nil
	}
	if c.chunk.fields++; c.chunk.fields > c.s.Limits().HeaderCount {
		return errTrailerSize
	}
	i := 0
	for i < len(line) && token[line[i]] {
		i++
	}
	if i == 0 || i == len(line) || line[i] != ':' {
		return errTrailer
	}
	for _, b := range line[i:] {
		if !text[b] {
			return errTrailer
		}
	}
	return nil
}

// chunkSize reads a size, which is hexadecimal digits and nothing else, and
// the length of the extensions behind it. Blanks before them are refused: only
// the grammar for old senders has them.
func chunkSize(line []byte) (size int64, extension int, err *fault.Error) {
	i := 0
	for ; i < len(line); i++ {
		d, ok := target.Unhex(line[i])
		if !ok {
			break
		}
		if i >= 16 || size > 1<<58 {
			return 0, 0, errChunkSize
		}
		size = size<<4 | int64(d)
	}
	if i == 0 || i < len(line) && line[i] != ';' {
		return 0, 0, errChunkSize
	}
	for _, b := range line[i:] {
		if !text[b] {
			return 0, 0, errChunkExt
		}
	}
	return size, len(line) - i, nil
}
