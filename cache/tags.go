package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"net/http"
	"slices"
	"strings"

	"fwdproxy/internal/header"
)

const (
	// maxTags bounds the tags of one response, maxTag the bytes of one, of
	// which RFC 9875 wants 32 and 32 at least. A response beyond either bound
	// counts as having every tag.
	maxTags = 256
	maxTag  = 1024
	tagSize = 8
)

// tagFields are the response fields that name tags, and how each is read.
var tagFields = []tagField{
	{"Surrogate-Key", func(lines []string) (iter.Seq[string], bool) {
		return split(lines, func(r rune) bool { return r == ' ' || r == '\t' }), true
	}},
	{"Cache-Tag", func(lines []string) (iter.Seq[string], bool) {
		return split(lines, func(r rune) bool { return r == ',' }), true
	}},
	{cacheGroups, func(lines []string) (iter.Seq[string], bool) {
		members, ok := stringList(lines)
		return slices.Values(members), ok
	}},
}

type tagField struct {
	name string
	read func(lines []string) (tags iter.Seq[string], ok bool)
}

const (
	cacheGroups      = "Cache-Groups"
	groupInvalidator = "Cache-Group-Invalidation"
)

// split returns what stands between separators on all lines, trimmed.
func split(lines []string, separator func(rune) bool) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range lines {
			for tag := range strings.FieldsFuncSeq(line, separator) {
				if tag = header.Trim(tag); tag != "" && !yield(tag) {
					return
				}
			}
		}
	}
}

// hashTag returns what stands for a tag in a mark and in the purges. It keeps
// its meaning over restarts, and nobody can make two tags collide cheaply.
func hashTag(tag string) uint64 {
	sum := sha256.Sum256([]byte(tag))
	return binary.LittleEndian.Uint64(sum[:])
}

// readTags fills m with the tags of a response with the fields h. A tag field
// among the withheld, which is not stored, and one that cannot be read counts
// as having every tag.
func (m *mark) readTags(h http.Header, withheld []string) {
	count := 0
	for _, f := range tagFields {
		lines := h[f.name]
		hidden := slices.ContainsFunc(withheld, func(w string) bool { return strings.EqualFold(w, f.name) })
		if len(lines) == 0 && !hidden {
			continue
		}
		tags, ok := f.read(lines)
		ok = ok && !hidden
		for tag := range tags {
			if count++; len(tag) > maxTag || count > maxTags {
				ok = false
				break
			}
			m.tags = binary.LittleEndian.AppendUint64(m.tags, hashTag(tag))
			if f.name == cacheGroups {
				m.groups = binary.LittleEndian.AppendUint64(m.groups, hashTag(tag))
			}
		}
		if !ok {
			m.anyTag = true
			m.anyGroup = m.anyGroup || f.name == cacheGroups
		}
	}
}

// tagNamed returns the tag of a stored header that has the hash, "" when none
// has.
func tagNamed(h http.Header, hash uint64) string {
	for _, f := range tagFields {
		tags, _ := f.read(h[f.name])
		for tag := range tags {
			if hashTag(tag) == hash {
				return tag
			}
		}
	}
	return ""
}

// hashes iterates over the hashes in a mark.
func hashes(b []byte) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for ; len(b) >= tagSize; b = b[tagSize:] {
			if !yield(binary.LittleEndian.Uint64(b)) {
				return
			}
		}
	}
}

// invalidatedGroups returns the groups that a response to an unsafe request
// invalidates within its origin (RFC 9875, Section 3). All of them is what a
// field says that is malformed or beyond the bounds.
func invalidatedGroups(method string, status int, h http.Header) (groups []uint64, all bool) {
	lines := h[groupInvalidator]
	if len(lines) == 0 || !invalidates(method, status) {
		return nil, false
	}
	members, ok := stringList(lines)
	if !ok || len(members) > maxOriginGroups {
		return nil, true
	}
	for _, g := range members {
		if len(g) > maxTag {
			return nil, true
		}
		groups = append(groups, hashTag(g))
	}
	return groups, false
}
