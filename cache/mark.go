package cache

import (
	"encoding/binary"
	"net/url"
)

// mark is what purges know a response by. It goes with the response into the
// store; its slices are read-only.
type mark struct {
	log    uint64 // the run of numbers that began belongs to
	began  uint64 // the latest purge when its fetch began
	url    []byte // that was fetched, as its key has it
	tags   []byte // the hash of each
	groups []byte // those of Cache-Groups (RFC 9875)
	// Which tags or groups it has is not known, so that it has every one.
	anyTag, anyGroup bool
}

func (m *mark) tagged() bool  { return m.anyTag || len(m.tags) > 0 }
func (m *mark) grouped() bool { return m.anyGroup || len(m.groups) > 0 }

// fetched returns the mark of a response to a fetch with the mark f, whose
// fields gave m.
func (m mark) fetched(f mark) mark {
	m.log, m.began, m.url = f.log, f.began, f.url
	return m
}

// after reports whether a purge came between the fetch of o and that of m.
func (m mark) after(o mark) bool { return m.log == o.log && m.began > o.began }

// originOf returns scheme://authority of a key's text.
func originOf(url []byte) []byte {
	const scheme = len("http://") // "https://" has one byte more, and its second slash here
	for i := min(scheme+1, len(url)); i < len(url); i++ {
		if url[i] == '/' {
			return url[:i]
		}
	}
	return url
}

// keyText returns the text of the URL's key.
func keyText(u *url.URL) []byte { return KeyOf(u).append(make([]byte, 0, 128)) }

const (
	markAnyTag = 1 << iota
	markAnyGroup
)

func (m *mark) append(b []byte) []byte {
	var flags byte
	if m.anyTag {
		flags |= markAnyTag
	}
	if m.anyGroup {
		flags |= markAnyGroup
	}
	b = append(b, flags)
	b = binary.LittleEndian.AppendUint64(b, m.log)
	b = binary.LittleEndian.AppendUint64(b, m.began)
	for _, s := range [][]byte{m.url, m.tags, m.groups} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

func (d *decoder) mark() mark {
	flags := d.byte()
	m := mark{anyTag: flags&markAnyTag != 0, anyGroup: flags&markAnyGroup != 0}
	m.log, m.began = d.uint64(), d.uint64()
	for _, s := range []*[]byte{&m.url, &m.tags, &m.groups} {
		*s = d.bytes(d.int(len(d.b)))
	}
	if flags&^(markAnyTag|markAnyGroup) != 0 || len(m.tags)%tagSize != 0 || len(m.groups)%tagSize != 0 {
		d.fail()
	}
	return m
}

func (d *decoder) uint64() uint64 {
	b := d.bytes(8)
	if d.bad {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}
