// Package xconnect switches on what HTTP/2 servers of this process know of
// RFC 8441: golang.org/x/net/http2 reads the switch from the environment when
// it starts, has no other, and offers WebSockets to nobody without it.
//
// It imports little, so that it starts before that: packages start in the
// order of their paths, each as soon as what it imports has (the Go
// specification, "Package initialization").
package xconnect

import "os"

func init() {
	setting := "http2xconnect=1"
	if had := os.Getenv("GODEBUG"); had != "" {
		setting = had + "," + setting
	}
	_ = os.Setenv("GODEBUG", setting) // fails for names that are malformed alone
}
