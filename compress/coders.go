package compress

import (
	"io"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// coder is one that is writing.
type coder interface {
	io.WriteCloser
	Flush() error
	Reset(io.Writer)
}

const (
	gzipLevel   = 5
	brotliLevel = 4
	// zstdWindow is far below what browsers bound it to (RFC 9659).
	zstdWindow = 1 << 20
)

// coders keep used coders, which are large.
var coders = map[string]*sync.Pool{
	"gzip": {New: func() any {
		w, _ := gzip.NewWriterLevel(nil, gzipLevel) // the level is one
		return w
	}},
	"br": {New: func() any { return brotli.NewWriterLevel(nil, brotliLevel) }},
	"zstd": {New: func() any {
		w, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow), zstd.WithLowerEncoderMem(true)) // the options are ones
		return w
	}},
}
