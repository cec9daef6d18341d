package upstream

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"sync"
)

// stickyKey makes the values of sticky cookies, from which nobody learns an
// address.
type stickyKey []byte

// minStickyKey is the least secret, in bytes.
const minStickyKey = 32

// ownStickyKey lasts as long as the process: over reloads.
var ownStickyKey = sync.OnceValue(func() stickyKey {
	key := make([]byte, minStickyKey)
	_, _ = rand.Read(key) // never fails
	return key
})

// newStickyKey reads the key from the file; "" is the process's own.
func newStickyKey(file string) (stickyKey, error) {
	if file == "" {
		return ownStickyKey(), nil
	}
	key, err := os.ReadFile(file)
	if err == nil && len(strings.TrimSpace(string(key))) < minStickyKey {
		err = fmt.Errorf("%s holds less than %d bytes", file, minStickyKey)
	}
	if err != nil {
		return nil, fmt.Errorf("sticky_key_file: %w", err)
	}
	return key, nil
}

func (k stickyKey) token(pool, peer string) string {
	m := hmac.New(sha256.New, k)
	m.Write([]byte(pool + "\x00" + peer))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil)[:16])
}

// StickyCookie returns the name of the pool's sticky cookie, "" for none.
func (t *Transport) StickyCookie(pool string) string {
	if p := t.pools[pool]; p != nil {
		return p.cfg.StickyCookie
	}
	return ""
}

// StickyValue returns what the cookie says of the peer with that name in the
// log, "app/127.0.0.1:9000"; "" where the pool has no such peer.
func (t *Transport) StickyValue(pool, answered string) string {
	if p := t.pools[pool]; p != nil {
		for _, peer := range p.peers() {
			if pool+"/"+peer.name == answered {
				return peer.token
			}
		}
	}
	return ""
}
