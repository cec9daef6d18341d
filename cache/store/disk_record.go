package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	// blockSize is the length in bytes of what has a checksum of its own in a
	// body.
	blockSize = SegmentSize
	// inlineMax is the size up to which a body follows its head in a segment; a
	// larger one has a file of its own.
	inlineMax = 256 << 10
	// A record is this fixed part, the head, the checksums of the body's blocks
	// and the body; for a body with a file of its own, only the first two.
	recordFixed = 4 + 1 + 32 + 8 + 8 + 4 + 4 + 4
)

var recordMagic = [4]byte{'f', 'w', 'd', 1}

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

var errChecksum = errors.New("store: a checksum does not match")

// blocks returns how many blocks a body has.
func blocks(size int64) int64 { return (size + blockSize - 1) / blockSize }

// fileSize is the length of the file of a body: its bytes, then the checksums
// of its blocks.
func fileSize(size int64) int64 { return size + 4*blocks(size) }

// front is the length of what comes before the body.
func (p place) front() int64 {
	n := recordFixed + int64(p.head)
	if !p.own {
		n += 4 * blocks(p.size)
	}
	return n
}

// length is that of the whole record.
func (p place) length() int64 {
	if p.own {
		return p.front()
	}
	return p.front() + p.size
}

// appendFront appends what comes before the body to b. The sums are those of
// the blocks, or the one of all sums in the body's own file.
func (p place) appendFront(b []byte, k Key, head, sums []byte, ofSums uint32) []byte {
	from := len(b)
	b = append(b, recordMagic[:]...)
	if p.own {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = append(b, k[:]...)
	b = binary.LittleEndian.AppendUint64(b, p.id)
	b = binary.LittleEndian.AppendUint64(b, uint64(p.size))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(head)))
	b = binary.LittleEndian.AppendUint32(b, ofSums)
	sum := len(b)
	b = append(b, 0, 0, 0, 0)
	b = append(b, head...)
	b = append(b, sums...)
	binary.LittleEndian.PutUint32(b[sum:], frontSum(b[from:]))
	return b
}

// frontSum is the checksum over all of a record's front but itself.
func frontSum(b []byte) uint32 {
	c := checksum(b[:recordFixed-4])
	return crc32.Update(c, castagnoli, b[recordFixed:])
}

// readFront takes apart what appendFront made, after it has checked that it is
// the record that p and k are about.
func (p place) readFront(b []byte, k Key) (head, sums []byte, ofSums uint32, err error) {
	switch {
	case int64(len(b)) != p.front():
		return nil, nil, 0, fmt.Errorf("store: a record is cut off: %w", errChecksum)
	case binary.LittleEndian.Uint32(b[recordFixed-4:]) != frontSum(b):
		return nil, nil, 0, errChecksum
	case !bytes.Equal(b[:4], recordMagic[:]), (b[4] == 1) != p.own, !bytes.Equal(b[5:37], k[:]),
		binary.LittleEndian.Uint64(b[37:]) != p.id, binary.LittleEndian.Uint64(b[45:]) != uint64(p.size),
		binary.LittleEndian.Uint32(b[53:]) != p.head:
		return nil, nil, 0, fmt.Errorf("store: the index leads to another record: %w", errChecksum)
	}
	at := recordFixed + int(p.head)
	return b[recordFixed:at:at], b[at:], binary.LittleEndian.Uint32(b[57:]), nil
}

// appendSums appends the checksums of the blocks of b.
func appendSums(sums, b []byte) []byte {
	for len(b) > 0 {
		n := min(len(b), blockSize)
		sums = binary.LittleEndian.AppendUint32(sums, checksum(b[:n]))
		b = b[n:]
	}
	return sums
}

// verify checks b, whole blocks from the block first on, against the sums.
func verify(b []byte, sums []byte, first int64) error {
	for len(b) > 0 {
		n := min(len(b), blockSize)
		if checksum(b[:n]) != binary.LittleEndian.Uint32(sums[4*first:]) {
			return errChecksum
		}
		b = b[n:]
		first++
	}
	return nil
}
