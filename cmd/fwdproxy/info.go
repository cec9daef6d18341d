package main

import (
	"time"

	"fwdproxy/acl"
)

// processInfo is what /api/info tells of the running process.
type processInfo struct {
	Version   string         `json:"version"`
	Mode      string         `json:"mode"`
	Listening []string       `json:"listening"`
	Policy    string         `json:"policy"`
	Digest    string         `json:"policy_sha256"`
	Loaded    time.Time      `json:"policy_loaded"`
	Default   string         `json:"default"`
	Rules     []acl.RuleInfo `json:"rules"`
	Lists     []acl.ListInfo `json:"lists"`
	Disk      *diskInfo      `json:"disk,omitempty"`
	Draining  bool           `json:"draining"`
}

func (s *server) info() any {
	l := s.current.Load()
	info := processInfo{
		Version: versionString(), Mode: s.mode,
		Policy: l.policy.Source(), Digest: l.policy.Digest, Loaded: l.loaded,
		Default: l.policy.ACL.Default().String(), Rules: l.policy.ACL.Rules(), Lists: l.policy.ACL.Lists(),
		Disk:     s.tiers.info(),
		Draining: s.readiness() != nil,
	}
	for _, a := range s.doors.addrs() {
		info.Listening = append(info.Listening, a.String())
	}
	return info
}
