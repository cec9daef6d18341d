package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// checkPages looks at how the pages of a bbolt file hang together. bbolt takes
// what it finds in its memory map at face value: a branch that leads back to
// where it came from makes it recurse until the process dies, which no recover
// stops, and a page that is both free and in use is written over. A file that
// is missing or empty is fine.
//
// The layout is that of bbolt's version 2 format.
func checkPages(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	length, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 1<<20)) // one after another is how a disk reads fast
	if err != nil || length == 0 {
		return err
	}
	c, freelist, root, err := newPageCheck(f, length)
	if err != nil {
		return err
	}
	if err := c.tree(root, true, 0); err != nil {
		return err
	}
	return c.free(freelist)
}

type pageCheck struct {
	f     *os.File
	size  int64
	pages uint64 // below this number
	used  []bool
}

const (
	pageHeader  = 16
	pageElement = 16
	flagBranch  = 1
	flagLeaf    = 2
	flagFree    = 16
	metaMagic   = 0xED0CDAED
	metaSize    = 64
	maxDepth    = 32
)

var errPages = errors.New("its pages do not hang together")

// newPageCheck reads the two meta pages and follows the later valid one.
func newPageCheck(f *os.File, length int64) (c *pageCheck, freelist, root uint64, err error) {
	c = &pageCheck{f: f}
	var latest uint64
	head := make([]byte, pageHeader+metaSize)
	size := int64(os.Getpagesize())
	for i := range int64(2) {
		if readFull(f, head, i*size) != nil {
			continue
		}
		m := head[pageHeader:]
		sum := fnv.New64a()
		sum.Write(m[:metaSize-8])
		txid := binary.LittleEndian.Uint64(m[48:])
		if binary.LittleEndian.Uint32(m) != metaMagic || binary.LittleEndian.Uint32(m[4:]) != 2 || int64(binary.LittleEndian.Uint32(m[8:])) != size ||
			binary.LittleEndian.Uint64(m[56:]) != sum.Sum64() || txid < latest {
			continue
		}
		latest, c.size = txid, size
		root, freelist, c.pages = binary.LittleEndian.Uint64(m[16:]), binary.LittleEndian.Uint64(m[32:]), binary.LittleEndian.Uint64(m[40:])
	}
	if c.size == 0 || c.pages < 2 || c.pages > uint64(length/c.size) {
		return nil, 0, 0, fmt.Errorf("%w: no valid head", errPages)
	}
	c.used = make([]bool, c.pages)
	c.used[0], c.used[1] = true, true
	return c, freelist, root, nil
}

// page reads a page and takes it and what it overflows to.
func (c *pageCheck) page(id uint64, flags uint16) ([]byte, uint16, error) {
	if id >= c.pages || c.used[id] {
		return nil, 0, fmt.Errorf("%w: page %d", errPages, id)
	}
	b := make([]byte, c.size)
	if err := readFull(c.f, b, int64(id)*c.size); err != nil {
		return nil, 0, err
	}
	kind, more := binary.LittleEndian.Uint16(b[8:]), uint64(binary.LittleEndian.Uint32(b[12:]))
	if binary.LittleEndian.Uint64(b) != id || kind&flags == 0 || kind&(kind-1) != 0 || more >= c.pages-id {
		return nil, 0, fmt.Errorf("%w: page %d", errPages, id)
	}
	for i := range more + 1 {
		if c.used[id+i] {
			return nil, 0, fmt.Errorf("%w: page %d", errPages, id+i)
		}
		c.used[id+i] = true
	}
	if more > 0 {
		b = append(b, make([]byte, int64(more)*c.size)...)
		if err := readFull(c.f, b, int64(id)*c.size); err != nil {
			return nil, 0, err
		}
	}
	return b, kind, nil
}

// tree follows a tree; the leaves of the root hold the roots of others.
func (c *pageCheck) tree(id uint64, ofBuckets bool, depth int) error {
	b, kind, err := c.page(id, flagBranch|flagLeaf)
	if err != nil {
		return err
	}
	n := int(binary.LittleEndian.Uint16(b[10:]))
	if depth > maxDepth || pageHeader+n*pageElement > len(b) || (kind == flagBranch && n == 0) {
		return fmt.Errorf("%w: page %d", errPages, id)
	}
	for i := range n {
		at := pageHeader + i*pageElement
		e := b[at : at+pageElement]
		if kind == flagBranch {
			if !inside(b, at, binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:]), 0) {
				return fmt.Errorf("%w: page %d", errPages, id)
			}
			if err := c.tree(binary.LittleEndian.Uint64(e[8:]), ofBuckets, depth+1); err != nil {
				return err
			}
			continue
		}
		pos, key, value := binary.LittleEndian.Uint32(e[4:]), binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])
		if !inside(b, at, pos, key, value) || (binary.LittleEndian.Uint32(e) != 0) != ofBuckets {
			return fmt.Errorf("%w: page %d", errPages, id)
		}
		if ofBuckets {
			from := at + int(pos) + int(key)
			if err := c.bucket(id, b[from:from+int(value)]); err != nil {
				return err
			}
		}
	}
	return nil
}

// bucket follows the value of a bucket: its root, or where that is 0 a page of
// its own right behind.
func (c *pageCheck) bucket(id uint64, v []byte) error {
	if len(v) < 16 {
		return fmt.Errorf("%w: page %d", errPages, id)
	}
	if root := binary.LittleEndian.Uint64(v); root != 0 {
		return c.tree(root, false, 1)
	}
	b := v[16:]
	if len(b) < pageHeader || binary.LittleEndian.Uint16(b[8:]) != flagLeaf || pageHeader+int(binary.LittleEndian.Uint16(b[10:]))*pageElement > len(b) {
		return fmt.Errorf("%w: page %d", errPages, id)
	}
	for i := range int(binary.LittleEndian.Uint16(b[10:])) {
		at := pageHeader + i*pageElement
		e := b[at:]
		if binary.LittleEndian.Uint32(e) != 0 || !inside(b, at, binary.LittleEndian.Uint32(e[4:]), binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])) {
			return fmt.Errorf("%w: page %d", errPages, id)
		}
	}
	return nil
}

// inside reports whether what an element at at says is within b.
func inside(b []byte, at int, pos, key, value uint32) bool {
	return int64(at)+int64(pos)+int64(key)+int64(value) <= int64(len(b))
}

// free checks that no page in use is in the list of free ones.
func (c *pageCheck) free(id uint64) error {
	b, _, err := c.page(id, flagFree)
	if err != nil {
		return err
	}
	n, ids := uint64(binary.LittleEndian.Uint16(b[10:])), b[pageHeader:]
	if n == 0xFFFF {
		n, ids = binary.LittleEndian.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids)/8) {
		return fmt.Errorf("%w: the free list", errPages)
	}
	for i := range n {
		p := binary.LittleEndian.Uint64(ids[8*i:])
		if p >= c.pages || c.used[p] {
			return fmt.Errorf("%w: page %d is free and in use", errPages, p)
		}
		c.used[p] = true
	}
	return nil
}
