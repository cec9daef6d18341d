// Package fwdproxy embeds the default policy; go:embed cannot look upwards
// from the command.
package fwdproxy

import _ "embed"

// DefaultPolicy is the text of policy.toml.
//
//go:embed policy.toml
var DefaultPolicy string
