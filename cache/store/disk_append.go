package store

import (
	"errors"
	"os"
)

var errSuperseded = errors.New("store: another change came after it")

// record appends the record of a change to the segment.
func (d *Disk) record(c *change) (place, error) {
	if d.pending.get(c.key) != c {
		return place{}, errSuperseded
	}
	at := place{head: uint32(len(c.head)), size: c.size, id: c.id, own: c.size > inlineMax}
	switch c.kind {
	case changeOwn:
		at.own = true
		return d.append(c.key, at, c.head, nil, c.ofSums, nil)
	case changeHead:
		return d.rehead(c, at)
	}
	var sums []byte
	for _, b := range c.body {
		sums = appendSums(sums, b)
	}
	if !at.own {
		return d.append(c.key, at, c.head, sums, 0, c.body)
	}
	if err := d.writeFile(c, sums); err != nil {
		return place{}, err
	}
	return d.append(c.key, at, c.head, nil, checksum(sums), nil)
}

// writeFile writes a body that is in memory to a file of its own.
func (d *Disk) writeFile(c *change, sums []byte) error {
	size := fileSize(c.size)
	if err := d.makeRoom(size); err != nil {
		return err
	}
	f, err := os.OpenFile(filePath(d.dir, c.id), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	d.used.Add(size)
	for _, b := range append(c.body[:len(c.body):len(c.body)], sums) {
		if _, err = f.Write(b); err != nil {
			break
		}
	}
	return errors.Join(err, f.Close())
}

// rehead appends a record with another head and the body that there is.
func (d *Disk) rehead(c *change, at place) (place, error) {
	p, ok := d.find(c.key)
	if !ok || p.id != c.id {
		return place{}, errSuperseded // it was evicted
	}
	_, sums, ofSums, body, err := d.copyOf(c.key, p)
	if err != nil {
		return place{}, err
	}
	at.own = p.own
	return d.append(c.key, at, c.head, sums, ofSums, [][]byte{body})
}

// copyOf reads a record whole.
func (d *Disk) copyOf(k Key, p place) (head, sums []byte, ofSums uint32, body []byte, err error) {
	s := d.segs.acquire(p.seg)
	if s == nil {
		return nil, nil, 0, nil, errGone
	}
	defer s.release()
	if s == d.w.cur {
		if err := d.flushBuffer(); err != nil {
			return nil, nil, 0, nil, err
		}
	}
	b := make([]byte, p.length())
	if err := readFull(s.f, b, int64(p.off)); err != nil {
		return nil, nil, 0, nil, err
	}
	if head, sums, ofSums, err = p.readFront(b[:p.front()], k); err != nil {
		return nil, nil, 0, nil, err
	}
	body = b[p.front():]
	if p.own {
		sums = nil
	} else if err := verify(body, sums, 0); err != nil {
		return nil, nil, 0, nil, err
	}
	return head, sums, ofSums, body, nil
}

// append puts a record into the buffer, and where it will lie into the place.
func (d *Disk) append(k Key, at place, head, sums []byte, ofSums uint32, body [][]byte) (place, error) {
	if !d.fits(at) {
		if err := d.roll(); err != nil {
			return place{}, err
		}
	}
	if d.w.held != nil {
		d.w.held[d.w.cur.id] = true
	}
	if at.own {
		d.w.files += fileSize(at.size)
	}
	at.seg, at.off = d.w.cur.id, uint32(d.w.cur.end+int64(len(d.w.buf)))
	d.w.buf = at.appendFront(d.w.buf, k, head, sums, ofSums)
	for _, b := range body {
		d.w.buf = append(d.w.buf, b...)
	}
	if len(d.w.buf) > 1<<20 {
		if err := d.flushBuffer(); err != nil {
			return place{}, err
		}
	}
	return at, nil
}

// fits reports whether the record can go into the present segment. Files of
// their own count as if they were in it: they go when it does, and not too much
// may go at once.
func (d *Disk) fits(at place) bool {
	if d.w.cur == nil {
		return false
	}
	end := d.w.cur.end + int64(len(d.w.buf))
	if at.own && end > 0 && end+d.w.files+fileSize(at.size) > d.segSize {
		return false
	}
	return end+at.length() <= d.segSize
}

// flushBuffer writes what was appended. When that fails nothing in the buffer
// has a place, and the segment takes no more.
func (d *Disk) flushBuffer() error {
	if len(d.w.buf) == 0 {
		return nil
	}
	n, err := d.w.cur.f.WriteAt(d.w.buf, d.w.cur.end)
	d.w.cur.end += int64(n)
	d.w.buf = d.w.buf[:0]
	if err != nil {
		d.w.torn = append(d.w.torn, d.w.cur)
		d.seal()
	}
	return err
}

// roll begins the next segment.
func (d *Disk) roll() error {
	if d.w.cur != nil {
		if err := d.flushBuffer(); err != nil {
			return err
		}
		d.seal()
	}
	if !d.w.dropping {
		if err := d.makeRoom(d.segSize); err != nil {
			return err
		}
	}
	if d.w.cur != nil {
		return nil // making room has begun one for what it kept
	}
	return d.begin()
}

func (d *Disk) begin() error {
	s, err := openSegment(d.dir, d.w.next, d.segSize, os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	d.w.next++
	d.used.Add(d.segSize)
	d.segs.add(s)
	d.w.cur, d.w.files = s, 0
	return nil
}

// seal ends the segment: it takes no more records, and no more room than it
// has.
func (d *Disk) seal() {
	if s := d.w.cur; s != nil {
		d.used.Add(s.end - d.segSize)
		d.w.cur = nil
	}
}
