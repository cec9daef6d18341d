package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
)

// place says where the record of an object lies.
type place struct {
	seg  uint32
	off  uint32
	head uint32 // the head's length
	size int64  // the body's
	id   uint64
	own  bool // the body is in a file of its own
}

const placeSize = 4 + 4 + 4 + 8 + 8 + 1

func (p place) encode() []byte {
	b := make([]byte, 0, placeSize)
	b = binary.LittleEndian.AppendUint32(b, p.seg)
	b = binary.LittleEndian.AppendUint32(b, p.off)
	b = binary.LittleEndian.AppendUint32(b, p.head)
	b = binary.LittleEndian.AppendUint64(b, uint64(p.size))
	b = binary.LittleEndian.AppendUint64(b, p.id)
	if p.own {
		return append(b, 1)
	}
	return append(b, 0)
}

// decodePlace returns false for what encode cannot have written.
func decodePlace(b []byte) (place, bool) {
	if len(b) != placeSize || b[placeSize-1] > 1 {
		return place{}, false
	}
	p := place{
		seg: binary.LittleEndian.Uint32(b), off: binary.LittleEndian.Uint32(b[4:]), head: binary.LittleEndian.Uint32(b[8:]),
		size: int64(binary.LittleEndian.Uint64(b[12:])), id: binary.LittleEndian.Uint64(b[20:]), own: b[28] == 1,
	}
	ok := p.head <= MaxHead && p.size >= 0 && (p.own || p.size <= inlineMax)
	return p, ok
}

// The buckets. Keys are found by their first half: the record holds the whole
// key, so that a collision costs a hit and nothing else.
var (
	bucketKeys     = []byte("keys")     // half a key -> place
	bucketPlaces   = []byte("places")   // segment, offset -> key
	bucketSegments = []byte("segments") // segment -> usage
	bucketFiles    = []byte("files")    // id of an object with a file of its own -> the file's size
)

const halfKey = 16

// usage is what of a segment is live.
type usage struct {
	objects int64
	bytes   int64 // of records
	files   int64 // bytes of files of their own
}

func (u *usage) add(v usage) { u.objects += v.objects; u.bytes += v.bytes; u.files += v.files }

func (p place) usage() usage {
	u := usage{objects: 1, bytes: p.length()}
	if p.own {
		u.files = fileSize(p.size)
	}
	return u
}

// errIndex says that the index cannot be relied on any more.
var errIndex = errors.New("store: the index is damaged")

// index is the map from keys to places, in a bbolt file. Whatever bbolt does on
// a damaged file, a panic or a fault in its memory map, ends as errIndex.
type index struct {
	path   string
	db     *bbolt.DB
	broken atomic.Bool
	told   atomic.Bool // of its damage
}

const (
	indexMap  = 256 << 20 // bytes mapped at once; the file is as long as it needs to be
	indexGrow = 1 << 20
)

func openIndex(path string) (x *index, err error) {
	if err := checkPages(path); err != nil {
		return nil, fmt.Errorf("%w: %w", errIndex, err)
	}
	x = &index{path: path}
	err = x.guard(func() error {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout: time.Second, NoSync: true, NoGrowSync: true, FreelistType: bbolt.FreelistMapType,
			InitialMmapSize: indexMap, NoStatistics: true,
		})
		if err != nil {
			return err
		}
		x.db = db
		db.AllocSize = indexGrow
		return db.Update(func(tx *bbolt.Tx) error {
			for _, name := range [][]byte{bucketKeys, bucketPlaces, bucketSegments, bucketFiles} {
				if _, err := tx.CreateBucketIfNotExists(name); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return x, nil
}

// guard calls fn and turns a panic, or a fault in the memory map, into
// errIndex. Afterwards bbolt's locks are in no known state, so that the index
// is not touched again.
func (x *index) guard(fn func() error) (err error) {
	if x.broken.Load() {
		return errIndex
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			x.broken.Store(true)
			err = fmt.Errorf("%w: %v", errIndex, p)
		}
	}()
	return fn()
}

// get returns where the object under the key lies.
func (x *index) get(k Key) (p place, ok bool, err error) {
	err = x.guard(func() error {
		return x.db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketKeys).Get(k[:halfKey])
			if b == nil {
				return nil
			}
			if p, ok = decodePlace(b); !ok {
				return fmt.Errorf("%w: a malformed entry", errIndex)
			}
			return nil
		})
	})
	return p, ok && err == nil, err
}

// batch is one change of the index, all of which happens or nothing.
type batch struct {
	keys, places, segments, files *bbolt.Bucket
	delta                         map[uint32]usage
	unlink                        []ownFile // to remove when the change has happened
}

// ownFile is a file of one body.
type ownFile struct {
	id   uint64
	size int64
}

