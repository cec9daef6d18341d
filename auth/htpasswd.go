package auth

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

const (
	// passwordCost is what new passwords are hashed with, about 50 ms.
	passwordCost = bcrypt.DefaultCost
	// maxCost bounds what one request can cost, to a few seconds.
	maxCost = 15

	bcryptLength = 60
)

// others are hashes that htpasswd and its like write and that are refused: fast
// ones fall to whoever gets hold of the file.
var others = []struct{ prefix, name string }{
	{"$apr1$", "Apache's MD5 (apr1)"}, {"{SHA}", "SHA-1"}, {"{SSHA}", "salted SHA-1"}, {"$1$", "MD5-crypt"},
	{"$5$", "SHA-256-crypt"}, {"$6$", "SHA-512-crypt"}, {"$2x$", "the broken bcrypt of old PHPs (2x)"},
	{"$argon2", "Argon2"}, {"$y$", "yescrypt"}, {"{PLAIN}", "plain text"},
}

const passwdHint = `write the line anew with "fwdproxy passwd FILE NAME" or "htpasswd -B"`

// addPassword reads "name:hash".
func (d *Directory) addPassword(line string) *mistake {
	name, hash, ok := strings.Cut(line, ":")
	if !ok {
		return wrong(passwdHint, "there is no colon between a name and a hash")
	}
	if bad := checkName(name); bad != nil {
		return bad
	}
	if _, twice := d.passwords[name]; twice {
		return wrong("keep one of the lines", "the user %q has a line already", name)
	}
	if bad := checkHash(hash); bad != nil {
		return bad
	}
	d.passwords[name] = []byte(hash)
	return nil
}

func checkHash(hash string) *mistake {
	for _, o := range others {
		if strings.HasPrefix(hash, o.prefix) {
			return wrong(passwdHint, "the hash is %s; only bcrypt is accepted", o.name)
		}
	}
	const alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	isBcrypt := strings.HasPrefix(hash, "$2a$") || strings.HasPrefix(hash, "$2b$") || strings.HasPrefix(hash, "$2y$")
	if !isBcrypt || len(hash) != bcryptLength || hash[6] != '$' || strings.Trim(hash[7:], alphabet) != "" {
		return wrong(passwdHint, "what follows the colon is no bcrypt hash")
	}
	cost, err := bcrypt.Cost([]byte(hash))
	if err != nil {
		return wrong(passwdHint, "what follows the colon is no bcrypt hash")
	}
	if cost > maxCost {
		return wrong(passwdHint, "a bcrypt cost of %d would take too long for a proxy; at most %d", cost, maxCost)
	}
	return nil
}

// decoy returns a hash that no password fits, and that takes as long to find
// out as the costliest of those in the file.
func decoy(passwords map[string][]byte) []byte {
	highest := bcrypt.MinCost
	for _, hash := range passwords {
		if cost, err := bcrypt.Cost(hash); err == nil {
			highest = max(highest, cost)
		}
	}
	return fmt.Appendf(nil, "$2a$%02d$%s", highest, strings.Repeat(".", bcryptLength-7))
}

// fits reports whether the password is the user's. It takes as long for users
// who are not there, lest they be told apart.
func (d *Directory) fits(user, password string) bool {
	hash, known := d.passwords[user]
	if !known {
		hash = d.decoy
	}
	return bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil && known
}

// HashPassword returns the hash of a password for a line of an htpasswd file.
func HashPassword(password string) (string, error) {
	switch {
	case password == "":
		return "", errors.New("the password is empty")
	case len(password) > 72:
		return "", errors.New("the password is longer than 72 bytes, which is all that bcrypt looks at")
	case !isText(password):
		// RFC 7617, Section 2: no client could send it.
		return "", errors.New("the password has a control character in it, or is not UTF-8")
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), passwordCost)
	return string(hash), err
}

// WithLine returns the text of a file of passwords in which the user's line
// has the hash: the one that is there, or a new one at the end.
func WithLine(text, user, hash string) (string, error) {
	if bad := checkName(user); bad != nil {
		return "", errors.New(bad.message)
	}
	if user[0] == '#' {
		return "", errors.New("a name that begins with # would be read as a comment")
	}
	var b strings.Builder
	found := false
	for line := range strings.Lines(text) {
		if name, _, _ := strings.Cut(strings.TrimSpace(line), ":"); name == user {
			if found {
				continue
			}
			line, found = user+":"+hash+"\n", true
		}
		b.WriteString(line)
		if !strings.HasSuffix(line, "\n") {
			b.WriteByte('\n')
		}
	}
	if !found {
		b.WriteString(user + ":" + hash + "\n")
	}
	return b.String(), nil
}
