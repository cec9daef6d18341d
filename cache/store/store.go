// Package store keeps stored responses: under each key a head, which the cache
// encodes, and a body, which is read from any offset.
//
// It knows nothing of HTTP, freshness or variants. Everything in it may vanish
// at any moment; what it returns is whole and right, or an error.
package store

import (
	"errors"
	"io"
)

// SegmentSize is the length in bytes of every segment of a body but the last.
const SegmentSize = 64 << 10

// MaxHead is the largest head, in bytes, that an object may have.
const MaxHead = 64 << 10

// Key names an object; it is a hash, so that no caller can choose where two
// collide.
type Key [32]byte

// Errors of a store.
var (
	// ErrLost says that a part of the body is gone; the object with it.
	ErrLost = errors.New("store: the object is no longer there")
	// ErrTooLarge says that the object does not fit.
	ErrTooLarge = errors.New("store: the object is too large")
	// ErrOff says that the store keeps nothing.
	ErrOff = errors.New("store: it is off")
)

// Object is a stored object as Get found it.
type Object struct {
	Head []byte // the caller's own
	Size int64  // of the body, in bytes
	ID   uint64 // differs between any two bodies that were ever put
	Body Body
}

// Body is the body of an object.
type Body interface {
	// Open reads n bytes from off, which must lie within the body. The reader
	// gives exactly these bytes, or an error that is not io.EOF. An object that
	// is lost already gives ErrLost here.
	Open(off, n int64) (io.ReadCloser, error)
}

// Store is a bounded set of objects. All methods may be called at any time
// from any goroutine.
type Store interface {
	// Get returns the object under the key, if it is there.
	Get(Key) (Object, bool)
	// Put replaces what is under the key. Every element of body but the last
	// has SegmentSize bytes. Until Put returns nil, Get does not return the new
	// object.
	Put(k Key, head []byte, body [][]byte) error
	// SetHead gives the object, which Get returned for the key, another head
	// and leaves its body alone.
	SetHead(k Key, o Object, head []byte) error
	// Delete removes what is under the key.
	Delete(Key)
}