// update runs fn and commits. It returns how the usage of segments changed and
// which files belong to nobody any more.
func (x *index) update(fn func(*batch) error) (b *batch, err error) {
	err = x.guard(func() error {
		return x.db.Update(func(tx *bbolt.Tx) error {
			b = &batch{
				keys: tx.Bucket(bucketKeys), places: tx.Bucket(bucketPlaces), segments: tx.Bucket(bucketSegments), files: tx.Bucket(bucketFiles),
				delta: make(map[uint32]usage),
			}
			b.places.FillPercent = 0.95 // it is appended to
			if err := fn(b); err != nil {
				return err
			}
			return b.settle()
		})
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (b *batch) get(k Key) (place, bool) { return decodePlace(b.keys.Get(k[:halfKey])) }

// put points the key at p. The file of what was there before goes, unless it
// is the same object's.
func (b *batch) put(k Key, p place) error {
	if old, ok := b.get(k); ok {
		if err := b.forget(old, old.own && (!p.own || old.id != p.id)); err != nil {
			return err
		}
	}
	b.count(p.seg, p.usage(), 1)
	if p.own {
		if err := b.files.Put(binary.BigEndian.AppendUint64(nil, p.id), binary.LittleEndian.AppendUint64(nil, uint64(fileSize(p.size)))); err != nil {
			return err
		}
	}
	if err := b.places.Put(placeKey(p.seg, p.off), k[:]); err != nil {
		return err
	}
	return b.keys.Put(k[:halfKey], p.encode())
}

// remove takes out the entry that get returned.
func (b *batch) remove(k Key, p place) error {
	if err := b.forget(p, p.own); err != nil {
		return err
	}
	return b.keys.Delete(k[:halfKey])
}

func (b *batch) forget(p place, file bool) error {
	b.count(p.seg, p.usage(), -1)
	if file {
		b.unlink = append(b.unlink, ownFile{p.id, fileSize(p.size)})
		if err := b.files.Delete(binary.BigEndian.AppendUint64(nil, p.id)); err != nil {
			return err
		}
	}
	return b.places.Delete(placeKey(p.seg, p.off))
}

func (b *batch) count(seg uint32, u usage, sign int64) {
	d := b.delta[seg]
	d.add(usage{sign * u.objects, sign * u.bytes, sign * u.files})
	b.delta[seg] = d
}

// settle writes the usage of the segments that the batch is about.
func (b *batch) settle() error {
	for seg, d := range b.delta {
		u := decodeUsage(b.segments.Get(segmentID(seg)))
		u.add(d)
		v := binary.LittleEndian.AppendUint64(nil, uint64(u.objects))
		v = binary.LittleEndian.AppendUint64(v, uint64(u.bytes))
		v = binary.LittleEndian.AppendUint64(v, uint64(u.files))
		if err := b.segments.Put(segmentID(seg), v); err != nil {
			return err
		}
	}
	return nil
}

// dropSegment takes the segment itself out, when no entry points at it.
func (b *batch) dropSegment(seg uint32) error {
	delete(b.delta, seg)
	return b.segments.Delete(segmentID(seg))
}

// inSegment returns up to n of the segment's entries from off on, in order.
func (b *batch) inSegment(seg, off uint32, n int) (offs []uint32, keys []Key) {
	c := b.places.Cursor()
	for at, v := c.Seek(placeKey(seg, off)); len(offs) < n && len(at) == 8 && binary.BigEndian.Uint32(at) == seg; at, v = c.Next() {
		if len(v) != len(Key{}) {
			continue
		}
		offs, keys = append(offs, binary.BigEndian.Uint32(at[4:])), append(keys, Key(v))
	}
	return offs, keys
}

// survey returns the usage of all segments, and the sizes of all files.
func (x *index) survey() (segs map[uint32]usage, files map[uint64]int64, err error) {
	segs, files = make(map[uint32]usage), make(map[uint64]int64)
	err = x.guard(func() error {
		return x.db.View(func(tx *bbolt.Tx) error {
			c := tx.Bucket(bucketSegments).Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				if len(k) != 4 || len(v) != 24 {
					return fmt.Errorf("%w: a malformed segment", errIndex)
				}
				segs[binary.BigEndian.Uint32(k)] = decodeUsage(v)
			}
			c = tx.Bucket(bucketFiles).Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				if len(k) != 8 || len(v) != 8 {
					return fmt.Errorf("%w: a malformed file", errIndex)
				}
				files[binary.BigEndian.Uint64(k)] = int64(binary.LittleEndian.Uint64(v))
			}
			return nil
		})
	})
	return segs, files, err
}

func decodeUsage(b []byte) usage {
	if len(b) != 24 {
		return usage{}
	}
	return usage{int64(binary.LittleEndian.Uint64(b)), int64(binary.LittleEndian.Uint64(b[8:])), int64(binary.LittleEndian.Uint64(b[16:]))}
}

func segmentID(seg uint32) []byte { return binary.BigEndian.AppendUint32(nil, seg) }

func placeKey(seg, off uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(make([]byte, 0, 8), seg), off)
}

// bytes returns the length of the file.
func (x *index) bytes() int64 {
	if fi, err := os.Stat(x.path); err == nil {
		return fi.Size()
	}
	return 0
}

// close writes the index out and closes it.
func (x *index) close() error {
	return x.guard(func() error { return errors.Join(x.db.Sync(), x.db.Close()) })
}
