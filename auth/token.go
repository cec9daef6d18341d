package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
)

// tokenHash is the SHA-256 of a token. Since tokens are random and long, a fast
// hash without salt is enough, and one look-up finds it.
type tokenHash [sha256.Size]byte

const (
	tokenPrefix = "fwdp_" // by which people and scanners know what leaked
	tokenBytes  = 32
)

const tokenHint = `make the line with "fwdproxy passwd --token NAME"`

// NewToken returns a new token and the hash of it for a line of a file of
// tokens.
func NewToken() (token, hash string) {
	b := make([]byte, tokenBytes)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	token = tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
	sum := sha256.Sum256([]byte(token))
	return token, hex.EncodeToString(sum[:])
}

// isToken reports whether s has the form of what NewToken makes. Nothing else
// is looked up, so that no line can stand for something that can be guessed.
func isToken(s string) bool {
	rest, ok := strings.CutPrefix(s, tokenPrefix)
	b, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	return ok && err == nil && len(b) == tokenBytes && len(rest) == base64.RawURLEncoding.EncodedLen(tokenBytes)
}

// addToken reads "name hash". A name may have several.
func (d *Directory) addToken(line string) *mistake {
	fields := strings.Fields(line)
	if len(fields) != 2 {
		return wrong(tokenHint, "a line is a name and a hash")
	}
	name := fields[0]
	if bad := checkName(name); bad != nil {
		return bad
	}
	if isToken(fields[1]) {
		return wrong(tokenHint, "this is the token itself of %q, and no secret any more; its hash belongs here", name)
	}
	var hash tokenHash
	if n, err := hex.Decode(hash[:], []byte(fields[1][:min(len(fields[1]), 2*len(hash))])); err != nil || n != len(hash) || len(fields[1]) != 2*len(hash) {
		return wrong(tokenHint, "the second word is not a SHA-256 in hexadecimal")
	}
	if _, user := d.passwords[name]; user {
		return wrong("choose another name", "%q is a user of the htpasswd file as well", name)
	}
	if was, twice := d.tokens[hash]; twice {
		return wrong("make one for each", "the token is that of %q already", was)
	}
	d.tokens[hash], d.holders[name] = name, true
	return nil
}

// holder returns whose token it is.
func (d *Directory) holder(token string) (name string, ok bool) {
	if !isToken(token) {
		return "", false
	}
	name, ok = d.tokens[sha256.Sum256([]byte(token))]
	return name, ok
}

// TokenLine returns the line of a file of tokens.
func TokenLine(name, hash string) (string, error) {
	if bad := checkName(name); bad != nil {
		return "", errors.New(bad.message)
	}
	if name[0] == '#' {
		return "", errors.New("a name that begins with # would be read as a comment")
	}
	return name + " " + hash + "\n", nil
}

// addGroup reads "group: name name". A group may go on in another line.
func (d *Directory) addGroup(line string) *mistake {
	const hint = `write "sales: ann bob"`
	group, members, ok := strings.Cut(line, ":")
	if !ok {
		return wrong(hint, "there is no colon behind the group's name")
	}
	if bad := checkName(group); bad != nil {
		return &mistake{"of the group: " + bad.message, hint}
	}
	names := strings.Fields(members)
	for _, name := range names {
		if bad := checkName(name); bad != nil {
			return &mistake{bad.message, hint}
		}
	}
	d.named[group] = true
	for _, name := range names {
		d.groups[name] = append(d.groups[name], group)
	}
	return nil
}
