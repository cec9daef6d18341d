package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"fwdproxy/cache/store"
	"fwdproxy/internal/header"
)

// maxVaryNames bounds the fields that a Vary may name.
const maxVaryNames = 32

// overrides are request fields by which servers choose another host, path or
// method than the request line and Host say, and which hardly one of them
// names in Vary. They are a part of every key, so that whoever sends one gets
// and fills copies of its own.
var overrides = []string{
	"Forwarded",
	"X-Forwarded-Host", "X-Forwarded-Server", "X-Forwarded-Proto", "X-Forwarded-Protocol", "X-Forwarded-Scheme",
	"X-Forwarded-Ssl", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Path", "X-Forwarded-Uri",
	"X-Host", "X-Original-Host", "X-Original-Url", "X-Original-Uri", "X-Rewrite-Url", "X-Url-Scheme",
	"X-Http-Method-Override", "X-Http-Method", "X-Method-Override",
}

// verbatim are fields whose value is a secret or no list: they are compared
// byte by byte.
var verbatim = map[string]bool{"Authorization": true, "Cookie": true}

// varyNames returns the fields that the response's Vary names, over all its
// lines, sorted and each once. It is false when no request can match: for "*",
// and for a Vary that is malformed or endless (RFC 9111, Section 4.1).
func varyNames(h http.Header) ([]string, bool) {
	if len(h["Vary"]) == 0 {
		return nil, true
	}
	var names []string
	for _, name := range header.Tokens(h, "Vary") {
		if name == "*" || !header.IsToken(name) {
			return nil, false
		}
		names = append(names, textproto.CanonicalMIMEHeaderKey(name))
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return names, len(names) <= maxVaryNames
}

// variantKey returns the key of the response to a request with the fields h,
// which the front door keeps apart by that text, under a primary record with the
// nonce and among the responses that vary by names.
func variantKey(primary store.Key, nonce [nonceSize]byte, names []string, apart string, h http.Header) store.Key {
	var room [512]byte
	b := append(room[:0], primary[:]...)
	b = append(b, nonce[:]...)
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, name := range names {
		b = appendField(b, name, h[name])
	}
	if hasOverride(h) {
		for _, name := range overrides {
			if lines, ok := h[name]; ok {
				b = appendField(b, name, lines)
			}
		}
	}
	if apart != "" {
		b = append(b, 0) // no field has an empty name
		b = appendText(b, apart)
	}
	return sha256.Sum256(b)
}

// sameVariant reports whether two requests select the same response among
// those that vary by names.
func sameVariant(names []string, a, b http.Header) bool {
	return variantKey(store.Key{}, [nonceSize]byte{}, names, "", a) == variantKey(store.Key{}, [nonceSize]byte{}, names, "", b)
}

// answers reports whether the response to the flight's request, if it varies by
// names, is one that the query selects.
func (f *flight) answers(q *query, names []string) bool {
	return f.hop.Apart == q.hop.Apart && sameVariant(names, f.req.Header, q.req.Header)
}

func hasOverride(h http.Header) bool {
	for name := range h {
		if (strings.HasPrefix(name, "X-") || name == "Forwarded") && slices.Contains(overrides, name) {
			return true
		}
	}
	return false
}

// appendField appends a field so that no two fields give the same bytes, save
// those that differ only in lines against commas and in space around commas,
// and those that weighted knows to mean the same (RFC 9111, Section 4.1).
func appendField(b []byte, name string, lines []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(name)))
	b = append(b, name...)
	if len(lines) == 0 {
		return append(b, 0) // absent is not the same as empty
	}
	if list, ok := weighted(name, lines); ok {
		b = append(b, 2)
		return appendText(b, list)
	}
	b = append(b, 1)
	var value []byte
	for i, line := range lines {
		if i > 0 {
			value = append(value, ',')
		}
		if verbatim[name] {
			value = append(value, line...)
			continue
		}
		inner := false
		for e := range header.Elements(line) {
			if inner {
				value = append(value, ',')
			}
			value = append(value, e...)
			inner = true
		}
	}
	return appendText(b, string(value))
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}
